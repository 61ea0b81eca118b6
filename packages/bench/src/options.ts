import { parseArgs } from 'node:util';

import { CASES, selectCases } from './cases.ts';
import type { Case } from './cases.ts';
import type { ProtocolLevel } from './wire.ts';

/** What the command line asks for. */
export interface Options {
  readonly cases: readonly Case[];
  readonly brokers: readonly string[];
  readonly payloads: readonly number[];
  readonly seconds: number;
  readonly warmUpSeconds: number;
  readonly runs: number;
  readonly window: number;
  readonly level: ProtocolLevel;
  readonly write: boolean;
  readonly json: boolean;
  readonly pin: boolean;
  readonly mosquittoInflight?: number;
  readonly compare?: string;
  readonly external: readonly ExternalBroker[];
}

/** A broker that already runs, given as NAME=PORT:PID. */
export interface ExternalBroker {
  readonly name: string;
  readonly port: number;
  readonly pid: number;
}

/** The brokers that are measured unless some are named. */
export const BROKERS = ['shoal', 'mosquitto', 'aedes'] as const;

/** What `--help` prints. */
export const USAGE = `npm run bench -- [options]
  --case NAME,...      cases, or their first words: ${CASES.map((each) => each.name).join(', ')}
  --broker NAME,...    of ${BROKERS.join(', ')} (default all)
  --payload BYTES,...  payload sizes (default 64,1024)
  --seconds S          length of the measured phase (default 4)
  --warm-up S          time before it (default 1.5; trickle 8, cluster 10 at least)
  --runs N             repetitions, of which the median is reported (default 3)
  --window N           unsettled messages per publisher (default 1000)
  --protocol 4|5       MQTT 3.1.1 (default) or 5.0
  --mosquitto-inflight N  its max_inflight_messages (default: the window)
  --external NAME=PORT:PID  also measure a broker that already runs; may be repeated
  --compare REF        also build and measure Shoal as of this git commit
  --quick              64 bytes, one run, 2 s measured, 1 s warm-up
  --pin                keep the generator on one core and the brokers off it, in all cases and
                       not only in trickle
  --json               print the medians as JSON too
  --write              write packages/bench/RESULTS.md`;

/**
 * Reads the command line; undefined asks for the usage text.
 *
 * @throws Error that names the option which is wrong.
 */
export function parseOptions(args: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...args],
    options: {
      case: { type: 'string' },
      broker: { type: 'string' },
      payload: { type: 'string' },
      seconds: { type: 'string' },
      'warm-up': { type: 'string' },
      runs: { type: 'string' },
      window: { type: 'string' },
      protocol: { type: 'string' },
      'mosquitto-inflight': { type: 'string' },
      external: { type: 'string', multiple: true },
      compare: { type: 'string' },
      quick: { type: 'boolean' },
      json: { type: 'boolean' },
      pin: { type: 'boolean' },
      write: { type: 'boolean' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help === true) return undefined;
  const quick = values.quick === true;
  const number = (name: string, text: string | undefined, otherwise: number, least: number) =>
    text === undefined ? otherwise : parseNumber(name, text, least);
  const brokers = values.broker?.split(',') ?? [...BROKERS];
  const unknown = brokers.find((name) => !BROKERS.some((known) => known === name));
  if (unknown !== undefined) throw new Error(`--broker: there is no ${unknown}`);
  const level = number('protocol', values.protocol, 4, 4);
  if (level !== 4 && level !== 5) throw new Error('--protocol is 4 or 5');
  const payloads = values.payload?.split(',') ?? (quick ? ['64'] : ['64', '1024']);
  const window = integer('window', number('window', values.window, 1000, 1));
  if (window > 65_535) throw new Error('--window is at most 65535, the number of packet ids');
  return {
    cases: values.case === undefined ? CASES : selectCases(values.case.split(',')),
    brokers,
    payloads: payloads.map((text) => integer('payload', parseNumber('payload', text, 16))),
    seconds: number('seconds', values.seconds, quick ? 2 : 4, 0.1),
    warmUpSeconds: number('warm-up', values['warm-up'], quick ? 1 : 1.5, 0),
    runs: integer('runs', number('runs', values.runs, quick ? 1 : 3, 1)),
    window,
    level,
    write: values.write === true,
    json: values.json === true,
    pin: values.pin === true,
    external: (values.external ?? []).map(parseExternal),
    ...(values['mosquitto-inflight'] === undefined
      ? {}
      : { mosquittoInflight: parseNumber('mosquitto-inflight', values['mosquitto-inflight'], 0) }),
    ...(values.compare === undefined ? {} : { compare: values.compare }),
  };
}

function parseNumber(name: string, text: string, least: number): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value) || value < least) {
    throw new Error(`--${name} is a number of at least ${String(least)}, not "${text}"`);
  }
  return value;
}

function integer(name: string, value: number): number {
  if (!Number.isInteger(value)) throw new Error(`--${name} is a whole number`);
  return value;
}

function parseExternal(text: string): ExternalBroker {
  const match = /^([a-z0-9-]+)=(\d+):(\d+)$/.exec(text);
  const [, name, port, pid] = match ?? [];
  if (name === undefined || port === undefined || pid === undefined) {
    throw new Error(`--external is NAME=PORT:PID, not "${text}"`);
  }
  return { name, port: Number(port), pid: Number(pid) };
}
