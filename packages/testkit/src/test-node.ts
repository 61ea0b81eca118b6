import { Decoder, createPacketEncoder } from '@shoalmq/codec';
import { Counters, DEFAULT_LIMITS, Node, noPeers } from '@shoalmq/core';
import type {
  Access,
  Connection,
  Limits,
  NodeEvents,
  NodeReport,
  Peers,
  StateStore,
} from '@shoalmq/core';
import { createMemoryStore } from '@shoalmq/store-memory';
import type { IPublishPacket } from 'mqtt-packet';
import type { ConnectFields, PublishFields, SubscribeFields } from './byte-client.ts';
import { FakeClock } from './fake-clock.ts';
import { MemoryChannel } from './memory-channel.ts';
import { SeededRandom } from './seeded-random.ts';
import { PacketReader, encodePacket } from './wire-packet.ts';
import type {
  ReceivedPacket,
  Unreadable,
  WirePacket,
  WirePacketType,
  WireVersion,
} from './wire-packet.ts';

/** What a test changes about the node it makes. */
export interface TestNodeOptions {
  readonly limits?: Partial<Limits>;
  /** Stands between the core and the memory store. */
  readonly wrapStore?: (store: StateStore) => StateStore;
  readonly access?: Partial<Access>;
  readonly events?: Omit<NodeEvents, 'report'>;
  readonly seed?: number;
  /** Over those of a node that is alone. */
  readonly peers?: Partial<Peers>;
}

/** A message to publish in the same read as others. */
export type BatchedPublish = PublishFields & { readonly messageId?: number };

/**
 * The core of a broker with the real codec, the memory store, a clock that the test moves, and clients in memory:
 * nothing happens unless the test makes it happen.
 *
 * ```ts
 * const node = new TestNode({ limits: { receiveMaximum: 10 } });
 * const client = await node.connect({ clientId: 'a' });
 * client.send({ cmd: 'pingreq' }, { cmd: 'pingreq' }); // one read
 * await node.settle();
 * client.packets(); // two PINGRESP
 * ```
 */
export class TestNode {
  readonly clock = new FakeClock();
  readonly counters = new Counters();
  readonly store: StateStore;
  readonly node: Node;
  readonly reports: NodeReport[] = [];
  readonly #deferred: (() => void)[] = [];
  #clients = 0;

  constructor(options: TestNodeOptions = {}) {
    const limits = { ...DEFAULT_LIMITS, ...options.limits };
    const random = new SeededRandom(options.seed ?? 1);
    const memory = createMemoryStore({ clock: this.clock, random, limits });
    this.store = options.wrapStore === undefined ? memory : options.wrapStore(memory);
    this.node = new Node({
      nodeId: 'test',
      limits,
      sharedStrategy: 'round-robin',
      store: this.store,
      peers: { ...noPeers, ...options.peers },
      access: { ...everythingAllowed, ...options.access },
      clock: this.clock,
      random,
      scheduler: { defer: (callback) => this.#deferred.push(callback) },
      encoder: createPacketEncoder(),
      counters: this.counters,
      events: {
        ...options.events,
        report: (report) => {
          this.reports.push(report);
        },
      },
    });
  }

  /** A client whose CONNECT was sent and answered; CONNACK is not among its `packets`. */
  async connect({
    version = 5,
    clientId = `memory-client-${String((this.#clients += 1))}`,
    clean = true,
    password,
    ...fields
  }: ConnectFields & { readonly version?: WireVersion } = {}): Promise<MemoryClient> {
    const client = this.#accept(version);
    client.send({
      cmd: 'connect',
      keepalive: 0,
      ...fields,
      clean,
      clientId,
      ...(password === undefined ? {} : { password: Buffer.from(password) }),
    });
    await this.settle();
    client.takeConnack();
    return client;
  }

  /** Runs what is under way until nothing is left that could go on by itself. */
  async settle(): Promise<void> {
    do {
      for (const callback of this.#deferred.splice(0)) callback();
      // Immediates run after all promises that can settle have settled.
      await new Promise((resolve) => setImmediate(resolve));
    } while (this.#deferred.length > 0);
  }

  /** Time passes, and the node gets to see it. */
  async pass(ms: number): Promise<void> {
    this.clock.advance(ms);
    this.node.tick(0);
    await this.settle();
  }

  #accept(version: WireVersion): MemoryClient {
    const channel = new MemoryChannel();
    const connection = this.node.accept(channel);
    const { limits, topics } = this.node;
    const decoder = new Decoder({
      handler: connection,
      topics,
      packetBytesMax: limits.packetBytesMax,
      connectBytesMax: limits.connectBytesMax,
      topicAliasMaximum: limits.topicAliasMaximum,
      topicLevelsMax: limits.topicLevelsMax,
    });
    channel.open(decoder, connection);
    return new MemoryClient(this, channel, connection, version);
  }
}

/** A client of a {@link TestNode}. Like `ByteClient` it does nothing by itself; unlike it, nothing takes time. */
export class MemoryClient {
  readonly channel: MemoryChannel;
  readonly connection: Connection;
  readonly version: WireVersion;
  readonly #node: TestNode;
  readonly #reader = new PacketReader();
  #line: ReceivedPacket[] = [];
  #connack: ReceivedPacket<'connack'> | undefined = undefined;
  #lastPacketId = 0;

  constructor(
    node: TestNode,
    channel: MemoryChannel,
    connection: Connection,
    version: WireVersion,
  ) {
    this.#node = node;
    this.channel = channel;
    this.connection = connection;
    this.version = version;
  }

  get connack(): ReceivedPacket<'connack'> {
    if (this.#connack === undefined) throw new Error('no CONNACK came');
    return this.#connack;
  }

  /** Sends the packets so that they are read together. */
  send(...packets: WirePacket[]): void {
    this.channel.receive(
      Buffer.concat(packets.map((packet) => encodePacket(packet, this.version))),
    );
  }

  /** Publishes so that all messages are read together. */
  publish(...messages: BatchedPublish[]): void {
    this.send(...messages.map((message) => this.#publishPacket(message)));
  }

  /** Subscribes and takes the SUBACK out of the line. */
  async subscribe(
    filters: string | readonly string[],
    { messageId = 1, properties, ...options }: SubscribeFields = {},
  ): Promise<ReceivedPacket<'suback'>> {
    this.send({
      cmd: 'subscribe',
      messageId,
      subscriptions: [filters].flat().map((topic) => ({ topic, qos: 0, ...options })),
      ...(properties && { properties }),
    });
    await this.#node.settle();
    this.take();
    return this.#remove('suback');
  }

  /** The socket takes output; what is complete is decoded and waits in line. */
  take(bytesMax = Infinity): void {
    for (const packet of this.#reader.read(this.channel.take(bytesMax), this.version)) {
      if (isUnreadable(packet)) throw new Error(`unreadable: ${packet.reason}`);
      this.#line.push(packet);
    }
  }

  /** Everything that came and was not asked for before. With `bytesMax` the socket takes no more than that. */
  packets(bytesMax = Infinity): ReceivedPacket[] {
    this.take(bytesMax);
    const packets = this.#line;
    this.#line = [];
    return packets;
  }

  /** The PUBLISH packets among {@link packets}; anything else is forgotten. */
  publishes(bytesMax = Infinity): ReceivedPacket<'publish'>[] {
    return this.packets(bytesMax).filter(isPublish);
  }

  takeConnack(): void {
    this.take();
    this.#connack = this.#remove('connack');
  }

  #remove<T extends WirePacketType>(type: T): ReceivedPacket<T> {
    const index = this.#line.findIndex(({ cmd }) => cmd === type);
    if (index < 0) throw new Error(`no ${type} came`);
    return this.#line.splice(index, 1)[0] as ReceivedPacket<T>;
  }

  #publishPacket({ payload = '', qos = 0, messageId, ...fields }: BatchedPublish): IPublishPacket {
    return {
      cmd: 'publish',
      retain: false,
      dup: false,
      ...fields,
      qos,
      payload: Buffer.from(payload),
      ...(qos === 0 ? {} : { messageId: messageId ?? this.#nextPacketId() }),
    };
  }

  #nextPacketId(): number {
    this.#lastPacketId = (this.#lastPacketId % 65_535) + 1;
    return this.#lastPacketId;
  }
}

const everythingAllowed: Access = {
  authenticate: (packet) =>
    Promise.resolve({
      outcome: 'accepted',
      principal: { username: packet.username ?? '', unrestricted: true },
    }),
  enhanced: () => undefined,
  authorize: () => true,
  revision: 0,
};

function isUnreadable(packet: ReceivedPacket | Unreadable): packet is Unreadable {
  return packet.cmd === 'unreadable';
}

function isPublish(packet: ReceivedPacket): packet is ReceivedPacket<'publish'> {
  return packet.cmd === 'publish';
}
