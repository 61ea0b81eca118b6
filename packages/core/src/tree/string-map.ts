const SHARDS = 64;

/**
 * A map from client text to values, for millions of entries: a `Map` that grows to a million entries rehashes
 * them in one go, so this one is split into 64 that do so one at a time. The text only chooses the shard by our
 * own hash; inside the shard the engine's hash counts, which is seeded per process and cannot be flooded.
 */
export class StringMap<V> {
  readonly #shards: Map<string, V>[] = Array.from({ length: SHARDS }, () => new Map<string, V>());
  #size = 0;

  get size(): number {
    return this.#size;
  }

  get(key: string): V | undefined {
    return this.#shard(key).get(key);
  }

  set(key: string, value: V): void {
    const shard = this.#shard(key);
    const before = shard.size;
    shard.set(key, value);
    this.#size += shard.size - before;
  }

  delete(key: string): boolean {
    const existed = this.#shard(key).delete(key);
    if (existed) this.#size -= 1;
    return existed;
  }

  #shard(key: string): Map<string, V> {
    let hash = 0;
    for (let i = 0; i < key.length; i++) hash = (Math.imul(hash, 31) + key.charCodeAt(i)) | 0;
    hash = Math.imul(hash, 0x9e3779b1) >>> 26;
    return this.#shards[hash] as Map<string, V>;
  }
}
