/**
 * What the nodes of a cluster share besides sessions: who they are, who subscribes to what, and which topics have a
 * retained message. Implemented on Redis; used by the package `cluster`, which keeps every node's tables equal to it.
 */

/** One life of a node: a restarted node has the same id and another incarnation. */
export interface NodeIdentity {
  /** Unique among the nodes that live; [A-Za-z0-9._-]. */
  readonly id: string;
  /** Random, new at each start. */
  readonly incarnation: string;
}

/** `joining`: does not know all routes yet; `serving`; `draining`: takes no new connections. */
export type NodeState = 'joining' | 'serving' | 'draining';

/** A node as the others see it. */
export interface NodeDescriptor extends NodeIdentity {
  /** Where its peers reach it, host:port. */
  readonly address: string;
  /** Version of Shoal, semantic. */
  readonly version: string;
  readonly state: NodeState;
  /** Clients that are connected to it; not told by earlier versions. */
  readonly connections?: number;
  /** `Membership.generation` for which it has written again what it answers for; not told by earlier versions. */
  readonly generation?: string;
  /** Milliseconds since its route table was last known to be complete; -1: never yet. */
  readonly routeLagMs?: number;
}

/** What `renewLease` learned. */
export interface Membership {
  /** Every node with a lease, this one included. */
  readonly nodes: readonly NodeDescriptor[];
  /** Nodes that were known once, have no lease and are not buried yet. */
  readonly dead: readonly NodeIdentity[];
  /**
   * Names the contents of the store: changes when it came back empty or was replaced by a replica that may have
   * missed writes. Compared by equality.
   */
  readonly generation: string;
}

/**
 * A fact of the shared route table. Three kinds:
 * - `node`: a node has clean sessions subscribed to the filter (`weight` of them when it is shared, else 1);
 * - `session`: a persistent session is subscribed, with its options;
 * - `retained`: the topic (in `filter`) has a retained message.
 */
export type SharedFact =
  | {
      readonly kind: 'node';
      readonly node: NodeIdentity;
      /** As the client wrote it, `$share/...` included. */
      readonly filter: string;
      readonly weight: number;
    }
  | {
      readonly kind: 'session';
      readonly clientId: string;
      readonly incarnation: string;
      readonly filter: string;
      /** QoS, No Local, Retain As Published and subscription identifier, packed by the caller; opaque here. */
      readonly options: string;
    }
  | { readonly kind: 'retained'; readonly filter: string };

/** Adds (or replaces) or removes a fact. Facts are the same when all but `weight` and `options` are equal. */
export interface FactChange {
  readonly change: 'add' | 'remove';
  readonly fact: SharedFact;
}

/** How many buckets facts are spread over, by a hash of their filter that is the store's own; each has a log. */
export const FACT_BUCKETS = 64;

/** A place in the log of one bucket; later places are greater. Starts again with a new store generation. */
export type LogPosition = string;

export interface ClusterState {
  /**
   * Announces this node and says that it lives for `ttlMs` more by the store's clock. Called about once a second.
   * A rejected promise means that the lease may not have been renewed.
   */
  renewLease(self: NodeDescriptor, ttlMs: number): Promise<Membership>;
  /** This node leaves in good order: its lease ends now and nobody needs to bury it. */
  endLease(self: NodeIdentity): Promise<void>;
  /** A dead node's connections and routes have all been dealt with: it is forgotten. */
  bury(node: NodeIdentity): Promise<void>;

  /**
   * Writes changes to their buckets and the buckets' logs, each bucket in one step, in the given order. Idempotent:
   * facts that are there already, or gone already, are not logged again. Resolves with the positions that a node
   * must have reached to have seen them, by bucket.
   */
  changeFacts(changes: readonly FactChange[]): Promise<ReadonlyMap<number, LogPosition>>;
  /** All facts of a bucket, and the position of the log that they stand for. */
  loadBucket(
    bucket: number,
  ): Promise<{ readonly facts: readonly SharedFact[]; readonly position: LogPosition }>;
  /**
   * Changes after the given positions, by bucket, in order, at most `countMax` for each bucket. `lost`: the log does
   * not go back that far, load the bucket again.
   */
  readLog(
    positions: ReadonlyMap<number, LogPosition>,
    countMax: number,
  ): Promise<
    ReadonlyMap<
      number,
      { readonly changes: readonly FactChange[]; readonly position: LogPosition } | 'lost'
    >
  >;

  /**
   * Connections that a dead node owned and nobody has taken over, at most `limit` after `cursor`. Each survivor
   * releases its share of them with `StateStore.release`. An empty `cursor` starts, an empty `next` ends.
   */
  orphans(
    node: NodeIdentity,
    cursor: string,
    limit: number,
  ): Promise<{
    readonly connections: readonly { readonly clientId: string; readonly token: string }[];
    readonly next: string;
  }>;
}
