import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TestNode } from '@shoalmq/testkit';
import type { MemoryClient } from '@shoalmq/testkit';
import { SlowStore } from './slow-store.ts';

type Step =
  | { readonly kind: 'publish' }
  | { readonly kind: 'repeat'; readonly pick: number }
  | { readonly kind: 'read'; readonly who: 'publisher' | 'subscriber' }
  | { readonly kind: 'store'; readonly effects: number; readonly answers: number }
  | {
      readonly kind: 'reconnect';
      readonly who: 'publisher' | 'subscriber';
      readonly takeover: boolean;
    };

const who = fc.constantFrom('publisher' as const, 'subscriber' as const);
const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 4, arbitrary: fc.constant({ kind: 'publish' as const }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant('repeat' as const), pick: fc.nat() }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('read' as const), who }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('store' as const),
      effects: fc.nat(4),
      answers: fc.nat(4),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('reconnect' as const),
      who,
      takeover: fc.boolean(),
    }),
  },
);

const session = { clean: false, properties: { sessionExpiryInterval: 1_000 } };

test('[MQTT-4.3.3-10][MQTT-4.4.0-1] at QoS 2 between persistent sessions every message arrives once and in order, wherever connections are lost while the store works', async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { maxLength: 60 }), async (steps) => {
      const slow = new SlowStore();
      const node = new TestNode({ wrapStore: slow.wrap });
      const subscriber = await QoS2Subscriber.connect(node);
      const publisher = await QoS2Publisher.connect(node);
      for (const step of steps) {
        switch (step.kind) {
          case 'publish':
            publisher.publish();
            break;
          case 'repeat':
            publisher.repeat(step.pick);
            break;
          case 'read':
            (step.who === 'publisher' ? publisher : subscriber).read();
            break;
          case 'store':
            slow.run(step.effects, step.answers);
            break;
          case 'reconnect':
            await (step.who === 'publisher' ? publisher : subscriber).reconnect(step.takeover);
        }
        await node.settle();
      }
      let moved: boolean;
      do {
        moved = slow.busy;
        slow.run();
        await node.settle();
        if (publisher.read() + subscriber.read() > 0) moved = true;
        await node.settle();
      } while (moved || slow.busy);
      expect(publisher.unfinished).toBe(0);
      expect(subscriber.delivered).toEqual(
        Array.from({ length: publisher.count }, (_, index) => index + 1),
      );
    }),
    { numRuns: 400 },
  );
}, 60_000);

/** Repeats what is not finished when it reconnects, as a client must. */
class QoS2Publisher {
  count = 0;
  readonly #node: TestNode;
  #client: MemoryClient;
  /** By packet id: the message, and whether its PUBREC came. In the order of publication. */
  readonly #messages = new Map<number, { readonly payload: string; released: boolean }>();
  #released: number[] = [];

  private constructor(node: TestNode, client: MemoryClient) {
    this.#node = node;
    this.#client = client;
  }

  static async connect(node: TestNode): Promise<QoS2Publisher> {
    return new QoS2Publisher(node, await node.connect({ ...session, clientId: 'publisher' }));
  }

  get unfinished(): number {
    return this.#messages.size;
  }

  publish(): void {
    // Few ids, so that they are used again soon.
    let messageId = 1;
    while (this.#messages.has(messageId)) messageId += 1;
    this.count += 1;
    this.#messages.set(messageId, { payload: String(this.count), released: false });
    this.#send(messageId, false);
  }

  repeat(pick: number): void {
    const open = [...this.#messages].filter(([, message]) => !message.released);
    const [messageId] = open[pick % Math.max(open.length, 1)] ?? [];
    if (messageId !== undefined) this.#send(messageId, true);
  }

  /** Handles what came and returns how much that was. */
  read(): number {
    const packets = this.#client.packets();
    for (const { cmd, messageId = 0 } of packets) {
      const message = this.#messages.get(messageId);
      if (cmd === 'pubrec' && message !== undefined) {
        if (!message.released) this.#released.push(messageId);
        message.released = true;
        this.#client.send({ cmd: 'pubrel', messageId });
      } else if (cmd === 'pubcomp' && message?.released === true) {
        this.#messages.delete(messageId);
        this.#released = this.#released.filter((id) => id !== messageId);
      }
    }
    return packets.length;
  }

  async reconnect(takeover: boolean): Promise<void> {
    if (!takeover) this.#client.channel.disconnect();
    this.#client = await this.#node.connect({ ...session, clientId: 'publisher' });
    expect(this.#client.connack.sessionPresent).toBe(true);
    for (const messageId of this.#released) this.#client.send({ cmd: 'pubrel', messageId });
    for (const [messageId, { released }] of this.#messages) {
      if (!released) this.#send(messageId, true);
    }
  }

  #send(messageId: number, dup: boolean): void {
    const { payload } = this.#messages.get(messageId)!;
    this.#client.publish({ topic: 't', qos: 2, messageId, payload, dup });
  }
}

class QoS2Subscriber {
  readonly delivered: number[] = [];
  readonly #node: TestNode;
  #client: MemoryClient;
  readonly #held = new Set<number>();

  private constructor(node: TestNode, client: MemoryClient) {
    this.#node = node;
    this.#client = client;
  }

  static async connect(node: TestNode): Promise<QoS2Subscriber> {
    const client = await node.connect({ ...session, clientId: 'subscriber' });
    await client.subscribe('t', { qos: 2 });
    return new QoS2Subscriber(node, client);
  }

  read(): number {
    const packets = this.#client.packets();
    for (const packet of packets) {
      const { messageId = 0 } = packet;
      if (packet.cmd === 'publish') {
        if (!this.#held.has(messageId)) this.delivered.push(Number(packet.payload.toString()));
        this.#held.add(messageId);
        this.#client.send({ cmd: 'pubrec', messageId });
      } else if (packet.cmd === 'pubrel') {
        this.#held.delete(messageId);
        this.#client.send({ cmd: 'pubcomp', messageId });
      }
    }
    return packets.length;
  }

  async reconnect(takeover: boolean): Promise<void> {
    if (!takeover) this.#client.channel.disconnect();
    this.#client = await this.#node.connect({ ...session, clientId: 'subscriber' });
    expect(this.#client.connack.sessionPresent).toBe(true);
  }
}
