import { X509Certificate } from 'node:crypto';
import { Cluster } from '@shoalmq/cluster';
import type { ClusterHealth, ClusterReport, ClusterStatus, LinkSecurity } from '@shoalmq/cluster';
import { noPeers } from '@shoalmq/core';
import type { Clock, Node, NodeDescriptor, Peers, Random, StateStore } from '@shoalmq/core';
import { createMemoryStore } from '@shoalmq/store-memory';
import { RedisClusterState, RedisConnection, RedisStore } from '@shoalmq/store-redis';
import type { Contents, RedisOptions } from '@shoalmq/store-redis';
import { readPemFiles } from './config/pem-files.ts';
import { parseRedisUrl } from './config/redis-url.ts';
import type { Config } from './config/schema.ts';
import { MEMORY_FACTS, RedisFacts } from './store-facts.ts';
import type { StoreFacts } from './store-facts.ts';
import type { ClusterMetrics } from './telemetry/cluster-metrics.ts';
import type { NodeLevels } from './telemetry/metrics.ts';
import { VERSION } from './version.ts';

/** Where a node keeps its state, and whom it shares it with. */
export interface Backing {
  readonly store: StateStore;
  readonly peers: Peers;
  /** Resolves when clients may come. */
  join(node: Node): Promise<void>;
  health(): ClusterHealth;
  /** The store answers. */
  storeUp(): boolean;
  /** How the store is set up; never rejects. */
  storeFacts(): Promise<StoreFacts>;
  sizes(node: Node): StoreSizes;
  /** `undefined`: there is no cluster. */
  metrics(): ClusterMetrics | undefined;
  /** Every node that has a lease, as this one knows it; none when there is no cluster. */
  nodes(): readonly NodeDescriptor[];
  /** The cluster as this node sees it; `undefined`: there is none, and none to join. */
  clusterStatus(): ClusterStatus | undefined;
  /** Tells the other nodes that no new clients come here. */
  announceDrain(): Promise<void>;
  /** Leaves the cluster and lets go of the store; once the connections are closed. */
  leave(): Promise<void>;
}

/** What a node can count without asking. `undefined`: not that. */
export type StoreSizes = Pick<
  NodeLevels,
  | 'sessionsConnected'
  | 'sessionsOffline'
  | 'retainedMessages'
  | 'retainedBytes'
  | 'queuedMessages'
  | 'queuedBytes'
>;

/** The memory of this process, or Redis when there is a cluster to join. */
export function createBacking(
  config: Config,
  parts: {
    readonly clock: Clock;
    readonly random: Random;
    readonly report: (report: ClusterReport) => void;
  },
): Backing {
  const options = redisOptions(config.cluster);
  if (options === undefined) return memoryBacking(config, parts);
  const security = linkSecurity(config.cluster);
  return clusterBacking(config, { redis: new RedisConnection(options), security }, parts);
}

/**
 * How the Redis of a cluster is reached; `undefined`: there is none.
 *
 * @throws ConfigError when a file cannot be used
 */
export function redisOptions(cluster: Config['cluster']): RedisOptions | undefined {
  const options = parseRedisUrl(cluster.redis);
  if (options === undefined) return undefined;
  const tls =
    options.tls === undefined
      ? undefined
      : readPemFiles(cluster, { ca: 'redisTlsCa', cert: 'redisTlsCert', key: 'redisTlsKey' });
  return {
    ...options,
    keyPrefix: cluster.keyPrefix,
    replicas: cluster.durability === 'replicated' ? cluster.replicas : 0,
    ...(tls === undefined ? {} : { tls }),
  };
}

/** `address`: host:port */
function advertised(address: string): { advertisedHost: string; advertisedPort: number } {
  const colon = address.lastIndexOf(':');
  return {
    advertisedHost: address.slice(0, colon),
    advertisedPort: Number(address.slice(colon + 1)),
  };
}

function linkSecurity(cluster: Config['cluster']): LinkSecurity {
  const settings = { ca: 'peerTlsCa', cert: 'peerTlsCert', key: 'peerTlsKey' } as const;
  const { ca, cert, key } = readPemFiles(cluster, settings);
  return {
    ...(cluster.secret === '' ? {} : { secret: cluster.secret }),
    ...(ca === undefined || cert === undefined || key === undefined
      ? {}
      : { tls: { ca, cert, key, identity: cluster.peerTlsIdentity } }),
  };
}

function memoryBacking(
  { limits }: Config,
  { clock, random }: { readonly clock: Clock; readonly random: Random },
): Backing {
  const store = createMemoryStore({ clock, random, limits });
  return {
    store,
    peers: noPeers,
    join: () => Promise.resolve(),
    health: () => ({ ready: true, problems: [] }),
    storeUp: () => true,
    storeFacts: () => Promise.resolve(MEMORY_FACTS),
    sizes: () => store.sizes(),
    metrics: () => undefined,
    nodes: () => [],
    clusterStatus: () => undefined,
    announceDrain: () => Promise.resolve(),
    leave: () => Promise.resolve(),
  };
}

function clusterBacking(
  { cluster: { peerHost, peerPort, peerAddress }, limits }: Config,
  { redis, security }: { readonly redis: RedisConnection; readonly security: LinkSecurity },
  {
    clock,
    random,
    report,
  }: {
    readonly clock: Clock;
    readonly random: Random;
    readonly report: (report: ClusterReport) => void;
  },
): Backing {
  const facts = new RedisFacts(redis);
  const certificateExpirySeconds =
    security.tls && Date.parse(new X509Certificate(security.tls.cert).validTo) / 1_000;
  const contents: Contents = {
    get generation() {
      return cluster.contents.generation;
    },
    confirm: () => cluster.contents.confirm(),
  };
  const store = new RedisStore({ redis, limits, clock, random, contents });
  // A message and what goes with it must fit into one item.
  const itemBytesMax = Math.max(16_777_216, limits.packetBytesMax + 1_048_576);
  const cluster = new Cluster({
    state: new RedisClusterState({ redis, random }),
    store,
    clock,
    host: peerHost,
    port: peerPort,
    ...(peerAddress === '' ? {} : advertised(peerAddress)),
    version: VERSION,
    security,
    linkLimits: { itemBytesMax },
    serverLimits: { itemBytesMax },
    report,
  });
  return {
    store,
    peers: cluster.peers,
    join: async (node) => {
      await cluster.join(node);
      await cluster.serving;
      // In a Redis Cluster a node learns of a change with its second renewal, which may be too late for a guard.
      if (!redis.isCluster) redis.guard(() => cluster.contents.confirm());
    },
    health: () => cluster.health(),
    storeUp: () => redis.status.state === 'up',
    storeFacts: () => facts.read(),
    // Sessions and queues are keys of Redis that no node has a list of: to count them would take a scan.
    sizes: (node) => ({
      sessionsConnected: node.connections.size,
      sessionsOffline: undefined,
      retainedMessages: node.retained.size - node.retainedMessages.localCount,
      retainedBytes: store.retainedBytes,
      queuedMessages: undefined,
      queuedBytes: undefined,
    }),
    metrics: () => ({
      status: cluster.status(),
      counters: cluster.counters,
      store: redis.metrics,
      certificateExpirySeconds,
    }),
    nodes: () => cluster.nodes,
    clusterStatus: () => cluster.status(),
    announceDrain: () => cluster.drain(),
    leave: async () => {
      await cluster.leave();
      await store.close();
    },
  };
}
