import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

import { aedes } from './brokers/aedes.ts';
import type { BrokerDriver, RunningBroker } from './brokers/broker-driver.ts';
import { mosquitto } from './brokers/mosquitto.ts';
import { shoal } from './brokers/shoal.ts';
import { shoalCommit } from './brokers/shoal-commit.ts';
import { CASES, isLoadCase, isPaced } from './cases.ts';
import type { LoadCase } from './cases.ts';
import { pinProcess } from './core-pinning.ts';
import { errorMessage } from './error-message.ts';
import type { Measurement } from './measurement.ts';
import { parseOptions, USAGE } from './options.ts';
import type { ExternalBroker, Options } from './options.ts';
import { matchCostTable, memoryTable, ratioTable, resultTable } from './report.ts';
import { resultRow } from './result-row.ts';
import type { ResultRow } from './result-row.ts';
import { runGenerator } from './run-generator.ts';
import { runSubscriptions } from './subscriptions/run-subscriptions.ts';
import type { SubscriptionFigures } from './subscriptions/subscription-figures.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** A broker that is compiled while it runs sees few messages in a paced case: all get this time at least. */
const PACED_WARM_UP_SECONDS = 8;

const PACED_CASES = new Set(CASES.filter(isPaced).map((each) => each.name));

const RESULT_NOTES = [
  'Medians of the runs; lost, duplicate and out-of-order messages are summed over them. CPU is the',
  "broker's user and system time per delivered message (`/proc`, 10 ms ticks). `gen` is the load",
  'generator itself. `others` is what else ran on the machine meanwhile: figures with much of it are',
  'worth little.',
  '',
  'In the trickle cases the generator spins to keep its schedule. So that p99 is that of the broker and not of',
  'a core which the two share now and then, the generator has a core of its own there, with or without',
  `\`--pin\`. Every broker is warmed up for ${String(PACED_WARM_UP_SECONDS)} s at least: they see 10,000 messages/s,`,
  'a hundredth of what the other cases send, and one of them is compiled while it runs.',
];

const RATIO_NOTES = [
  'Broker CPU per delivered message, relative; where messages come one by one, p99 of their latency too',
  '(with full windows it only says how many messages are on the way).',
];

const SUBSCRIPTION_NOTES = [
  'Subscriptions of 1,000 sessions inside the core, all filters different, 10 % with wildcards: bytes of heap and',
  'array buffers for each one; one of a clean session has no part in the store. Matching: a topic to which ten',
  'filters apply, among others which do not, without the cache of matches that every topic has.',
];

process.once('SIGINT', () => {
  // The processes this one started are killed by its exit handler.
  process.exit(130);
});
process.once('SIGTERM', () => {
  process.exit(143);
});

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  let options: Options | undefined;
  let drivers: readonly BrokerDriver[];
  try {
    options = parseOptions(args);
    drivers = options?.cases.some(isLoadCase) === true ? selectDrivers(options) : [];
  } catch (error) {
    process.stderr.write(`${errorMessage(error)}\n`);
    return 2;
  }
  if (options === undefined) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  const loads = options.cases.filter(isLoadCase);
  if (loads.length > 0 && drivers.length === 0) return 1;
  const rows = await measureAll(options, loads, drivers);
  const figures: SubscriptionFigures[] = [];
  for (const each of options.cases) {
    if (each.kind === 'subscriptions') figures.push(await runSubscriptions(each));
  }
  const text = await describe(args, drivers, { rows, figures });
  process.stdout.write(`\n${text}`);
  if (options.json) process.stdout.write(`\n${JSON.stringify(rows, undefined, 2)}\n`);
  if (options.write) {
    await writeFile(new URL('../RESULTS.md', import.meta.url), `# Benchmark results\n\n${text}`);
  }
  return rows.some((row) => row.measurement === undefined) ? 1 : 0;
}

/** The brokers that were asked for and can be started; says which cannot. */
function selectDrivers(options: Options): BrokerDriver[] {
  const drivers = options.brokers.map((name) => {
    if (name === 'mosquitto') {
      return mosquitto({ inflight: options.mosquittoInflight ?? options.window });
    }
    return name === 'aedes' ? aedes() : shoal({ name: 'shoal', root });
  });
  if (options.compare !== undefined) drivers.push(shoalCommit(root, options.compare));
  drivers.push(...options.external.map(alreadyRunning));
  return drivers.filter((driver) => {
    const reason = driver.missing();
    if (reason !== undefined) process.stderr.write(`${driver.name} is left out: ${reason}\n`);
    return reason === undefined;
  });
}

function alreadyRunning({ name, port, pid }: ExternalBroker): BrokerDriver {
  return {
    name,
    missing: () => undefined,
    version: () => Promise.resolve('already running'),
    start: () => Promise.resolve({ port, pid, stop: () => Promise.resolve() }),
  };
}

/** All cells of the table; within a cell's repetitions the brokers take turns, so noise hits all. */
async function measureAll(
  options: Options,
  cases: readonly LoadCase[],
  drivers: readonly BrokerDriver[],
): Promise<ResultRow[]> {
  const rows: ResultRow[] = [];
  for (const each of cases) {
    // An idle connection has no payload.
    const payloads = each.kind === 'idle' ? options.payloads.slice(0, 1) : options.payloads;
    for (const payloadBytes of payloads) {
      const results = drivers.map((driver) => ({
        driver,
        measurements: [] as Measurement[],
        failures: [] as string[],
      }));
      for (let run = 1; run <= options.runs; run += 1) {
        for (const { driver, measurements, failures } of results) {
          const label = `${each.name} ${String(payloadBytes)} B, ${driver.name}, run ${String(run)}`;
          try {
            const measurement = await measure(driver, each, payloadBytes, options);
            measurements.push(measurement);
            process.stderr.write(`${label}: ${brief(measurement)}\n`);
          } catch (error) {
            const reason = errorMessage(error);
            failures.push(reason);
            process.stderr.write(`${label}: FAILED: ${reason}\n`);
          }
        }
      }
      for (const { driver, measurements, failures } of results) {
        const caseName = each.name;
        rows.push(
          resultRow({ caseName, payloadBytes, broker: driver.name, measurements, failures }),
        );
      }
    }
  }
  return rows;
}

async function measure(
  driver: BrokerDriver,
  each: LoadCase,
  payloadBytes: number,
  options: Options,
): Promise<Measurement> {
  let broker: RunningBroker | undefined;
  const paced = isPaced(each);
  const pin = options.pin || paced;
  const warmUpSeconds = paced
    ? Math.max(options.warmUpSeconds, PACED_WARM_UP_SECONDS)
    : options.warmUpSeconds;
  try {
    broker = await driver.start();
    if (pin) await pinProcess(broker.pid, 'broker');
    return await runGenerator({
      caseName: each.name,
      port: broker.port,
      pid: broker.pid,
      payloadBytes,
      level: options.level,
      window: options.window,
      warmUpMs: warmUpSeconds * 1000,
      measureMs: options.seconds * 1000,
      pin,
    });
  } finally {
    await broker?.stop();
  }
}

function brief(measurement: Measurement): string {
  const { deliveredPerSecond, brokerCpuUs, generatorCpuUs, figures } = measurement;
  const parts = Number.isNaN(deliveredPerSecond)
    ? []
    : [
        `${deliveredPerSecond.toFixed(0)} msg/s`,
        `${brokerCpuUs.toFixed(3)} us/msg`,
        `generator ${generatorCpuUs.toFixed(3)} us/msg`,
      ];
  for (const [name, value] of Object.entries(figures)) parts.push(`${name} ${value.toFixed(1)}`);
  return parts.join(', ');
}

async function describe(
  args: readonly string[],
  drivers: readonly BrokerDriver[],
  results: {
    readonly rows: readonly ResultRow[];
    readonly figures: readonly SubscriptionFigures[];
  },
): Promise<string> {
  const { rows, figures } = results;
  const versions = await Promise.all(
    (drivers.length > 0 ? drivers : [shoal({ name: 'shoal', root })]).map(
      async (driver) => `${driver.name} ${await driver.version()}`,
    ),
  );
  const processors = cpus();
  const lines = [
    `- date: ${new Date().toISOString().slice(0, 10)}`,
    `- command: \`${['npm run bench --', ...args].join(' ')}\``,
    `- versions: ${[`Node.js ${process.version}`, ...versions].join(', ')}`,
    `- machine: ${String(processors.length)} cores, ${processors[0]?.model ?? 'unknown CPU'}; ` +
      'brokers and generator are processes on it, connected over loopback',
  ];
  if (rows.length > 0) lines.push('', ...RESULT_NOTES, '', resultTable(rows));
  const ratios = ratioTable(rows, PACED_CASES);
  if (ratios !== '') lines.push('', ...RATIO_NOTES, '', ratios);
  if (figures.length > 0) {
    lines.push('', ...SUBSCRIPTION_NOTES, '', memoryTable(figures), '', matchCostTable(figures));
  }
  return `${lines.join('\n')}\n`;
}
