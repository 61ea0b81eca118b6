import { expect, test } from '@jest/globals';
import {
  Device,
  History,
  SeededRandom,
  ShoalCluster,
  hasRedisServer,
  messageStamp,
} from '@shoalmq/testkit';

const TRIALS = Number(process.env['P4_TRIALS'] ?? 100_000);
const SEED = Number(process.env['P4_SEED'] ?? Math.floor(Math.random() * 1e9));

/** So many pairs of a subscriber and a publisher at work at once. */
const PAIRS = 500;
/** Both of these pairs' clients are on the node that comes and goes. */
const VISITORS = 40;
const POOL = 8;
/** What did not arrive until then will not. */
const ARRIVAL_MS_MAX = 60_000;
/** A QoS 0 message that did not arrive until then is published again, so often in the life of a pair. */
const REPEAT_MS = 10_000;
const REPEATED_MAX = 3;

const withRedis = hasRedisServer() ? test : test.skip;

withRedis(
  'P4: what is published anywhere after SUBACK arrives, what is published after UNSUBACK does not; also while a node joins and leaves',
  async () => {
    const random = new SeededRandom(SEED);
    await using cluster = await ShoalCluster.start({ nodes: 3, spareNodes: 1 });
    const visited = cluster.portOf('n4');
    const tally = { begun: 0, done: 0, kinds: new Map<string, number>(), problems: [] as string[] };
    const pairs = Array.from({ length: PAIRS }, (_, index) => {
      const ports = index < VISITORS ? [visited] : cluster.ports;
      return new Pair(index, ports, random, index < VISITORS);
    });
    try {
      const trials = pairs.map(async (pair) => {
        await pair.start();
        while (tally.begun < TRIALS && tally.problems.length < 20) {
          tally.begun += 1;
          const { kind, problem } = await pair.trial();
          tally.done += 1;
          tally.kinds.set(kind, (tally.kinds.get(kind) ?? 0) + 1);
          if (problem !== undefined) tally.problems.push(problem);
        }
      });
      const over = Promise.all(trials);
      const cycles = await comeAndGo(cluster, over, () => tally.begun >= TRIALS);
      await over;
      const late = pairs.flatMap((pair) => pair.unwanted);
      const repeated = pairs.reduce((sum, pair) => sum + pair.repeated, 0);
      console.log(
        `seed ${SEED}: ${tally.done} trials, ${repeated} repeated at QoS 0, ${cycles} joins and leaves, ${JSON.stringify([...tally.kinds].sort())}`,
      );
      expect([...tally.problems, ...late]).toEqual([]);
      expect(cycles).toBeGreaterThan(0);
    } finally {
      for (const pair of pairs) pair.end();
    }
  },
  900_000,
);

/** Starts and stops the fourth node again and again, and leaves it running for the last ones. Returns how often. */
async function comeAndGo(
  cluster: ShoalCluster,
  over: Promise<unknown>,
  isEnough: () => boolean,
): Promise<number> {
  for (let cycles = 1; ; cycles++) {
    await cluster.add('n4');
    if (isEnough()) return cycles;
    await Promise.race([over, new Promise((resolve) => setTimeout(resolve, 3_000))]);
    if (isEnough()) return cycles;
    await cluster.stop('n4');
  }
}

/** A subscriber and a publisher, each on a node of its own choice. */
class Pair {
  /** Messages that came although they were published after UNSUBACK. */
  readonly unwanted: string[] = [];
  /** QoS 0 messages that were published once more. */
  repeated = 0;
  readonly #index: number;
  readonly #random: SeededRandom;
  readonly #persistent: boolean;
  readonly #subscriber: Device;
  readonly #publisher: Device;
  /** Messages that are waited for, and those that must not come, by sequence number. */
  readonly #history = new History();
  readonly #awaited = new Map<number, () => void>();
  readonly #forbidden = new Map<number, string>();
  #trial = 0;

  constructor(index: number, ports: readonly number[], random: SeededRandom, visitor: boolean) {
    this.#index = index;
    this.#random = random;
    this.#persistent = visitor || random.integer(2) === 0;
    const history = this.#history;
    const device = (kind: string, clean: boolean, onMessage?: (payload: Buffer) => void) => {
      const port = ports[random.integer(ports.length)]!;
      return new Device({
        ...{ clientId: `${kind}-${index}`, history, clean, reconnectDelayMs: 20 },
        port: () => port,
        ...(onMessage === undefined
          ? {}
          : { onMessage: ({ payload }: { payload: Buffer }) => onMessage(payload) }),
      });
    };
    this.#subscriber = device('s', !this.#persistent, (payload) => {
      this.#onMessage(payload);
    });
    // A publisher that keeps its session sends again what was not acknowledged.
    this.#publisher = device('p', !visitor);
  }

  async start(): Promise<void> {
    await Promise.all([this.#subscriber.start(), this.#publisher.start()]);
  }

  /** Subscribes, publishes once, unsubscribes, publishes again. */
  async trial(): Promise<{ kind: string; problem: string | undefined }> {
    const { kind, filter, topic } = this.#subscription();
    const [granted, published] = [this.#qos(), this.#qos()];
    await this.#subscriber.subscribe(filter, granted);
    let seq = this.#publisher.publish(topic, published);
    let arrived = await this.#arrival(seq, Math.min(granted, published));
    // At most once: on a machine that is too slow a node may have been without its lease just then.
    for (; !arrived && Math.min(granted, published) === 0 && this.repeated < REPEATED_MAX;) {
      this.repeated += 1;
      seq = this.#publisher.publish(topic, published);
      arrived = await this.#arrival(seq, 0);
    }
    const what = `${kind} ${filter} of ${this.#subscriber.clientId} at QoS ${granted}: ${this.#publisher.clientId} ${seq} at QoS ${published}`;
    await this.#subscriber.unsubscribe(filter);
    const after = this.#publisher.publish(topic, 1);
    this.#forbidden.set(after, `${what}: ${after} came after UNSUBACK`);
    await this.#publisher.settled();
    return { kind, problem: arrived ? undefined : `${what} did not arrive` };
  }

  end(): void {
    this.#subscriber.end({ abruptly: true });
    this.#publisher.end({ abruptly: true });
  }

  /** Exact, wildcard or shared; a filter of its own, one that it had before, or one that others use too. */
  #subscription(): { kind: string; filter: string; topic: string } {
    const session = this.#persistent ? 'persistent' : 'clean';
    const mine = `p4/${this.#index}`;
    const number = ++this.#trial;
    const pool = `pool/${this.#random.integer(POOL)}`;
    switch (this.#random.integer(8)) {
      case 0:
        return {
          kind: `${session} exact`,
          filter: `${mine}/${number}`,
          topic: `${mine}/${number}`,
        };
      case 1:
        return { kind: `${session} exact again`, filter: mine, topic: mine };
      case 2:
        return { kind: `${session} exact of many`, filter: pool, topic: pool };
      case 3:
        return {
          kind: `${session} +`,
          filter: `${mine}/+/${number}`,
          topic: `${mine}/x/${number}`,
        };
      case 4:
        return {
          kind: `${session} #`,
          filter: `${mine}/${number}/#`,
          topic: `${mine}/${number}/x`,
        };
      case 5:
        return {
          kind: `${session} + of many`,
          filter: `+/w/${number % POOL}`,
          topic: `${mine}/w/${number % POOL}`.replace('p4/', 'p4-'),
        };
      case 6:
        return {
          kind: `${session} shared`,
          filter: `$share/${this.#index}/${mine}/s`,
          topic: `${mine}/s`,
        };
      default:
        return {
          kind: `${session} shared +`,
          filter: `$share/g${number}/${mine}/+`,
          topic: `${mine}/${number}`,
        };
    }
  }

  /** QoS 0 between clients that stay only: a node that goes may take it along. */
  #qos(): 0 | 1 | 2 {
    return this.#index < VISITORS
      ? ((1 + this.#random.integer(2)) as 1 | 2)
      : (this.#random.integer(3) as 0 | 1 | 2);
  }

  async #arrival(seq: number, qos: number): Promise<boolean> {
    return new Promise((resolve) => {
      const timer = setTimeout(
        () => {
          this.#awaited.delete(seq);
          resolve(false);
        },
        qos === 0 ? REPEAT_MS : ARRIVAL_MS_MAX,
      );
      this.#awaited.set(seq, () => {
        clearTimeout(timer);
        this.#awaited.delete(seq);
        resolve(true);
      });
    });
  }

  #onMessage(payload: Buffer): void {
    const { publisher, seq } = messageStamp(payload);
    // Others publish on the topics of many, too.
    if (publisher !== this.#publisher.clientId) return;
    this.#awaited.get(seq)?.();
    const unwanted = this.#forbidden.get(seq);
    if (unwanted !== undefined) this.unwanted.push(unwanted);
  }
}
