import { writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { fileURLToPath } from 'node:url';

import { aedes, aedesRedis } from './brokers/aedes.ts';
import { IN_MEMORY } from './brokers/broker-driver.ts';
import type { BrokerDriver, RunningBroker } from './brokers/broker-driver.ts';
import { mosquitto } from './brokers/mosquitto.ts';
import { shoal, shoalCluster } from './brokers/shoal.ts';
import { shoalCommit } from './brokers/shoal-commit.ts';
import { CASES, isLoadCase, isPaced } from './cases.ts';
import type { LoadCase } from './cases.ts';
import { pinProcess } from './core-pinning.ts';
import { measureEmptyNode, measureJoin } from './join.ts';
import { errorMessage } from './error-message.ts';
import type { Measurement } from './measurement.ts';
import { parseOptions, USAGE } from './options.ts';
import type { ExternalBroker, Options } from './options.ts';
import {
  clusterTable,
  goalTable,
  matchCostTable,
  memoryTable,
  ratioTable,
  resultTable,
} from './report.ts';
import { resultRow } from './result-row.ts';
import type { ResultRow } from './result-row.ts';
import { runGenerator } from './run-generator.ts';
import type { Setup } from './setups.ts';
import { runSubscriptions } from './subscriptions/run-subscriptions.ts';
import type { SubscriptionFigures } from './subscriptions/subscription-figures.ts';

const root = fileURLToPath(new URL('../../..', import.meta.url));

/** A broker that is compiled while it runs sees few messages in a paced case: all get this time at least. */
const PACED_WARM_UP_SECONDS = 8;
/** Several nodes share the messages and the cores: with 5 s the third one still ran code that was not optimized. */
const CLUSTER_WARM_UP_SECONDS = 10;

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

const CLUSTER_CASES = new Set(
  CASES.filter((each) => isLoadCase(each) && each.setups !== undefined).map((each) => each.name),
);

const CLUSTER_NOTES = [
  'Clusters, and what they are compared with, on the same machine. CPU is that of all nodes together, Redis has',
  'a column of its own. `durability` says what has to survive for an acknowledged message to be kept: here the',
  'primary, a Redis without replicas which does not write to disk. cluster-pair: publishers on one node, subscribers',
  'on another. cluster-spread: every message crosses one of the links, with two nodes and with three.',
  `Every broker is warmed up for ${String(CLUSTER_WARM_UP_SECONDS)} s at least.`,
  'linkBytes: what the kernel received on the links between nodes for each message, heartbeats included.',
  'cluster-bystander: a third node has subscriptions of which none matches; bystanderBytes is what came to it for',
  'each message, bystanderMessages and subscriberMessages what nodes count themselves (/metrics), in all.',
  'cluster-persistent: the subscribers have persistent sessions. cluster-offline: msg/s and CPU of appending, then of',
  'the return. cluster-connects: one CONNECT and SUBSCRIBE, then one CONNECT to a session that exists.',
  'cluster-failover: from a kill on, per client; p50 and p99 from connecting to CONNACK; until after the burial,',
  'routeChanges is what the other node counts (/metrics), routesLogged the entries in the logs in Redis.',
  'cluster-join: bytes in use after a collection, without those of a node that joins an empty cluster.',
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
  let cells: readonly Cell[];
  try {
    options = parseOptions(args);
    cells = options === undefined ? [] : selectCells(options);
  } catch (error) {
    process.stderr.write(`${errorMessage(error)}\n`);
    return 2;
  }
  if (options === undefined) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  if (options.cases.some(isLoadCase) && cells.length === 0) return 1;
  const rows = await measureAll(options, cells);
  const figures: SubscriptionFigures[] = [];
  for (const each of options.cases) {
    if (each.kind === 'subscriptions') figures.push(await runSubscriptions(each));
  }
  const drivers = [...new Set(cells.flatMap((cell) => cell.drivers))];
  const text = await describe(args, drivers, { rows, figures });
  process.stdout.write(`\n${text}`);
  if (options.json) process.stdout.write(`\n${JSON.stringify(rows, undefined, 2)}\n`);
  if (options.write) {
    await writeFile(new URL('../RESULTS.md', import.meta.url), `# Benchmark results\n\n${text}`);
  }
  return rows.some((row) => row.measurement === undefined) ? 1 : 0;
}

/** A case and the brokers on which it is measured. */
interface Cell {
  readonly each: LoadCase;
  readonly drivers: readonly BrokerDriver[];
}

/** The cases that were asked for, with the brokers that were asked for and can be started; says which cannot. */
function selectCells(options: Options): Cell[] {
  const loads = options.cases.filter(isLoadCase);
  const single = loads.some(({ setups }) => setups === undefined)
    ? startable(selectDrivers(options))
    : [];
  const setups = new Set(loads.flatMap((each) => each.setups ?? []));
  const bySetup = new Map<Setup, BrokerDriver>();
  for (const setup of setups) {
    if (!options.brokers.includes(setup.broker)) continue;
    const [driver] = startable([driverOf(setup)]);
    if (driver !== undefined) bySetup.set(setup, driver);
  }
  return loads
    .map((each) => ({
      each,
      drivers: each.setups?.flatMap((setup) => bySetup.get(setup) ?? []) ?? single,
    }))
    .filter(({ drivers }) => drivers.length > 0);
}

function driverOf({ name, broker, nodes, redis }: Setup): BrokerDriver {
  if (broker === 'aedes') return aedesRedis({ name, nodes });
  return redis ? shoalCluster({ name, root, nodes }) : shoal({ name, root });
}

function selectDrivers(options: Options): BrokerDriver[] {
  const drivers = options.brokers.map((name) => {
    if (name === 'mosquitto') {
      return mosquitto({ inflight: options.mosquittoInflight ?? options.window });
    }
    return name === 'aedes' ? aedes() : shoal({ name: 'shoal', root });
  });
  if (options.compare !== undefined) drivers.push(shoalCommit(root, options.compare));
  drivers.push(...options.external.map(alreadyRunning));
  return drivers;
}

function startable(drivers: readonly BrokerDriver[]): BrokerDriver[] {
  return drivers.filter((driver) => {
    const reason = driver.missing();
    if (reason !== undefined) process.stderr.write(`${driver.name} is left out: ${reason}\n`);
    return reason === undefined;
  });
}

function hasPayload(each: LoadCase): boolean {
  return ['flow', 'retained', 'offline'].includes(each.kind);
}

function alreadyRunning({ name, port, pid }: ExternalBroker): BrokerDriver {
  return {
    name,
    durability: IN_MEMORY,
    missing: () => undefined,
    version: () => Promise.resolve('already running'),
    start: () => Promise.resolve({ nodes: [{ port, pid }], stop: () => Promise.resolve() }),
  };
}

/** All cells of the table; within a cell's repetitions the brokers take turns, so noise hits all. */
async function measureAll(options: Options, cells: readonly Cell[]): Promise<ResultRow[]> {
  const rows: ResultRow[] = [];
  for (const { each, drivers } of cells) {
    const payloads = hasPayload(each) ? options.payloads : options.payloads.slice(0, 1);
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
        const { name: broker, durability } = driver;
        rows.push(
          resultRow({ caseName, payloadBytes, broker, durability, measurements, failures }),
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
  const pin = options.pin || isPaced(each);
  const warmUpSeconds = Math.max(options.warmUpSeconds, warmUpSecondsMin(each));
  try {
    broker = await driver.start();
    const { nodes, redis } = broker;
    if (pin) {
      for (const { pid } of [...nodes, ...(redis === undefined ? [] : [redis])]) {
        await pinProcess(pid, 'broker');
      }
    }
    const emptyBytes = each.kind === 'join' ? await measureEmptyNode(broker) : 0;
    const measurement = await runGenerator({
      caseName: each.name,
      nodes,
      ...(redis === undefined ? {} : { redis }),
      payloadBytes,
      level: options.level,
      window: options.window,
      warmUpMs: warmUpSeconds * 1000,
      measureMs: options.seconds * 1000,
      pin,
    });
    if (each.kind !== 'join') return measurement;
    return await measureJoin(broker, { routes: each.routes, emptyBytes, measurement });
  } finally {
    await broker?.stop();
  }
}

function warmUpSecondsMin(each: LoadCase): number {
  if (isPaced(each)) return PACED_WARM_UP_SECONDS;
  return each.setups === undefined ? 0 : CLUSTER_WARM_UP_SECONDS;
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
  // Setups of one broker have one version: the first name stands for them.
  const names = versions.map((text) => text.slice(text.indexOf(' ')));
  const different = versions.filter((_, index) => names.indexOf(names[index] ?? '') === index);
  const processors = cpus();
  const lines = [
    `- date: ${new Date().toISOString().slice(0, 10)}`,
    `- command: \`${['npm run bench --', ...args].join(' ')}\``,
    `- versions: ${[`Node.js ${process.version}`, ...different].join(', ')}`,
    `- machine: ${String(processors.length)} cores, ${processors[0]?.model ?? 'unknown CPU'}; ` +
      'brokers and generator are processes on it, connected over loopback',
  ];
  const single = rows.filter((row) => !CLUSTER_CASES.has(row.caseName));
  const cluster = rows.filter((row) => CLUSTER_CASES.has(row.caseName));
  if (single.length > 0) lines.push('', ...RESULT_NOTES, '', resultTable(single));
  const ratios = ratioTable(single, PACED_CASES);
  if (ratios !== '') lines.push('', ...RATIO_NOTES, '', ratios);
  if (cluster.length > 0) lines.push('', ...CLUSTER_NOTES, '', clusterTable(cluster));
  const goals = goalTable(cluster);
  if (goals !== '') lines.push('', goals);
  if (figures.length > 0) {
    lines.push('', ...SUBSCRIPTION_NOTES, '', memoryTable(figures), '', matchCostTable(figures));
  }
  return `${lines.join('\n')}\n`;
}
