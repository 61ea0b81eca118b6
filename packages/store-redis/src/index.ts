export { RedisClusterState } from './cluster-state/redis-cluster-state.ts';
export type { RedisClusterStateOptions } from './cluster-state/redis-cluster-state.ts';
export { RedisConnection } from './connection/redis-connection.ts';
export type { StoreStatus } from './connection/redis-connection.ts';
export { REDIS_DEFAULTS } from './connection/redis-options.ts';
export type { RedisAddress, RedisOptions } from './connection/redis-options.ts';
export { StoreError } from './errors.ts';
export type { StoreErrorCode } from './errors.ts';
export { OwnedConnections } from './owned-connections.ts';
