import { destination as sonicBoom, pino, stdSerializers } from 'pino';
import type { DestinationStream, Logger } from 'pino';
import { prettyFactory } from 'pino-pretty';
import type { Config } from '../config/schema.ts';
import { REDACTED } from '../config/redact.ts';

export interface LogOptions {
  readonly level: Config['log']['level'];
  /** Resolved: `auto` was decided by who looks at the output. */
  readonly format: 'json' | 'pretty';
  readonly nodeId: string;
  /** Where lines go; standard output when not given. */
  readonly destination?: DestinationStream | undefined;
}

/** Bytes of log lines that may wait for a slow reader of standard output; more are dropped. */
const WAITING_BYTES_MAX = 4_194_304;

/** Characters of a text from a client that are logged. */
const TEXT_LENGTH_MAX = 256;

/** Keys under which text from clients is logged. */
const CLIENT_TEXT_KEYS = ['clientId', 'username', 'topic', 'filter', 'remoteAddress'] as const;

/** Keys that are never logged, whatever the object. */
const SECRET_KEYS = ['password', 'passwd', 'secret', 'token', 'payload', 'authenticationData'];

/**
 * The log of a node: one line per event, `event` is its stable name, `nodeId` in every line.
 *
 * JSON lines escape control characters; text from clients is cut to 256 characters; secrets and payloads are
 * replaced, up to four levels deep. Standard output is written without blocking; what a stuck reader does not
 * take is dropped beyond 4 MiB. `flush` writes what is left, for the end of the process.
 */
export function createLogger({ level, format, nodeId, destination }: LogOptions): {
  readonly logger: Logger;
  readonly flush: () => void;
} {
  const output = destination === undefined ? standardOutput() : undefined;
  const raw: DestinationStream = destination ?? output!;
  const logger = pino(
    {
      level,
      base: { nodeId },
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      redact: { paths: secretPaths(), censor: REDACTED },
      serializers: {
        err: stdSerializers.err,
        error: stdSerializers.err,
        ...Object.fromEntries(CLIENT_TEXT_KEYS.map((key) => [key, clientText])),
      },
    },
    format === 'pretty' ? pretty(raw, destination === undefined) : raw,
  );
  return {
    logger,
    flush() {
      try {
        output?.flushSync();
      } catch {
        // Nobody reads any more; there is no one left to tell.
      }
    },
  };
}

/**
 * Text from a client as it may be logged: cut, and without the control characters that JSON lets through
 * (U+007F to U+009F and the line separators).
 */
export function clientText(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  const cut = value.length > TEXT_LENGTH_MAX ? `${value.slice(0, TEXT_LENGTH_MAX)}…` : value;
  return cut.replace(
    /[\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}

/** Attempts, a tenth of a second apart, to write the last lines to a reader that takes nothing. */
const LAST_ATTEMPTS_MAX = 10;

function standardOutput() {
  let attemptsLeft = Infinity;
  const output = sonicBoom({
    dest: 1,
    sync: false,
    maxLength: WAITING_BYTES_MAX,
    retryEAGAIN: () => attemptsLeft-- > 0,
  });
  // The reader went away; the broker does not go with it.
  output.on('error', () => undefined);
  return {
    write: (line: string) => output.write(line),
    flushSync: () => {
      attemptsLeft = LAST_ATTEMPTS_MAX;
      try {
        output.flushSync();
      } finally {
        // Otherwise pino tries once more when the process exits, and throws there.
        output.destroy();
      }
    },
  };
}

/** Line by line and without a stream between: a line is out, or dropped, when the log call returns. */
function pretty(raw: DestinationStream, colorize: boolean): DestinationStream {
  const prettify = prettyFactory({
    colorize,
    singleLine: true,
    ignore: 'pid,hostname,nodeId,event',
    translateTime: 'SYS:HH:MM:ss.l',
  });
  return {
    write(line) {
      raw.write(prettify(line));
    },
  };
}

function secretPaths(): string[] {
  const prefixes = ['', '*.', '*.*.', '*.*.*.', '*.*.*.*.'];
  return prefixes.flatMap((prefix) => SECRET_KEYS.map((key) => `${prefix}${key}`));
}
