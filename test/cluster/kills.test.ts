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
  pollUntil,
  violationSummary,
} from '@shoalmq/testkit';
import type { HistoryRecord } from '@shoalmq/testkit';
import { ForeignDevice } from './foreign-device.ts';

const SECONDS = Number(process.env['KILLS_SECONDS'] ?? 300);
const RATE = Number(process.env['KILLS_RATE'] ?? 2_000);
const SEED = Number(process.env['KILLS_SEED'] ?? Math.floor(Math.random() * 1e9));

const KILL_EVERY_MS = 10_000;
/**
 * Longer than HAProxy takes to notice: a node that is back between its first and its second failed check is taken for
 * down all the same, and clients that have just come to it are cut.
 */
const DOWN_MS = 4_000;
/** As long as this nothing has happened when everything is over: longer than a lease and its grace. */
const QUIET_MS = 8_000;

const withEverything = hasRedisServer() && hasHaproxy() ? test : test.skip;

withEverything(
  'P1 P2 P3 P7: nodes are killed under load: nothing acknowledged is lost, QoS 2 is exactly once, order holds, one reconnect',
  async () => {
    const random = new SeededRandom(SEED);
    await using cluster = await ShoalCluster.start({ nodes: 3, balancer: true });
    await using fleet = new Fleet(cluster, random);
    await fleet.start();

    const load = fleet.load(SECONDS * 1_000);
    const kills = await killInTurns(cluster, fleet.history, random);
    await load;
    await fleet.quiescence();

    const records = [...fleet.history];
    const violations = checkHistory(fleet.history);
    const outages = outagesOf(records);
    console.log(report(fleet, kills, records, outages));
    if (violations.length > 0) {
      throw new Error(`seed ${SEED}: ${violationSummary(violations)}`);
    }
    // P7: whoever lost a node is served by another one, at the first attempt, unless that one was killed meanwhile.
    expect(outages.filter(({ attempts, kills }) => attempts > 1 + kills)).toEqual([]);
    expect(outages.length).toBeGreaterThan(kills);
  },
  SECONDS * 1_000 + 180_000,
);

/**
 * Kills a random node every ten seconds and starts it again. Returns how often. Never one twice in a row: it has no
 * clients yet.
 */
async function killInTurns(
  cluster: ShoalCluster,
  history: History,
  random: SeededRandom,
): Promise<number> {
  const endsAtMs = performance.now() + SECONDS * 1_000;
  let kills = 0;
  let last = '';
  for (;;) {
    const nextAtMs = performance.now() + KILL_EVERY_MS;
    // The last one has to be back before the load ends.
    if (nextAtMs > endsAtMs) return kills;
    const ids = cluster.running.filter((running) => running !== last);
    const id = ids[random.integer(ids.length)]!;
    last = id;
    history.record({ op: 'fault', phase: 'invoke', client: id });
    await cluster.kill(id);
    kills += 1;
    await delay(DOWN_MS);
    await cluster.restart(id);
    history.record({ op: 'fault', phase: 'ok', client: id });
    await delay(nextAtMs - performance.now());
  }
}

/**
 * 300 clients. A hundred publishers on topics `t/0/0` to `t/9/99`; sixty exact, forty-three wildcard and ninety shared
 * subscriptions, most of persistent sessions, some of clean ones; seven clients of MQTT.js.
 */
class Fleet implements AsyncDisposable {
  readonly history = new History();
  readonly #publishers: { device: Device; topic: string }[] = [];
  readonly #subscribers: { device: Device; filter: string; qos: 1 | 2 }[] = [];
  readonly #foreignPublishers: { device: ForeignDevice; topic: string }[] = [];
  readonly #foreignSubscribers: { device: ForeignDevice; filter: string; qos: 1 | 2 }[] = [];
  readonly #random: SeededRandom;

  constructor(cluster: ShoalCluster, random: SeededRandom) {
    this.#random = random;
    const { history } = this;
    const port = () => cluster.port;
    let count = 0;
    const device = (kind: string, clean: boolean) => {
      const clientId = `${clean ? 'clean-' : ''}${kind}-${count++}`;
      const reconnectDelayMs = 100 + random.integer(900);
      const level = count % 3 === 0 ? 4 : 5;
      return new Device({ clientId, history, port, clean, level, reconnectDelayMs });
    };
    const subscriber = (kind: string, filter: string, clean: boolean) => {
      const qos = count % 2 === 0 ? 1 : 2;
      this.#subscribers.push({ device: device(kind, clean), filter, qos });
    };
    for (let i = 0; i < 100; i++) {
      this.#publishers.push({ device: device('publisher', i % 10 === 9), topic: topicOf(i) });
    }
    for (let i = 0; i < 60; i++) subscriber('exact', topicOf(i), i % 4 === 3);
    for (let i = 60; i < 100; i++) subscriber('plus', `t/+/${i}`, i % 4 === 3);
    for (let group = 0; group < 3; group++) subscriber('hash', `t/${group}/#`, group === 2);
    for (let i = 0; i < 90; i++) {
      // The members of two of the five groups are persistent and clean, mixed.
      const group = i % 5;
      subscriber('shared', `$share/g${group}/t/${group}/#`, group >= 3 && i % 3 === 0);
    }
    const foreign = (kind: string, index: number) =>
      new ForeignDevice({
        ...{ clientId: `mqttjs-${kind}-${index}`, history, port: cluster.port },
        ...{ version: index % 2 === 0 ? 4 : 5, reconnectDelayMs: 100 + random.integer(900) },
      });
    for (let i = 0; i < 3; i++) {
      this.#foreignPublishers.push({ device: foreign('publisher', i), topic: `t/m/${i}` });
    }
    const filters = ['t/m/0', 't/m/+', 't/+/1', 't/0/10'];
    for (const [i, filter] of filters.entries()) {
      const qos = i % 2 === 0 ? 1 : 2;
      this.#foreignSubscribers.push({ device: foreign('subscriber', i), filter, qos });
    }
  }

  get clients(): number {
    return [
      ...[this.#publishers, this.#subscribers, this.#foreignPublishers, this.#foreignSubscribers],
    ].flat().length;
  }

  async start(): Promise<void> {
    await Promise.all([
      ...this.#publishers.map(({ device }) => device.start()),
      ...this.#subscribers.map(async ({ device, filter, qos }) => {
        await device.start();
        await device.subscribe(filter, qos);
      }),
      ...this.#foreignSubscribers.map(({ device, filter, qos }) => device.subscribe(filter, qos)),
    ]);
  }

  /** Publishes at `RATE` in all, each message at QoS 1 or 2 by chance. */
  async load(ms: number): Promise<void> {
    const all = [...this.#publishers, ...this.#foreignPublishers];
    const startMs = performance.now();
    let published = 0;
    for (;;) {
      const elapsedMs = performance.now() - startMs;
      for (const due = (Math.min(elapsedMs, ms) * RATE) / 1_000; published < due; published++) {
        const { device, topic } = all[published % all.length]!;
        device.publish(topic, this.#random.integer(2) === 0 ? 1 : 2);
      }
      if (elapsedMs > ms) return;
      await delay(10);
    }
  }

  /** Resolves when everything was answered and nothing happens any more. */
  async quiescence(): Promise<void> {
    const publishers = [...this.#publishers, ...this.#foreignPublishers];
    const unsettled = () => publishers.filter(({ device }) => device.unsettled > 0);
    await pollUntil('every message is answered', () => unsettled().length === 0, {
      state: () =>
        unsettled()
          .map(({ device }) => device.clientId)
          .join(),
    });
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

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { device } of [...this.#publishers, ...this.#subscribers]) {
      device.end({ abruptly: true });
    }
    const foreign = [...this.#foreignPublishers, ...this.#foreignSubscribers];
    await Promise.all(foreign.map(({ device }) => device[Symbol.asyncDispose]()));
  }
}

function topicOf(publisher: number): string {
  return `t/${publisher % 10}/${publisher}`;
}

interface Outage {
  readonly client: string;
  readonly attempts: number;
  /** Nodes that were killed before it was over. */
  readonly kills: number;
  /** Without the delay that the client itself waits before its first attempt. */
  readonly ms: number;
}

/** From the end of a connection to the next CONNACK, of our own clients, which record each attempt. */
function outagesOf(records: readonly HistoryRecord[]): Outage[] {
  const outages: Outage[] = [];
  const since = new Map<string, { attempts: number; startMs: number; kills: number }>();
  let kills = 0;
  for (const { op, phase, client, atMs } of records) {
    if (op === 'end') break;
    if (op === 'fault' && phase === 'invoke') kills += 1;
    if (op === 'close') since.set(client, { attempts: 0, startMs: 0, kills });
    const outage = since.get(client);
    if (op !== 'connect' || outage === undefined) continue;
    if (phase === 'invoke') {
      outage.attempts += 1;
      if (outage.attempts === 1) outage.startMs = atMs;
    } else if (phase === 'ok') {
      since.delete(client);
      if (outage.attempts > 0) {
        outages.push({
          ...{ client, attempts: outage.attempts, kills: kills - outage.kills },
          ms: atMs - outage.startMs,
        });
      }
    }
  }
  return outages;
}

function report(
  fleet: Fleet,
  kills: number,
  records: readonly HistoryRecord[],
  outages: readonly Outage[],
): string {
  const count = (op: string, phase: string) =>
    records.filter((record) => record.op === op && record.phase === phase).length;
  const sorted = outages.map(({ ms }) => ms).sort((a, b) => a - b);
  const quantile = (q: number) => (sorted[Math.floor(q * (sorted.length - 1))] ?? 0).toFixed(1);
  return [
    `seed ${SEED}, ${fleet.clients} clients, ${SECONDS} s, ${kills} kills`,
    `published ${count('publish', 'invoke')}, acknowledged ${count('publish', 'ok')}, unknown ${count('publish', 'info')}, sent again ${count('resend', 'invoke') + count('resend', 'ok')}`,
    `delivered ${count('deliver', 'ok')}`,
    `outages ${outages.length}, served at the first attempt ${outages.filter(({ attempts }) => attempts === 1).length}`,
    `outage without reconnect delay: p50 ${quantile(0.5)} ms, p99 ${quantile(0.99)} ms, max ${quantile(1)} ms (bound of the promise: p99 500 ms)`,
  ].join('\n');
}
