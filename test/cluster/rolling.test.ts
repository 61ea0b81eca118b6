import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import {
  Device,
  History,
  SeededRandom,
  ShoalCluster,
  checkHistory,
  hasHaproxy,
  hasRedisServer,
  messagePayload,
  pollUntil,
  violationSummary,
} from '@shoalmq/testkit';

const SEED = Number(process.env['ROLLING_SEED'] ?? Math.floor(Math.random() * 1e9));

/** Messages per second, all publishers together. */
const RATE = 400;
/** Sent away per second, all nodes together. */
const DRAIN_RATE = 40;
const WILL_GRACE_SECONDS = 12;
const QUIET_MS = 3_000;

const withEverything = hasRedisServer() && hasHaproxy() ? test : test.skip;

const DRAIN = {
  // HAProxy looks every second.
  balancerDelaySeconds: 3,
  connectionsPerSecond: DRAIN_RATE,
  willGraceSeconds: WILL_GRACE_SECONDS,
};
const ARGS = Object.entries(DRAIN).flatMap(([name, value]) => ['--set', `drain.${name}=${value}`]);

withEverything(
  'P8: a rollout, new nodes first, then all old ones drain together: nothing lost, paced, one reconnect per client, no will',
  () =>
    underLoad({ nodes: 3, spareNodes: 3 }, async (cluster, fleet) => {
      for (const id of ['n4', 'n5', 'n6']) await cluster.add(id);
      expect(fleet.reconnects()).toEqual([]);
      await fleet.drain(cluster, ['n1', 'n2', 'n3']);
      await fleet.allOnline();
      expect(fleet.reconnects().every((count) => count === 1)).toBe(true);
      expect(fleet.reconnects()).toHaveLength(fleet.clients);
      expect(fleet.reconnectsInOneSecond()).toBeLessThanOrEqual(1.5 * DRAIN_RATE);
    }),
  180_000,
);

withEverything(
  'P8: 3 -> 5 -> 2 nodes: nothing lost, paced, at most one reconnect per client, no will',
  () =>
    underLoad({ nodes: 3, spareNodes: 2 }, async (cluster, fleet) => {
      await Promise.all(['n4', 'n5'].map((id) => cluster.add(id)));
      await delay(2_000);
      expect(fleet.reconnects()).toEqual([]);
      await fleet.drain(cluster, ['n1', 'n3', 'n4']);
      await fleet.allOnline();
      expect(Math.max(...fleet.reconnects())).toBe(1);
      expect(fleet.reconnectsInOneSecond()).toBeLessThanOrEqual(1.5 * DRAIN_RATE);
    }),
  180_000,
);

withEverything(
  'P8: all nodes restarted in their place, one after the other: nothing lost, paced, at most one reconnect per client and node, no will',
  () =>
    underLoad({ nodes: 3, spareNodes: 0 }, async (cluster, fleet) => {
      for (const id of ['n1', 'n2', 'n3']) {
        await fleet.drain(cluster, [id]);
        await cluster.restart(id);
        // Until the balancer knows.
        await delay(2_000);
      }
      await fleet.allOnline();
      expect(Math.max(...fleet.reconnects())).toBeLessThanOrEqual(3);
      expect(fleet.reconnectsInOneSecond()).toBeLessThanOrEqual(1.5 * DRAIN_RATE);
    }),
  180_000,
);

/** Starts a cluster and clients, does something to it while they publish, and looks at what they saw. */
async function underLoad(
  nodes: { readonly nodes: number; readonly spareNodes: number },
  act: (cluster: ShoalCluster, fleet: Fleet) => Promise<void>,
): Promise<void> {
  await using cluster = await ShoalCluster.start({ ...nodes, balancer: true, args: ARGS });
  using fleet = new Fleet(() => cluster.port, new SeededRandom(SEED));
  await fleet.start();
  const load = new AbortController();
  const loading = fleet.load(load.signal);
  try {
    await delay(1_000);
    await act(cluster, fleet);
    await delay(1_000);
  } finally {
    load.abort();
    await loading;
  }
  await fleet.quiescence();
  const violations = checkHistory(fleet.history);
  if (violations.length > 0) throw new Error(`seed ${SEED}: ${violationSummary(violations)}`);
  const mismatches = cluster.running
    .flatMap((id) => cluster.node(id).lines)
    .filter((line) => line.includes('"cluster.mismatch"'));
  expect(mismatches).toEqual([]);
  // Longer than wills wait; and then one that is due, which shows that they would have come.
  await delay(WILL_GRACE_SECONDS * 1_000);
  const warnings = warningsOf(cluster, nodes.nodes + nodes.spareNodes);
  expect({ wills: fleet.wills(), why: fleet.whyWills(), warnings }).toMatchObject({ wills: [] });
  const gone = fleet.loseOne();
  await pollUntil('the will of the client that is gone', () => fleet.wills().length > 0);
  expect(fleet.wills()).toEqual([`wills/${gone}`]);
  await fleet.end();
}

/** What `count` nodes had to say, for people who wonder. */
function warningsOf(cluster: ShoalCluster, count: number): string[] {
  return Array.from({ length: count }, (_, i) => cluster.node(`n${i + 1}`).lines)
    .flat()
    .filter((line) => /"level":"(warn|error|fatal)"/.test(line));
}

/** Publishers at QoS 1 and 2 with exact, wildcard and shared subscribers, persistent and clean, all with a will. */
class Fleet implements Disposable {
  readonly history = new History();
  readonly #wills = new History();
  readonly #watcher: Device;
  readonly #publishers: { readonly device: Device; readonly topic: string }[] = [];
  readonly #subscribers: {
    readonly device: Device;
    readonly filter: string;
    readonly qos: 1 | 2;
  }[] = [];
  readonly #random: SeededRandom;

  constructor(port: () => number, random: SeededRandom) {
    this.#random = random;
    let count = 0;
    const device = (kind: string, clean: boolean): Device => {
      count += 1;
      const clientId = `${clean ? 'clean-' : ''}${kind}-${count}`;
      return new Device({
        ...{ clientId, history: this.history, port, clean },
        level: count % 3 === 0 ? 4 : 5,
        reconnectDelayMs: 50 + random.integer(500),
        will: { ...willOf(clientId), qos: 1 },
      });
    };
    for (let i = 0; i < 40; i++) {
      this.#publishers.push({ device: device('publisher', i % 8 === 7), topic: topicOf(i) });
    }
    const subscriber = (kind: string, filter: string, clean: boolean) => {
      const qos = count % 2 === 0 ? 1 : 2;
      this.#subscribers.push({ device: device(kind, clean), filter, qos });
    };
    for (let i = 0; i < 40; i++) subscriber('exact', topicOf(i), i % 4 === 3);
    for (let i = 0; i < 10; i++) subscriber('plus', `t/+/${i}`, i % 4 === 3);
    for (let i = 0; i < 20; i++) subscriber('shared', `$share/g${i % 2}/t/${i % 2}/#`, false);
    this.#watcher = new Device({ clientId: 'watcher', history: this.#wills, port });
  }

  get clients(): number {
    return this.#devices.length;
  }

  async start(): Promise<void> {
    await this.#watcher.start();
    await this.#watcher.subscribe('wills/#', 1);
    await Promise.all([
      ...this.#publishers.map(({ device }) => device.start()),
      ...this.#subscribers.map(async ({ device, filter, qos }) => {
        await device.start();
        await device.subscribe(filter, qos);
      }),
    ]);
  }

  async load(signal: AbortSignal): Promise<void> {
    const startMs = performance.now();
    let published = 0;
    while (!signal.aborted) {
      const due = ((performance.now() - startMs) * RATE) / 1_000;
      for (; published < due; published++) {
        const { device, topic } = this.#publishers[published % this.#publishers.length]!;
        device.publish(topic, this.#random.integer(2) === 0 ? 1 : 2);
      }
      await delay(10);
    }
  }

  /** SIGTERM to all of them at once. What a client has acknowledged last may come again, on its next connection. */
  async drain(cluster: ShoalCluster, ids: readonly string[]): Promise<void> {
    for (const id of ids) this.history.record({ op: 'fault', phase: 'invoke', client: id });
    const codes = await Promise.all(ids.map((id) => cluster.stop(id)));
    for (const id of ids) this.history.record({ op: 'fault', phase: 'ok', client: id });
    expect(codes).toEqual(ids.map(() => 0));
  }

  async allOnline(): Promise<void> {
    await Promise.all(this.#devices.map((device) => device.online()));
  }

  /** How often each client was connected again; those that were not are left out. */
  reconnects(): number[] {
    const counts = new Map<string, number>();
    for (const { client } of this.#connects()) counts.set(client, (counts.get(client) ?? 0) + 1);
    return [...counts.values()].filter((count) => count > 1).map((count) => count - 1);
  }

  /** The most that were connected again within one second. */
  reconnectsInOneSecond(): number {
    const times = this.#connects()
      .slice(this.clients)
      .map(({ atMs }) => atMs);
    let most = 0;
    for (let from = 0, to = 0; to < times.length; to++) {
      while (times[to]! - times[from]! > 1_000) from++;
      most = Math.max(most, to - from + 1);
    }
    return most;
  }

  /** The topics of the wills that came. */
  wills(): string[] {
    return [...this.#wills]
      .filter(({ op, phase }) => op === 'deliver' && phase === 'ok')
      .map(({ topic }) => topic);
  }

  /** What happened, and when, to clients whose will came: for people who wonder. */
  whyWills(): string[] {
    const clients = this.wills().map((topic) => topic.slice('wills/'.length));
    const ops = ['connect', 'close', 'fault'];
    return [...this.history, ...this.#wills]
      .filter(({ op, client }) => ops.includes(op) || (op === 'deliver' && client === 'watcher'))
      .filter(({ op, client }) => ['fault', 'deliver'].includes(op) || clients.includes(client))
      .map(
        ({ op, phase, client, topic, atMs }) =>
          `${atMs.toFixed()} ${op} ${phase} ${client} ${topic}`,
      );
  }

  /** Resolves when every message is answered and nothing happens any more. */
  async quiescence(): Promise<void> {
    await pollUntil('every message is answered', () =>
      this.#publishers.every(({ device }) => device.unsettled === 0),
    );
    let length = -1;
    let sinceMs = 0;
    await pollUntil('nothing happens any more', () => {
      const nowMs = performance.now();
      if (this.history.length !== length) {
        length = this.history.length;
        sinceMs = nowMs;
      }
      return nowMs - sinceMs > QUIET_MS;
    });
    this.history.record({ op: 'end' });
  }

  /** A client goes without a word. Returns its id. */
  loseOne(): string {
    const { device } = this.#publishers[0]!;
    device.end({ abruptly: true });
    return device.clientId;
  }

  async end(): Promise<void> {
    for (const device of this.#devices) device.end();
    await delay(0);
  }

  [Symbol.dispose](): void {
    for (const device of [...this.#devices, this.#watcher]) device.end({ abruptly: true });
  }

  get #devices(): readonly Device[] {
    return [...this.#publishers, ...this.#subscribers].map(({ device }) => device);
  }

  #connects() {
    return [...this.history].filter(({ op, phase }) => op === 'connect' && phase === 'ok');
  }
}

function topicOf(publisher: number): string {
  return `t/${publisher % 10}/${publisher}`;
}

function willOf(clientId: string): { topic: string; payload: Buffer } {
  return {
    topic: `wills/${clientId}`,
    payload: messagePayload({ publisher: clientId, seq: 1_000_000 }),
  };
}
