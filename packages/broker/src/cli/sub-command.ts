import type { IPublishPacket, MqttClient } from 'mqtt';
import { ClientError, clientError, closeClient, openClient } from './client-connection.ts';
import { SUB_HELP, UsageError, matchesFilter, parseSubOptions } from './client-options.ts';
import type { SubOptions } from './client-options.ts';
import { formatMessage } from './message-format.ts';
import type { Terminal } from './terminal.ts';

/** Exit code after `-W`, as mosquitto_sub has it. */
const TIMED_OUT = 27;
const RECONNECT_MS = 1_000;
const SESSION_TAKEN_OVER = 0x8e;

/** `shoal sub`: resolves with the exit code when it has printed what it was asked for, or something failed. */
export async function subCommand(argv: readonly string[], terminal: Terminal): Promise<number> {
  if (argv.includes('--help')) {
    terminal.stdout.write(SUB_HELP);
    return 0;
  }
  let quiet = argv.includes('--quiet');
  try {
    const options = parseSubOptions(argv);
    quiet = options.quiet;
    const code = await subscribe(options, terminal);
    if (code === TIMED_OUT && !quiet) terminal.stderr.write('shoal sub: timed out\n');
    return code;
  } catch (error) {
    if (error instanceof UsageError) {
      terminal.stderr.write(`shoal sub: ${error.message}; see shoal sub --help\n`);
      return 1;
    }
    if (!(error instanceof ClientError)) throw error;
    if (!quiet) terminal.stderr.write(`shoal sub: ${error.message}\n`);
    return error.exitCode;
  }
}

async function subscribe(options: SubOptions, terminal: Terminal): Promise<number> {
  const ending = new Ending();
  const interrupted = () => {
    ending.finish(0);
  };
  const timer =
    options.timeoutSeconds === undefined
      ? undefined
      : setTimeout(() => {
          ending.finish(TIMED_OUT);
        }, options.timeoutSeconds * 1_000);
  for (const signal of ['SIGINT', 'SIGTERM']) terminal.signals.on(signal, interrupted);
  let client: MqttClient | undefined;
  const prepare = (opening: MqttClient) => {
    client = opening;
    // Not an event: MQTT.js acknowledges, and reads on, when this calls back.
    opening.handleMessage = printer(options, terminal, ending);
  };
  try {
    run(options, terminal, ending, prepare).catch((error: unknown) => {
      ending.fail(error);
    });
    return await ending.code;
  } finally {
    clearTimeout(timer);
    for (const signal of ['SIGINT', 'SIGTERM']) terminal.signals.off(signal, interrupted);
    if (client !== undefined) await closeClient(client, options);
  }
}

/** How the command ends: by the first of whatever may end it. */
class Ending {
  readonly code: Promise<number>;
  finished = false;
  #resolve: (code: number) => void = () => undefined;
  #reject: (error: unknown) => void = () => undefined;

  constructor() {
    this.code = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  finish(code: number): void {
    this.finished = true;
    this.#resolve(code);
  }

  fail(error: unknown): void {
    this.finished = true;
    this.#reject(error);
  }
}

async function run(
  options: SubOptions,
  terminal: Terminal,
  ending: Ending,
  prepare: (client: MqttClient) => void,
): Promise<void> {
  const client = await openClient(
    options,
    { reconnectPeriod: RECONNECT_MS, resubscribe: true },
    prepare,
  );
  client.on('error', (error) => {
    ending.fail(clientError(error));
  });
  client.on('disconnect', ({ reasonCode }) => {
    // Coming back would only take the session from the other one, and so on for ever.
    if (reasonCode !== SESSION_TAKEN_OVER) return;
    ending.fail(new ClientError('another client took over the session', reasonCode));
  });
  const granted = await subscribeAll(client, options);
  const refused = granted.filter((code) => code >= 0x80);
  if (refused.length > 0 && refused.length === granted.length) {
    throw new ClientError('all subscriptions were refused', refused[0]);
  }
  if (refused.length > 0 && !options.quiet) {
    terminal.stderr.write(`shoal sub: ${refused.length} subscriptions were refused\n`);
  }
  if (options.exitAfterSubscribe) ending.finish(0);
}

/** Subscribes to all topics in one packet; resolves with the codes of the SUBACK. */
function subscribeAll(client: MqttClient, options: SubOptions): Promise<readonly number[]> {
  const { topics, qos, protocolVersion, properties } = options;
  const v5 = protocolVersion === 5 ? { properties: properties.of('subscribe') } : {};
  return new Promise((resolve, reject) => {
    client.subscribe([...new Set(topics)], { qos, ...v5 }, (error, _granted, suback) => {
      // A refusal is an error to MQTT.js, but the packet says which.
      if (suback !== undefined) resolve(suback.granted as number[]);
      else reject(clientError(error ?? new Error('no answer to SUBSCRIBE')));
    });
  });
}

/** Prints what passes the options, waits for a slow reader, and counts. */
function printer(
  options: SubOptions,
  { stdout, stderr }: Terminal,
  ending: Ending,
): (packet: IPublishPacket, callback: (error?: Error) => void) => void {
  let printed = 0;
  return (packet, callback) => {
    if (ending.finished || printed === options.count) {
      // Neither printed nor acknowledged: a session that goes on gets it again. MQTT.js reads on.
      callback(new Error('not taken'));
      return;
    }
    if (options.retainedOnly && !packet.retain) {
      callback();
      setImmediate(() => {
        ending.finish(0);
      });
      return;
    }
    const hidden =
      (options.skipRetained && packet.retain) ||
      options.filterOut.some((filter) => matchesFilter(filter, packet.topic));
    if (hidden) {
      callback();
      return;
    }
    const { bytes, problem } = formatMessage(packet, options);
    if (problem !== undefined && !options.quiet) stderr.write(`shoal sub: ${problem}\n`);
    const goOn = bytes.length === 0 || stdout.write(bytes);
    printed += 1;
    const last = printed === options.count;
    const next = () => {
      callback();
      // After the acknowledgement, which MQTT.js sends from the callback.
      if (last) {
        setImmediate(() => {
          ending.finish(0);
        });
      }
    };
    if (goOn) next();
    else stdout.once('drain', next);
  };
}
