import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TestNode } from '@shoalmq/testkit';
import type { MemoryClient, ReceivedPacket, WirePacket } from '@shoalmq/testkit';
import { SlowStore } from './slow-store.ts';

type Version = 4 | 5;
type QoS = 0 | 1 | 2;

interface SubscriberPlan {
  readonly version: Version;
  readonly persistent: boolean;
  readonly window: number;
  readonly topicAliasMaximum: number;
  readonly filter: string;
  readonly qos: QoS;
}

interface MessagePlan {
  readonly topic: number;
  readonly qos: QoS;
  readonly kind: 'plain' | 'properties' | 'large';
}

type Step =
  | { readonly kind: 'publish'; readonly who: number; readonly messages: readonly MessagePlan[] }
  | { readonly kind: 'take'; readonly who: number; readonly bytes: number }
  | { readonly kind: 'acknowledge'; readonly who: number; readonly count: number }
  | { readonly kind: 'reconnect'; readonly who: number; readonly takeover: boolean }
  | { readonly kind: 'store'; readonly effects: number; readonly answers: number }
  | { readonly kind: 'settle' };

const LARGE_BYTES = 20_000;
const OUTBOUND_BYTES_MAX = 200_000;
const PUBLISHERS = 2;

const qos = fc.constantFrom<QoS>(0, 1, 2);
const version = fc.constantFrom<Version>(4, 5);
const subscriberPlan: fc.Arbitrary<SubscriberPlan> = fc.record({
  version,
  persistent: fc.boolean(),
  window: fc.integer({ min: 1, max: 3 }),
  topicAliasMaximum: fc.constantFrom(0, 0, 1, 5),
  filter: fc.constantFrom('t/0', 't/+', '#'),
  qos,
});
const messagePlan: fc.Arbitrary<MessagePlan> = fc.record({
  topic: fc.nat(1),
  qos,
  kind: fc.oneof(
    { weight: 8, arbitrary: fc.constant('plain' as const) },
    { weight: 2, arbitrary: fc.constant('properties' as const) },
    { weight: 1, arbitrary: fc.constant('large' as const) },
  ),
});
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('publish' as const),
      who: fc.nat(PUBLISHERS - 1),
      messages: fc.array(messagePlan, { minLength: 1, maxLength: 8 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('take' as const),
      who: fc.nat(5),
      bytes: fc.constantFrom(1, 7, 100, 30_000, Infinity),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('acknowledge' as const),
      who: fc.nat(5),
      count: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('reconnect' as const),
      who: fc.nat(5),
      takeover: fc.boolean(),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('store' as const),
      effects: fc.nat(10),
      answers: fc.nat(10),
    }),
  },
  { weight: 3, arbitrary: fc.constant({ kind: 'settle' as const }) },
);

test(
  '[MQTT-4.6.0-5][MQTT-4.6.0-6][MQTT3-4.6.0-6] whatever the windows, sockets, stores, versions and reconnects: messages of a ' +
    'publisher come in order per topic and QoS, none is lost or comes twice at QoS 2, none is lost at QoS 1',
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(subscriberPlan, { minLength: 1, maxLength: 6 }),
        fc.array(fc.record({ version, persistent: fc.boolean() }), {
          minLength: PUBLISHERS,
          maxLength: PUBLISHERS,
        }),
        fc.boolean(),
        fc.array(step, { minLength: 1, maxLength: 60 }),
        async (plans, publisherPlans, isSlow, steps) => {
          const slow = new SlowStore();
          const node = new TestNode({
            limits: { inflightMax: 3, outboundBytesMax: OUTBOUND_BYTES_MAX },
            ...(isSlow ? { wrapStore: slow.wrap } : {}),
          });
          const subscribers = await Promise.all(
            plans.map((plan, index) => Subscriber.connect(node, plan, `s${String(index)}`)),
          );
          const publishers = await Promise.all(
            publisherPlans.map((plan, index) => Publisher.connect(node, plan, index)),
          );
          for (const step of steps) {
            const subscriber =
              'who' in step ? subscribers[step.who % subscribers.length]! : undefined;
            switch (step.kind) {
              case 'publish':
                publishers[step.who]!.publish(step.messages);
                break;
              case 'take':
                subscriber!.take(step.bytes);
                break;
              case 'acknowledge':
                subscriber!.acknowledge(step.count);
                break;
              case 'reconnect':
                if (subscriber!.plan.persistent) await subscriber!.reconnect(step.takeover);
                break;
              case 'store':
                slow.run(step.effects, step.answers);
                await node.settle();
                break;
              case 'settle':
                await node.settle();
                for (const publisher of publishers) publisher.complete();
            }
          }
          await finish(node, slow, publishers, subscribers);
          const published = publishers.flatMap((publisher) => publisher.published);
          for (const subscriber of subscribers) subscriber.check(published);
          checkDrops(node, subscribers, published);
        },
      ),
      { numRuns: 300 },
    );
  },
  60_000,
);

interface Published {
  readonly stream: string;
  readonly number: number;
  readonly topic: string;
  readonly qos: QoS;
}

class Publisher {
  readonly published: Published[] = [];
  readonly #client: MemoryClient;
  readonly #version: Version;
  readonly #index: number;
  readonly #numbers = new Map<string, number>();

  private constructor(client: MemoryClient, version: Version, index: number) {
    this.#client = client;
    this.#version = version;
    this.#index = index;
  }

  static async connect(
    node: TestNode,
    { version, persistent }: { readonly version: Version; readonly persistent: boolean },
    index: number,
  ): Promise<Publisher> {
    const client = await node.connect({
      version,
      clean: !persistent,
      ...(version === 5 ? { properties: { sessionExpiryInterval: persistent ? 1_000 : 0 } } : {}),
    });
    return new Publisher(client, version, index);
  }

  /** All in one read. The payload says which message it is. */
  publish(messages: readonly MessagePlan[]): void {
    this.#client.publish(
      ...messages.map(({ topic: topicNumber, qos, kind }) => {
        const topic = `t/${String(topicNumber)}`;
        const stream = `${String(this.#index)} ${topic} ${String(qos)}`;
        const number = (this.#numbers.get(stream) ?? 0) + 1;
        this.#numbers.set(stream, number);
        this.published.push({ stream, number, topic, qos });
        const payload = `${stream}|${String(number)}|`;
        return {
          topic,
          qos,
          payload: kind === 'large' ? payload.padEnd(LARGE_BYTES, '.') : payload,
          ...(kind === 'properties' && this.#version === 5
            ? { properties: { contentType: stream } }
            : {}),
        };
      }),
    );
  }

  /** Goes on with PUBREL wherever a PUBREC came. */
  complete(): number {
    const packets = this.#client.packets();
    for (const packet of packets) {
      expect(['puback', 'pubrec', 'pubcomp']).toContain(packet.cmd);
      if (packet.cmd === 'pubrec')
        this.#client.send({ cmd: 'pubrel', messageId: packet.messageId });
    }
    return packets.length;
  }
}

class Subscriber {
  readonly plan: SubscriberPlan;
  /** What was delivered to the application, per stream. */
  readonly streams = new Map<string, number[]>();
  readonly #node: TestNode;
  readonly #clientId: string;
  #client: MemoryClient;
  #aliases = new Map<number, string>();
  /** Answers that are owed and not sent. */
  #answers: WirePacket[] = [];
  /** Packet ids that this side has not acknowledged in full. */
  #outstanding = new Set<number>();
  /** Session state: ids of QoS 2 messages that were delivered and not released. */
  readonly #held = new Set<number>();

  private constructor(
    node: TestNode,
    plan: SubscriberPlan,
    clientId: string,
    client: MemoryClient,
  ) {
    this.#node = node;
    this.plan = plan;
    this.#clientId = clientId;
    this.#client = client;
  }

  static async connect(
    node: TestNode,
    plan: SubscriberPlan,
    clientId: string,
  ): Promise<Subscriber> {
    const client = await connect(node, plan, clientId);
    await client.subscribe(plan.filter, { qos: plan.qos });
    return new Subscriber(node, plan, clientId, client);
  }

  /** The socket takes this much, and the client handles what is complete. Returns how many packets that is. */
  take(bytesMax: number): number {
    const packets = this.#client.packets(bytesMax);
    for (const packet of packets) this.#handle(packet);
    if (this.#client.channel.backlogBytes === 0) this.#client.channel.drained();
    return packets.length;
  }

  acknowledge(count: number): number {
    const answers = this.#answers.splice(0, count);
    for (const answer of answers) {
      if (answer.cmd !== 'pubrec') this.#outstanding.delete(answer.messageId!);
    }
    if (answers.length > 0) this.#client.send(...answers);
    return answers.length;
  }

  async reconnect(takeover: boolean): Promise<void> {
    if (!takeover) this.#client.channel.disconnect();
    this.#answers = [];
    this.#outstanding = new Set();
    this.#aliases = new Map();
    this.#client = await connect(this.#node, this.plan, this.#clientId);
    expect(this.#client.connack.sessionPresent).toBe(true);
  }

  /** Messages of this stream that match and so are due, at the QoS they are due at. */
  due(published: readonly Published[], qos: QoS): Published[] {
    return published.filter(
      (message) =>
        (this.plan.filter !== 't/0' || message.topic === 't/0') &&
        Math.min(message.qos, this.plan.qos) === qos,
    );
  }

  check(published: readonly Published[]): void {
    const streams = new Map(published.map(({ stream, topic, qos }) => [stream, { topic, qos }]));
    for (const [stream, { topic, qos }] of streams) {
      const numbers = published
        .filter((message) => message.stream === stream)
        .map(({ number }) => number);
      const received = this.streams.get(stream) ?? [];
      if (this.plan.filter === 't/0' && topic !== 't/0') expect(received).toEqual([]);
      else if (Math.min(qos, this.plan.qos) > 0) expect(received).toEqual(numbers);
      else expect(received).toEqual([...new Set(received)].sort((a, b) => a - b));
    }
  }

  #handle(packet: ReceivedPacket): void {
    if (packet.cmd === 'pubrel') {
      this.#held.delete(packet.messageId);
      this.#outstanding.add(packet.messageId);
      this.#answers.push({ cmd: 'pubcomp', messageId: packet.messageId });
      return;
    }
    expect(packet.cmd).toBe('publish');
    if (packet.cmd !== 'publish') return;
    const { qos, dup } = packet;
    const messageId = packet.messageId ?? 0;
    const topic = this.#topicOf(packet);
    if (qos > 0) {
      expect(this.#outstanding.has(messageId)).toBe(false);
      this.#outstanding.add(messageId);
      expect(this.#outstanding.size).toBeLessThanOrEqual(
        this.plan.version === 5 ? this.plan.window : 3,
      );
      this.#answers.push({ cmd: qos === 1 ? 'puback' : 'pubrec', messageId });
    }
    if (qos === 2) {
      if (this.#held.has(messageId)) {
        expect(dup).toBe(true);
        return;
      }
      this.#held.add(messageId);
    }
    const [stream = '', number] = packet.payload.toString().split('|');
    expect(stream.split(' ')[1]).toBe(topic);
    let received = this.streams.get(stream);
    if (received === undefined) this.streams.set(stream, (received = []));
    const known = received.includes(Number(number));
    // At QoS 1 a message may come twice, but only as a retransmission.
    if (known && qos === 1) expect(dup).toBe(true);
    else received.push(Number(number));
  }

  #topicOf(packet: ReceivedPacket<'publish'>): string {
    const alias = packet.properties?.topicAlias;
    if (alias === undefined) return packet.topic;
    expect(alias).toBeLessThanOrEqual(this.plan.topicAliasMaximum);
    if (packet.topic !== '') this.#aliases.set(alias, packet.topic);
    return this.#aliases.get(alias) ?? '';
  }
}

function connect(node: TestNode, plan: SubscriberPlan, clientId: string): Promise<MemoryClient> {
  return node.connect({
    clientId,
    version: plan.version,
    clean: !plan.persistent,
    ...(plan.version === 5
      ? {
          properties: {
            receiveMaximum: plan.window,
            sessionExpiryInterval: plan.persistent ? 1_000 : 0,
            ...(plan.topicAliasMaximum > 0 ? { topicAliasMaximum: plan.topicAliasMaximum } : {}),
          },
        }
      : {}),
  });
}

/** Everybody reads and answers until nothing moves. */
async function finish(
  node: TestNode,
  slow: SlowStore,
  publishers: readonly Publisher[],
  subscribers: readonly Subscriber[],
): Promise<void> {
  let moved: number;
  do {
    await node.settle();
    moved = slow.busy ? 1 : 0;
    slow.run();
    await node.settle();
    for (const publisher of publishers) moved += publisher.complete();
    for (const subscriber of subscribers) {
      // What is taken may let a held publisher go on, whose messages are to be taken then.
      moved += subscriber.take(Infinity);
      moved += subscriber.acknowledge(Infinity);
    }
  } while (moved > 0);
}

/** What is missing at QoS 0 was dropped for a slow socket and counted, unless it went down with a connection. */
function checkDrops(
  node: TestNode,
  subscribers: readonly Subscriber[],
  published: readonly Published[],
): void {
  if (subscribers.some(({ plan }) => plan.persistent)) return;
  let missing = 0;
  for (const subscriber of subscribers) {
    missing += subscriber
      .due(published, 0)
      .filter(
        ({ stream, number }) => !(subscriber.streams.get(stream) ?? []).includes(number),
      ).length;
  }
  expect(node.counters.messagesDropped.slow_consumer).toBe(missing);
  expect(node.counters.inflightMessages).toBe(0);
}
