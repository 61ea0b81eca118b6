import { Decoder, createPacketEncoder } from '@shoalmq/codec';
import { Cluster } from '@shoalmq/cluster';
import type { ClusterReport, ClusterTimes } from '@shoalmq/cluster';
import { Counters, DEFAULT_LIMITS, Node } from '@shoalmq/core';
import type { NodeReport, StateStore } from '@shoalmq/core';
import { createMemoryStore } from '@shoalmq/store-memory';
import { MemoryChannel, MemoryClient, MemoryClusterState, SeededRandom } from '@shoalmq/testkit';
import type {
  ConnectFields,
  PublishFields,
  ReceivedPacket,
  TestNode,
  WirePacket,
  WirePacketType,
} from '@shoalmq/testkit';

const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() };
const TIMES: ClusterTimes = { renewMs: 100, leaseMs: 1_500, pollMs: 50, digestMs: 3_000 };
/** Milliseconds after which something that should happen is said not to. */
const PATIENCE_MS = 20_000;

/** Nodes that share one store and one cluster state in memory, with real links between them on loopback. */
export class TestCluster {
  readonly random: SeededRandom;
  readonly state: MemoryClusterState;
  readonly store: StateStore;
  readonly nodes: ClusterNode[] = [];
  /** Ids of nodes that do not reach the cluster state. */
  readonly cutOff = new Set<string>();
  /** Of nodes that are made from now on; see `ClusterOptions`. */
  waitingBytesMax: number | undefined;
  /** How often somebody asked who owns a session. */
  ownerLookUps = 0;

  constructor(seed = 1) {
    this.random = new SeededRandom(seed);
    this.state = new MemoryClusterState({ clock, random: this.random });
    const memory = createMemoryStore({ clock, random: this.random, limits: DEFAULT_LIMITS });
    const owning = remembering(memory, this.state);
    this.store = new Proxy(owning, {
      get: (target, name) => {
        if (name === 'owner') this.ownerLookUps += 1;
        return Reflect.get(target, name) as unknown;
      },
    });
  }

  /** A cluster of nodes that are ready. */
  static async start(count: number, seed = 1): Promise<TestCluster> {
    const cluster = new TestCluster(seed);
    await Promise.all(Array.from({ length: count }, () => cluster.add()));
    return cluster;
  }

  /** Resolves when the new node is ready. */
  async add(times: Partial<ClusterTimes> = {}): Promise<ClusterNode> {
    const node = this.make(times);
    await node.start();
    return node;
  }

  /** A node that has not joined yet. `advertisedHost`: where it says that it can be reached. */
  make(times: Partial<ClusterTimes> = {}, advertisedHost = '127.0.0.1'): ClusterNode {
    const id = `n${this.nodes.length + 1}`;
    const node = new ClusterNode(this, id, { ...TIMES, ...times }, advertisedHost);
    this.nodes.push(node);
    return node;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.kill()));
  }
}

export class ClusterNode {
  readonly id: string;
  readonly node: Node;
  readonly cluster: Cluster;
  readonly reports: (ClusterReport | NodeReport)[] = [];
  readonly counters = new Counters();
  #ticker: NodeJS.Timeout | undefined;
  #clients = 0;

  constructor(
    { state, store, random, cutOff, waitingBytesMax }: TestCluster,
    id: string,
    times: ClusterTimes,
    advertisedHost: string,
  ) {
    this.id = id;
    const report = (report: ClusterReport | NodeReport): void => {
      this.reports.push(report);
    };
    this.cluster = new Cluster({
      state: new Proxy(state, {
        get: (target, name) => {
          if (cutOff.has(id)) return () => Promise.reject(new Error('cut off'));
          const value: unknown = Reflect.get(target, name);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      }),
      store,
      clock,
      host: '127.0.0.1',
      port: 0,
      advertisedHost,
      version: '0.1.0',
      security: { secret: 'of the test' },
      times,
      linkLimits: { reconnectMinMs: 10, reconnectMaxMs: 100 },
      ...(waitingBytesMax === undefined ? {} : { waitingBytesMax }),
      report,
    });
    this.node = new Node({
      nodeId: id,
      limits: DEFAULT_LIMITS,
      sharedStrategy: 'round-robin',
      store,
      peers: this.cluster.peers,
      access: {
        authenticate: () =>
          Promise.resolve({
            outcome: 'accepted',
            principal: { username: '', unrestricted: true },
          }),
        enhanced: () => undefined,
        authorize: () => true,
        revision: 0,
      },
      clock,
      random,
      scheduler: { defer: (callback) => void setImmediate(callback) },
      encoder: createPacketEncoder(),
      counters: this.counters,
      events: { report },
    });
  }

  async start(): Promise<void> {
    await this.cluster.join(this.node);
    await this.cluster.serving;
    this.#ticker = setInterval(() => {
      this.node.tick(0);
    }, 50);
  }

  /** Connects a client and waits for its CONNACK. */
  async connect({
    clientId = `${this.id}-${(this.#clients += 1)}`,
    clean = true,
    ...fields
  }: Omit<ConnectFields, 'password'> = {}): Promise<ClusterClient> {
    const channel = new MemoryChannel();
    const connection = this.node.accept(channel);
    const { limits, topics } = this.node;
    channel.open(
      new Decoder({
        handler: connection,
        topics,
        packetBytesMax: limits.packetBytesMax,
        connectBytesMax: limits.connectBytesMax,
        topicAliasMaximum: limits.topicAliasMaximum,
        topicLevelsMax: limits.topicLevelsMax,
      }),
      connection,
    );
    // Of a test node the client only needs that something happens, which here happens by itself.
    const node = { settle: () => Promise.resolve() } as unknown as TestNode;
    const client = new ClusterClient(new MemoryClient(node, channel, connection, 5));
    client.send({ cmd: 'connect', keepalive: 0, ...fields, clean, clientId });
    await client.next('connack');
    return client;
  }

  /** As SIGKILL: nothing is said to anybody. Clients hear nothing more. */
  async kill(): Promise<void> {
    clearInterval(this.#ticker);
    await this.cluster.vanish();
  }
}

export class ClusterClient {
  readonly memory: MemoryClient;
  #line: ReceivedPacket[] = [];
  #packetId = 0;

  constructor(memory: MemoryClient) {
    this.memory = memory;
  }

  get closed(): boolean {
    return this.memory.channel.ended;
  }

  send(packet: WirePacket): void {
    this.memory.send(packet);
  }

  /** Waits for a packet of this type and takes it out of the line. */
  async next<T extends WirePacketType>(type: T): Promise<ReceivedPacket<T>> {
    let index = -1;
    await until(`a ${type}`, () => {
      this.#line.push(...this.memory.packets());
      index = this.#line.findIndex(({ cmd }) => cmd === type);
      return index >= 0;
    });
    return this.#line.splice(index, 1)[0] as ReceivedPacket<T>;
  }

  /** What has come of this type, and is taken out of the line. */
  came<T extends WirePacketType>(type: T): ReceivedPacket<T>[] {
    this.#line.push(...this.memory.packets());
    const came = this.#line.filter(({ cmd }) => cmd === type);
    this.#line = this.#line.filter(({ cmd }) => cmd !== type);
    return came as ReceivedPacket<T>[];
  }

  async subscribe(topic: string, qos: 0 | 1 | 2 = 0): Promise<void> {
    const messageId = this.#nextId();
    this.send({ cmd: 'subscribe', messageId, subscriptions: [{ topic, qos }] });
    await this.next('suback');
  }

  async unsubscribe(topic: string): Promise<void> {
    this.send({ cmd: 'unsubscribe', messageId: this.#nextId(), unsubscriptions: [topic] });
    await this.next('unsuback');
  }

  /** Publishes; resolves with the reason code when it is acknowledged. */
  async publish({ payload = '', qos = 0, ...fields }: PublishFields): Promise<number> {
    const messageId = this.#nextId();
    this.send({
      cmd: 'publish',
      retain: false,
      dup: false,
      ...fields,
      qos,
      payload: Buffer.from(payload),
      ...(qos === 0 ? {} : { messageId }),
    });
    if (qos === 0) return 0;
    if (qos === 1) return (await this.next('puback')).reasonCode ?? 0;
    const { reasonCode = 0 } = await this.next('pubrec');
    this.send({ cmd: 'pubrel', messageId });
    await this.next('pubcomp');
    return reasonCode;
  }

  /** The payloads of the next messages; each is acknowledged. */
  async payloads(count: number): Promise<string[]> {
    const payloads: string[] = [];
    while (payloads.length < count) payloads.push(await this.payload());
    return payloads;
  }

  async payload(): Promise<string> {
    const { qos, messageId = 0, payload } = await this.next('publish');
    if (qos === 1) this.send({ cmd: 'puback', messageId });
    if (qos === 2) {
      this.send({ cmd: 'pubrec', messageId });
      await this.next('pubrel');
      this.send({ cmd: 'pubcomp', messageId });
    }
    return payload.toString();
  }

  #nextId(): number {
    this.#packetId = (this.#packetId % 65_535) + 1;
    return this.#packetId;
  }
}

export async function until(what: string, holds: () => boolean): Promise<void> {
  const giveUpMs = performance.now() + PATIENCE_MS;
  for (let turns = 0; !holds(); turns++) {
    if (performance.now() > giveUpMs) throw new Error(`${what} did not come`);
    await new Promise((resolve) => {
      if (turns < 50) setImmediate(resolve);
      else setTimeout(resolve, 1);
    });
  }
}

/** Remembers which node owns which connection, as a store on Redis does by itself. */
function remembering(store: StateStore, state: MemoryClusterState): StateStore {
  const overrides: Pick<StateStore, 'claim' | 'release'> = {
    claim: async (request) => {
      state.own(request.token, request.clientId);
      const claimed = await store.claim(request);
      if (claimed.previousToken !== '') state.disown(claimed.previousToken, request.clientId);
      return claimed;
    },
    release: async (request) => {
      const released = await store.release(request);
      state.disown(request.token, request.clientId);
      return released;
    },
  };
  return new Proxy(store, {
    get: (target, name) => {
      if (name === 'claim' || name === 'release') return overrides[name];
      const value: unknown = Reflect.get(target, name);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}
