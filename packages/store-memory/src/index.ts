export { MemoryStore, WILL_LEASE_MS, createMemoryStore } from './memory-store.ts';
export type { MemoryStoreOptions, MemoryStoreSizes } from './memory-store.ts';
