/** How the benchmark starts one kind of broker. */
export interface BrokerDriver {
  /** The name of its column. */
  readonly name: string;
  /** Where it keeps the state of sessions, and what has to survive for it to be kept. */
  readonly durability: string;
  /** Why it cannot be started here; undefined when it can. */
  readonly missing: () => string | undefined;
  /** Its version, for the report. */
  readonly version: () => Promise<string>;
  /** Starts it on free ports of 127.0.0.1; resolves when all its nodes accept connections. */
  readonly start: () => Promise<RunningBroker>;
}

/** A process of a broker that accepts connections; its CPU time and memory are measured. */
export interface RunningNode {
  readonly port: number;
  readonly pid: number;
  /** Where its metrics are; undefined when it has none. */
  readonly httpPort?: number;
  /** Where other nodes connect to it. */
  readonly peerPort?: number;
}

/** The Redis of a broker; its CPU time is measured apart. */
export interface RunningRedis {
  readonly port: number;
  readonly pid: number;
}

/** A broker that accepts connections, on one node or several. */
export interface RunningBroker {
  readonly nodes: readonly [RunningNode, ...RunningNode[]];
  readonly redis?: RunningRedis;
  /** Has another node join, and resolves when it is ready. */
  readonly join?: () => Promise<JoinedNode>;
  readonly stop: () => Promise<void>;
}

/** A node that has joined a running cluster. */
export interface JoinedNode extends RunningNode {
  /** From the start of the process until it said that it is ready. */
  readonly readyMs: number;
  /** Bytes of heap and array buffers that are in use, after a collection. */
  readonly usedBytes: () => Promise<number>;
  readonly stop: () => Promise<void>;
}

/** What single brokers say about where their state is. */
export const IN_MEMORY = 'memory';
/** What brokers with a Redis of their own that writes nothing to disk say. */
export const ON_PRIMARY = 'primary, not on disk';
