import { expect, test } from '@jest/globals';
import {
  ByteClient,
  SeededRandom,
  ShoalCluster,
  hasRedisServer,
  pollUntil,
} from '@shoalmq/testkit';
import type { ConnectFields, ReceivedPacket } from '@shoalmq/testkit';

const withRedis = hasRedisServer() ? test : test.skip;
const PERSISTENT = { clean: false, properties: { sessionExpiryInterval: 600 } };
const PATIENCE = { timeoutMs: 120_000 };

/** What a client knows from one connection to the next. */
interface Memory {
  /** Packet identifiers of QoS 2 messages that it has and whose PUBREL has not come. */
  readonly held: Set<number>;
  /** The connection that it opened last: from then on it takes nothing from the ones before. */
  current: Attempt | undefined;
}

/** One connection of a client that acknowledges what it gets, and what became of it. */
class Attempt {
  readonly client: ByteClient;
  readonly payloads: string[] = [];
  reasonCode: number | undefined;
  ended = false;
  pongs = 0;
  readonly #memory: Memory;

  constructor(client: ByteClient, memory: Memory) {
    this.client = client;
    this.#memory = memory;
    memory.current = this;
  }

  static async open(port: number, fields: ConnectFields, memory: Memory): Promise<Attempt> {
    const attempt = new Attempt(await ByteClient.open(port, PATIENCE), memory);
    await attempt.client.connect(fields);
    void attempt.#serve();
    return attempt;
  }

  async #serve(): Promise<void> {
    const { client } = this;
    try {
      for (;;) {
        const packet = await client.expectPacket();
        if (packet.cmd === 'disconnect') this.reasonCode = packet.reasonCode;
        else if (packet.cmd === 'pingresp') this.pongs += 1;
        else if (this.#memory.current === this) this.#take(packet);
      }
    } catch {
      this.ended = true;
      client.stream.destroy();
    }
  }

  #take(packet: ReceivedPacket): void {
    const { client } = this;
    const { held } = this.#memory;
    if (packet.cmd === 'pubrel') {
      held.delete(packet.messageId);
      client.pubcomp(packet.messageId);
    } else if (packet.cmd === 'publish') {
      const { qos, messageId = 0 } = packet;
      if (!held.has(messageId)) this.payloads.push(packet.payload.toString());
      if (qos === 2) held.add(messageId);
      if (qos === 1) client.puback(messageId);
      else if (qos === 2) client.pubrec(messageId);
    }
  }

  /** Whether the broker still answers. */
  async alive(): Promise<boolean> {
    const { pongs } = this;
    if (!this.ended) this.client.send('c0 00');
    await pollUntil('an answer or an end', () => this.ended || this.pongs > pongs);
    return !this.ended;
  }
}

withRedis.each([
  { name: 'persistent', session: PERSISTENT, qos: [1, 2] as const },
  { name: 'clean', session: { clean: true }, qos: [] },
])(
  'P5: connections that fight for one client id on different nodes: the newest wins ($name session)',
  async ({ session, qos }) => {
    await using cluster = await ShoalCluster.start({ nodes: 3 });
    const random = new SeededRandom(5);
    const { ports } = cluster;
    const memory: Memory = { held: new Set(), current: undefined };
    const fields = { clientId: 'fought for', ...session };
    const attempts: Attempt[] = [];
    const open = async (): Promise<Attempt> => {
      const attempt = await Attempt.open(ports[random.integer(3)]!, fields, memory);
      attempts.push(attempt);
      return attempt;
    };
    let newest = await open();
    if (qos.length > 0)
      newest.client.sendPacket({
        cmd: 'subscribe',
        messageId: 65_000,
        subscriptions: [{ topic: 'owed/#', qos: 2 }],
      });
    await newest.alive();

    let fighting = true;
    const published: string[] = [];
    const publishing = Promise.all(
      qos.map(async (level) => {
        await using publisher = await ByteClient.connect(ports[level]!, PATIENCE);
        for (let n = 0; fighting; n++) {
          const payload = `${String(level)}:${String(n)}`;
          await publisher.publishFully({ topic: `owed/${String(level)}`, payload, qos: level });
          published.push(payload);
        }
      }),
    );
    for (let round = 0; round < 300; round++) {
      const older = newest;
      if (round % 3 > 0) {
        newest = await open();
        await pollUntil('the end of the older one', () => older.ended);
        expect(older.reasonCode).toBe(0x8e);
        continue;
      }
      // At the same moment: whoever it is, one of them stays.
      const both = await Promise.allSettled([open(), open()]);
      const opened = both.flatMap((result) =>
        result.status === 'fulfilled' ? [result.value] : [],
      );
      await pollUntil('the end of all but one', () => {
        const live = [older, ...opened].filter(({ ended }) => !ended);
        return live.length <= 1;
      });
      expect(older.ended).toBe(true);
      const [winner] = opened.filter(({ ended }) => !ended);
      newest = winner ?? (await open());
    }
    fighting = false;
    await publishing;
    expect(await newest.alive()).toBe(true);
    expect(attempts.filter(({ ended }) => !ended)).toEqual([newest]);

    const got = (): string[] => attempts.flatMap(({ payloads }) => payloads);
    await pollUntil('all messages', () => new Set(got()).size === published.length);
    const twice = got().filter((payload, index, all) => all.indexOf(payload) !== index);
    expect(twice.filter((payload) => payload.startsWith('2'))).toEqual([]);
    newest.client.stream.destroy();
  },
  180_000,
);

withRedis(
  'P5: a node that stood still for 15 s and whose clients have moved on can do nothing with their sessions',
  async () => {
    await using cluster = await ShoalCluster.start({ nodes: 2 });
    const paused = cluster.node('n1').port;
    const other = cluster.node('n2').port;
    const will = (topic: string, willDelayInterval: number) => ({
      topic,
      payload: Buffer.from('will'),
      qos: 1 as const,
      retain: false,
      properties: { willDelayInterval },
    });
    const sessions: Record<string, ConnectFields> = {
      persistent: { clientId: 'persistent', ...PERSISTENT, will: will('wills/0', 0) },
      waiting: { clientId: 'waiting', ...PERSISTENT, will: will('wills/1', 300) },
      clean: { clientId: 'clean', clean: true },
      publisher: { clientId: 'publisher', clean: true },
      exact: { clientId: 'exact', ...PERSISTENT },
    };
    const remember = (): Memory => ({ held: new Set(), current: undefined });
    const watcher = await Attempt.open(other, { clientId: 'watcher' }, remember());
    const subscribe = async (attempt: Attempt, topic: string): Promise<void> => {
      attempt.client.sendPacket({
        cmd: 'subscribe',
        messageId: 1,
        subscriptions: [{ topic, qos: 2 }],
      });
      await attempt.alive();
    };
    await subscribe(watcher, 'wills/#');
    const memories = new Map(Object.keys(sessions).map((name) => [name, remember()]));
    const before: Record<string, Attempt> = {};
    for (const [name, fields] of Object.entries(sessions)) {
      before[name] = await Attempt.open(paused, fields, memories.get(name)!);
      await subscribe(before[name], 'q/#');
    }
    await using source = await ByteClient.connect(other, PATIENCE);
    const count = { published: 0 };
    const publish = async (times: number): Promise<void> => {
      for (let n = 0; n < times; n++) {
        await source.publishFully({ topic: 'q/a', payload: String(count.published), qos: 2 });
        count.published += 1;
      }
    };
    await publish(10);
    for (const attempt of Object.values(before)) {
      await pollUntil('the first messages', () => attempt.payloads.length === 10);
    }

    cluster.pause('n1');
    const pausedAtMs = performance.now();
    // Sent to who stands still: it reads it when it goes on.
    before['publisher']!.client.publish({ topic: 'q/late', payload: 'late', qos: 1 });
    before['exact']!.client.publish({ topic: 'q/late', payload: 'late too', qos: 2 });
    before['clean']!.client.publish({ topic: 'q/late', payload: 'late as well', qos: 1 });
    // On their way to it when it stopped taking anything: they wait until its lease has ended.
    await publish(5);
    const after: Record<string, Attempt> = {};
    for (const [name, fields] of Object.entries(sessions)) {
      after[name] = await Attempt.open(other, fields, memories.get(name)!);
      if (fields.clean === true) await subscribe(after[name], 'q/#');
    }
    await publish(10);
    await new Promise((resolve) => setTimeout(resolve, 15_000 - (performance.now() - pausedAtMs)));
    const received = new Map(
      Object.entries(before).map(([name, { client }]) => [name, client.received.length]),
    );
    cluster.resume('n1');

    for (const [name, attempt] of Object.entries(before)) {
      await pollUntil(`the end of ${name}`, () => attempt.ended);
      // Of QoS 0 it may say something; of what was owed, or asked, nothing.
      const since = attempt.client.received.slice(received.get(name));
      expect(since.map(({ cmd }) => cmd)).toEqual(['disconnect']);
    }
    await publish(10);
    for (const [name, attempt] of Object.entries(after)) {
      expect([name, await attempt.alive()]).toEqual([name, true]);
    }
    const all = Array.from({ length: count.published }, (_, n) => String(n));
    for (const name of ['persistent', 'waiting', 'exact']) {
      const got = (): string[] => [...before[name]!.payloads, ...after[name]!.payloads];
      await pollUntil(`all of ${name}`, () => new Set(got()).size >= all.length);
      expect(got()).toEqual(all);
    }
    await pollUntil('the last of clean', () => after['clean']!.payloads.includes(all.at(-1)!));
    expect(after['clean']!.payloads).toEqual(all.slice(15));
    // One was due when the client came back elsewhere, the other was not, and the paused node published none.
    expect(watcher.payloads).toEqual(['will']);
    for (const { client } of [...Object.values(after), watcher]) client.stream.destroy();
  },
  120_000,
);
