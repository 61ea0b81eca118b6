import { FACT_BUCKETS } from '@shoalmq/core';
import type {
  Clock,
  ClusterState,
  FactChange,
  LogPosition,
  Membership,
  NodeDescriptor,
  NodeIdentity,
  OwnerToken,
  Random,
  SharedFact,
} from '@shoalmq/core';

/** What a memory cluster state is made of. */
export interface MemoryClusterStateOptions {
  /** Leases run by its wall clock. */
  readonly clock: Clock;
  readonly random: Random;
  /** Changes that the log of each bucket keeps. */
  readonly logLengthMax?: number;
}

/** All that a memory cluster state held at one moment: what a replica has that is a little behind. */
export interface ClusterSnapshot {
  readonly brand: 'ClusterSnapshot';
}

interface Registered {
  readonly descriptor: NodeDescriptor;
  leaseEndsAtMs: number;
}

interface LogEntry {
  readonly position: LogPosition;
  /** Position of the entry that this one was appended to: where a reader stands that misses nothing. */
  readonly previous: LogPosition;
  readonly change: FactChange;
}

interface Bucket {
  readonly facts: Map<string, SharedFact>;
  log: LogEntry[];
  last: LogPosition;
}

interface Contents {
  generation: string;
  /** By node id and incarnation. */
  readonly nodes: Map<string, Registered>;
  readonly buckets: Bucket[];
  /** By node id and incarnation; in each, connections by client id and token. */
  readonly owned: Map<string, Map<string, OwnedConnection>>;
}

interface OwnedConnection {
  readonly clientId: string;
  readonly token: OwnerToken;
}

const LOG_START = positionOf(0);

/**
 * The `ClusterState` of nodes that live in one process: for simulations and tests. All nodes share one. Every call
 * takes effect before it returns. A simulation delays, loses and repeats calls in front of it; `lose` and `failOver`
 * are the faults of the store itself.
 */
export class MemoryClusterState implements ClusterState {
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #logLengthMax: number;
  #contents: Contents;
  /** Goes on when the store is lost, as the clock does by which Redis numbers the entries of a stream. */
  #logEntries = 0;
  /** Lives of nodes that have held a lease: these renew it, others take it. */
  readonly #announced = new Set<string>();

  constructor({ clock, random, logLengthMax = 10_000 }: MemoryClusterStateOptions) {
    this.#clock = clock;
    this.#random = random;
    this.#logLengthMax = logLengthMax;
    this.#contents = this.#empty();
  }

  /** The store comes back empty. */
  lose(): void {
    this.#contents = this.#empty();
  }

  snapshot(): ClusterSnapshot {
    return structuredClone(this.#contents) as unknown as ClusterSnapshot;
  }

  /** A replica takes over that knows nothing of what was written after the snapshot. */
  failOver(snapshot: ClusterSnapshot): void {
    this.#contents = structuredClone(snapshot) as unknown as Contents;
    this.#contents.generation = this.#random.id();
  }

  /** The connection that `token` names is about to claim the session of `clientId`. */
  own(token: OwnerToken, clientId: string): void {
    const node = token.slice(0, token.lastIndexOf('#'));
    const owned = this.#contents.owned.get(node) ?? new Map<string, OwnedConnection>();
    this.#contents.owned.set(node, owned);
    owned.set(textKey(clientId, token), { clientId, token });
  }

  /** The connection that `token` names has released that session. */
  disown(token: OwnerToken, clientId: string): void {
    const node = token.slice(0, token.lastIndexOf('#'));
    const owned = this.#contents.owned.get(node);
    owned?.delete(textKey(clientId, token));
    if (owned?.size === 0) this.#contents.owned.delete(node);
  }

  async renewLease(self: NodeDescriptor, ttlMs: number): Promise<Membership> {
    const { nodes, generation } = this.#contents;
    const nowMs = this.#clock.wallMs();
    const key = nodeKey(self);
    const rivals = [...nodes.values()].filter(
      ({ descriptor }) => descriptor.id === self.id && nodeKey(descriptor) !== key,
    );
    if (this.#announced.has(key)) {
      if (rivals.some(({ leaseEndsAtMs }) => leaseEndsAtMs > nowMs)) {
        const message = `another process has started as node ${self.id} after this one`;
        throw Object.assign(new Error(message), { code: 'SHOAL_NODE_REPLACED' });
      }
    } else {
      for (const rival of rivals) rival.leaseEndsAtMs = 0;
      this.#announced.add(key);
    }
    nodes.set(key, { descriptor: { ...self }, leaseEndsAtMs: nowMs + ttlMs });
    const all = [...nodes.values()];
    return {
      nodes: all.filter((node) => node.leaseEndsAtMs > nowMs).map((node) => node.descriptor),
      dead: all
        .filter((node) => node.leaseEndsAtMs <= nowMs)
        .map(({ descriptor: { id, incarnation } }) => ({ id, incarnation })),
      generation,
    };
  }

  async endLease(self: NodeIdentity): Promise<void> {
    this.#contents.nodes.delete(nodeKey(self));
  }

  async bury(node: NodeIdentity): Promise<void> {
    const registered = this.#contents.nodes.get(nodeKey(node));
    if (registered === undefined || registered.leaseEndsAtMs > this.#clock.wallMs()) return;
    this.#contents.nodes.delete(nodeKey(node));
  }

  async changeFacts(changes: readonly FactChange[]): Promise<ReadonlyMap<number, LogPosition>> {
    const positions = new Map<number, LogPosition>();
    for (const change of changes) {
      const number = bucketOf(change.fact.filter);
      const bucket = this.#bucket(number);
      this.#change(bucket, change);
      positions.set(number, bucket.last);
    }
    return positions;
  }

  async loadBucket(
    bucket: number,
  ): Promise<{ readonly facts: readonly SharedFact[]; readonly position: LogPosition }> {
    const { facts, last } = this.#bucket(bucket);
    return { facts: [...facts.values()], position: last };
  }

  async readLog(
    positions: ReadonlyMap<number, LogPosition>,
    countMax: number,
  ): Promise<
    ReadonlyMap<
      number,
      { readonly changes: readonly FactChange[]; readonly position: LogPosition } | 'lost'
    >
  > {
    return new Map(
      [...positions].map(([bucket, position]) => [bucket, this.#read(bucket, position, countMax)]),
    );
  }

  async orphans(
    node: NodeIdentity,
    cursor: string,
    limit: number,
  ): Promise<{
    readonly connections: readonly { readonly clientId: string; readonly token: string }[];
    readonly next: string;
  }> {
    const owned = [...(this.#contents.owned.get(nodeKey(node)) ?? [])]
      .filter(([key]) => key > cursor)
      .sort(([a], [b]) => (a < b ? -1 : 1));
    const page = owned.slice(0, limit);
    return {
      connections: page.map(([, connection]) => connection),
      next: owned.length > limit ? (page.at(-1)?.[0] ?? '') : '',
    };
  }

  #change(bucket: Bucket, change: FactChange): void {
    const { facts } = bucket;
    const key = factKey(change.fact);
    const present = facts.get(key);
    if (change.change === 'remove') {
      if (present === undefined) return;
      facts.delete(key);
    } else {
      if (present !== undefined && payloadOf(present) === payloadOf(change.fact)) return;
      facts.set(key, change.fact);
    }
    const position = positionOf(++this.#logEntries);
    bucket.log.push({ position, previous: bucket.last, change });
    bucket.last = position;
    // Half of it goes at a time, so that a change costs the same however long the log is.
    if (bucket.log.length > 2 * this.#logLengthMax) {
      bucket.log = bucket.log.slice(-this.#logLengthMax);
    }
  }

  #read(
    number: number,
    position: LogPosition,
    countMax: number,
  ): { readonly changes: readonly FactChange[]; readonly position: LogPosition } | 'lost' {
    const later = this.#bucket(number).log.filter((entry) => entry.position > position);
    if (later[0] !== undefined && later[0].previous !== position) return 'lost';
    const page = later.slice(0, countMax);
    return {
      changes: page.map(({ change }) => change),
      position: page.at(-1)?.position ?? position,
    };
  }

  #bucket(number: number): Bucket {
    const bucket = this.#contents.buckets[number];
    if (bucket === undefined) throw new RangeError(`there is no bucket ${number}`);
    return bucket;
  }

  #empty(): Contents {
    return {
      generation: this.#random.id(),
      nodes: new Map(),
      buckets: Array.from({ length: FACT_BUCKETS }, () => ({
        facts: new Map(),
        log: [],
        last: LOG_START,
      })),
      owned: new Map(),
    };
  }
}

/** Positions are compared as text. */
function positionOf(entry: number): LogPosition {
  return String(entry).padStart(16, '0');
}

function nodeKey({ id, incarnation }: NodeIdentity): string {
  return `${id}#${incarnation}`;
}

function factKey(fact: SharedFact): string {
  switch (fact.kind) {
    case 'node':
      return textKey('node', fact.node.id, fact.node.incarnation, fact.filter);
    case 'session':
      return textKey('session', fact.clientId, fact.incarnation, fact.filter);
    case 'retained':
      return textKey('retained', fact.filter);
  }
}

/** What may differ between two facts that are the same. */
function payloadOf(fact: SharedFact): string | number {
  switch (fact.kind) {
    case 'node':
      return fact.weight;
    case 'session':
      return fact.options;
    case 'retained':
      return '';
  }
}

/** A key that no other list of texts has, whatever is in them. */
function textKey(...texts: readonly string[]): string {
  return texts.map((text) => `${text.length}:${text}`).join('');
}

function bucketOf(filter: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < filter.length; i++) {
    hash = Math.imul(hash ^ filter.charCodeAt(i), 0x01000193);
  }
  return (hash >>> 8) % FACT_BUCKETS;
}
