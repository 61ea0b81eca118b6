import { createHash } from 'node:crypto';
import type {
  ClusterState,
  FactChange,
  LogPosition,
  Membership,
  NodeDescriptor,
  NodeIdentity,
  Random,
  SharedFact,
} from '@shoalmq/core';
import type { RedisCalls, RedisConnection } from '../connection/redis-connection.ts';
import { StoreError } from '../errors.ts';
import { OwnedConnections } from '../owned-connections.ts';
import { keysOf } from '../keys.ts';
import type { Keys } from '../keys.ts';
import { FactLog } from './fact-log.ts';
import type { LogPage } from './fact-log.ts';
import { buryNode, nodeField, renewLease } from './leases.ts';
import { PrimaryHistories } from './primary-histories.ts';

/** What a cluster state on Redis is made of. */
export interface RedisClusterStateOptions {
  readonly redis: RedisConnection;
  readonly random: Random;
  /**
   * Changes that the log of each of the 64 buckets keeps at least, in about 150 bytes each: a node that has missed
   * more loads the bucket again. 10,000 by default.
   */
  readonly logLengthMax?: number;
  /** Milliseconds after which a call has failed: whoever calls tries again, and says so. 10,000 by default. */
  readonly deadlineMs?: number;
}

const DEADLINE_MS = 10_000;

/**
 * The `ClusterState` of one node, on Redis.
 *
 * The generation changes when Redis comes back without the text that names it (empty), and when a primary has another
 * replication history: it started again, or is a replica that was promoted, with all writes or without. It also changes
 * when no write was lost: after a failover that was asked for, when the first replica ever is attached, an hour
 * (`repl-backlog-ttl`) after the last one left, and when primaries are added to or leave a Redis Cluster. Not detected
 * are a single primary of a Redis Cluster that is flushed (its logs then say `lost` at their next change), and a
 * primary that was cut off and does not know yet that it was replaced: `min-replicas-to-write` bounds that.
 *
 * In a Redis Cluster the histories are asked for with each renewal and used as they are known then, so a change is
 * seen with the renewal after the next at the latest.
 */
export class RedisClusterState implements ClusterState {
  readonly #redis: RedisCalls;
  readonly #random: Random;
  readonly #keys: Keys;
  readonly #facts: FactLog;
  readonly #owned: OwnedConnections;
  readonly #histories: PrimaryHistories;
  /** The life of this node that has had a lease. */
  #announced = '';

  constructor({
    redis: connection,
    random,
    logLengthMax = 10_000,
    deadlineMs = DEADLINE_MS,
  }: RedisClusterStateOptions) {
    const redis = connection.within(deadlineMs);
    this.#redis = redis;
    this.#random = random;
    this.#keys = keysOf(redis.keyPrefix);
    this.#facts = new FactLog(redis, logLengthMax);
    this.#owned = new OwnedConnections(redis);
    this.#histories = new PrimaryHistories(redis);
  }

  /**
   * @throws StoreError SHOAL_NODE_REPLACED when a later life of this node has a lease: this one has to end
   */
  async renewLease(self: NodeDescriptor, ttlMs: number): Promise<Membership> {
    const { isCluster } = this.#redis;
    // Before the lease, so that the server that has both has said who it is when it answers.
    if (isCluster) this.#histories.ask().catch(() => undefined);
    const known = await renewLease(this.#redis, {
      keys: this.#keys,
      self,
      ttlMs,
      announced: this.#announced === nodeField(self),
      newGeneration: this.#random.id(),
    });
    if (known === 'taken') {
      throw new StoreError(
        'SHOAL_NODE_REPLACED',
        `another process has started as node ${self.id} after this one`,
      );
    }
    this.#announced = nodeField(self);
    const history = isCluster ? await this.#historyOfAll() : known.replicationId;
    const { nodes, dead, generation } = known;
    return { nodes, dead, generation: `${generation}.${history}` };
  }

  async endLease(self: NodeIdentity): Promise<void> {
    const key = this.#keys.nodes();
    await this.#redis.command(key, ['HDEL', key, nodeField(self)]);
  }

  async bury(node: NodeIdentity): Promise<void> {
    await buryNode(this.#redis, { keys: this.#keys, node });
  }

  changeFacts(changes: readonly FactChange[]): Promise<ReadonlyMap<number, LogPosition>> {
    return this.#facts.change(changes);
  }

  loadBucket(
    bucket: number,
  ): Promise<{ readonly facts: readonly SharedFact[]; readonly position: LogPosition }> {
    return this.#facts.load(bucket);
  }

  readLog(
    positions: ReadonlyMap<number, LogPosition>,
    countMax: number,
  ): Promise<ReadonlyMap<number, LogPage>> {
    return this.#facts.read(positions, countMax);
  }

  orphans(
    node: NodeIdentity,
    cursor: string,
    limit: number,
  ): Promise<{
    readonly connections: readonly { readonly clientId: string; readonly token: string }[];
    readonly next: string;
  }> {
    return this.#owned.scan(node, cursor, limit);
  }

  /** The histories of all primaries, short. Waits for those that have never been known. */
  async #historyOfAll(): Promise<string> {
    if (this.#histories.known() === undefined) await this.#histories.ask();
    const known = this.#histories.known();
    if (known === undefined) {
      throw new StoreError('SHOAL_STORE_UNAVAILABLE', 'not every primary of Redis is known');
    }
    return createHash('sha1').update(known).digest('base64url');
  }
}
