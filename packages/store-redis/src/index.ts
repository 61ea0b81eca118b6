export { RedisConnection } from './connection/redis-connection.ts';
export type { StoreStatus } from './connection/redis-connection.ts';
export { REDIS_DEFAULTS } from './connection/redis-options.ts';
export type { RedisAddress, RedisOptions } from './connection/redis-options.ts';
export { StoreError } from './errors.ts';
export type { StoreErrorCode } from './errors.ts';
