import { Cluster } from '@shoalmq/cluster';
import { Decoder, createPacketEncoder } from '@shoalmq/codec';
import { Counters, DEFAULT_LIMITS, Node } from '@shoalmq/core';
import type { Peers, StateStore } from '@shoalmq/core';
import { SeededRandom } from '@shoalmq/testkit';
import { startTicker } from '@shoalmq/transport';
import { ClientConnection } from './network.ts';
import type { ClientHandler, Network } from './network.ts';
import type { Redis } from './redis.ts';
import { Zone } from './virtual-time.ts';
import type { VirtualTime } from './virtual-time.ts';

/** Makes a node worse than it is: what a test must notice. */
export interface Defect {
  store?(store: StateStore): StateStore;
  peers?(peers: Peers): Peers;
}

export interface SimulatedNodeParts {
  readonly time: VirtualTime;
  readonly network: Network;
  readonly redis: Redis;
  readonly seed: number;
  readonly defect: Defect;
}

/** One life of a node: the core and the cluster as they are, in a zone of their own. */
export class SimulatedNode {
  readonly name: string;
  readonly host: { readonly name: string; readonly zone: Zone };
  serving = false;
  leaving = false;
  readonly #parts: SimulatedNodeParts;
  readonly #connections = new Set<ClientConnection>();
  #node: Node | undefined;
  #cluster: Cluster | undefined;
  #idle: () => Promise<void> = () => Promise.resolve();

  constructor(name: string, life: number, parts: SimulatedNodeParts) {
    this.name = name;
    this.#parts = parts;
    this.host = { name, zone: new Zone(`${name}.${String(life)}`) };
    this.host.zone.afterEvent = () => {
      for (const connection of this.#connections) {
        connection.collect();
        if (connection.over) this.#connections.delete(connection);
      }
    };
    parts.time.after(1, this.host.zone, 'start', () => {
      this.#start();
    });
  }

  get alive(): boolean {
    return !this.host.zone.dead;
  }

  /** Clients are sent here. */
  get available(): boolean {
    return this.alive && this.serving && !this.leaving;
  }

  /** A client opens a connection. */
  connect(handler: ClientHandler): ClientConnection {
    const { time, network } = this.#parts;
    const connection = new ClientConnection({
      time,
      network,
      client: time.outside,
      node: this.host.zone,
      handler,
      accept: (channel) => {
        const node = this.#node!;
        const { limits, topics } = node;
        const accepted = node.accept(channel);
        const decoder = new Decoder({
          handler: accepted,
          topics,
          packetBytesMax: limits.packetBytesMax,
          connectBytesMax: limits.connectBytesMax,
          topicAliasMaximum: limits.topicAliasMaximum,
          topicLevelsMax: limits.topicLevelsMax,
        });
        return { decoder, connection: accepted };
      },
    });
    this.#connections.add(connection);
    return connection;
  }

  /** As SIGKILL: what was sent before still arrives. */
  kill(): void {
    const { time, network } = this.#parts;
    time.note(`kill ${this.host.zone.name}`);
    this.host.zone.dead = true;
    for (const connection of this.#connections) connection.break();
    network.changed(this.host);
  }

  /** As SIGSTOP: for the others there is only silence. */
  pause(): void {
    const { time, network } = this.#parts;
    time.note(`pause ${this.host.zone.name}`);
    time.pause(this.host.zone);
    network.changed(this.host);
  }

  resume(): void {
    const { time, network } = this.#parts;
    if (!this.host.zone.paused) return;
    time.note(`resume ${this.host.zone.name}`);
    time.resume(this.host.zone);
    network.changed(this.host);
  }

  /** Closes all connections and leaves the cluster in good order, then ends. */
  leave(): void {
    const { time, network } = this.#parts;
    this.leaving = true;
    time.note(`leave ${this.host.zone.name}`);
    time.after(0, this.host.zone, 'leave', () => {
      this.#node?.closeAll();
      void this.#cluster
        ?.leave()
        .then(() => this.#idle())
        .then(() => {
          time.after(1, this.host.zone, 'left', () => {
            time.note(`left ${this.host.zone.name}`);
            this.host.zone.dead = true;
            network.changed(this.host);
          });
        });
    });
  }

  /** Why the node does not serve, and what it waits for. */
  get problems(): readonly string[] {
    return this.#cluster?.health().problems ?? ['not started'];
  }

  #start(): void {
    const { time, network, redis, seed, defect } = this.#parts;
    const clock = { monotonicMs: () => time.elapsedMs, wallMs: () => Math.floor(time.nowMs) };
    const connected = redis.connect(this.host);
    this.#idle = connected.idle;
    const store = defect.store?.(connected.store) ?? connected.store;
    const cluster = new Cluster({
      state: connected.state,
      store,
      clock,
      host: this.name,
      port: 0,
      version: '0.1.0',
      security: {},
      transport: network.transportOf(this.host),
      report: (report) => {
        time.note(`${this.host.zone.name} ${JSON.stringify(report)}`);
      },
    });
    this.#cluster = cluster;
    const node = new Node({
      nodeId: this.name,
      limits: DEFAULT_LIMITS,
      sharedStrategy: 'round-robin',
      store,
      peers: defect.peers?.(cluster.peers) ?? cluster.peers,
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
      random: new SeededRandom(seed),
      scheduler: { defer: (callback) => void setImmediate(callback) },
      encoder: createPacketEncoder(),
      counters: new Counters(),
      events: {
        report: (report) => {
          time.note(`${this.host.zone.name} ${JSON.stringify(report)}`);
        },
      },
    });
    this.#node = node;
    startTicker(250, (_nowMs, stalledMs) => {
      node.tick(stalledMs);
    });
    void cluster
      .join(node)
      .then(() => cluster.serving)
      .then(() => {
        this.serving = true;
      });
  }
}
