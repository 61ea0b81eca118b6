import type { ConnectionOptions } from 'node:tls';

/** Where a Redis server, a Sentinel or a node of a Redis Cluster listens. */
export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

/** How Redis is reached. */
export interface RedisOptions {
  /**
   * `standalone`: one server. `sentinel`: `nodes` are Sentinels, which name the primary of `sentinelName`.
   * `cluster`: `nodes` are some nodes of a Redis Cluster, the others are found.
   */
  readonly mode: 'standalone' | 'sentinel' | 'cluster';
  /** At least one; `standalone` has exactly one. */
  readonly nodes: readonly RedisAddress[];
  /** Name of the primary that the Sentinels watch. */
  readonly sentinelName?: string;
  readonly sentinelUsername?: string;
  readonly sentinelPassword?: string;
  /** TLS to the servers (and to the Sentinels); absent: plain TCP. */
  readonly tls?: ConnectionOptions;
  /** ACL user and password of the servers. */
  readonly username?: string;
  readonly password?: string;
  /** Begins every key, so that several clusters of Shoal can share a Redis. */
  readonly keyPrefix?: string;
  /** Database number; a Redis Cluster has only 0. */
  readonly db?: number;
  /** Milliseconds a call may take with all its repetitions before it fails; absent: it waits for Redis. */
  readonly deadlineMs?: number;
  /** Milliseconds without a reply after which a connection is given up and its calls are sent again on a new one. */
  readonly replyTimeoutMs?: number;
  /** Milliseconds between attempts to connect, at most. */
  readonly reconnectMs?: number;
  /** Replicas that must confirm a write before it counts as done; 0: the primary is enough. */
  readonly replicas?: number;
}

/** What is used where `RedisOptions` says nothing. */
export const REDIS_DEFAULTS = {
  keyPrefix: 'shoal:',
  replyTimeoutMs: 3_000,
  reconnectMs: 500,
} as const;
