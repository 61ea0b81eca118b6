/** Capacity of the chunk a channel gets first: an output of a few packets. */
export const SMALL_CHUNK_BYTES = 4 * 1024;
/** Capacity of the chunk that follows when the first one is full; the size of one write in bulk. */
export const LARGE_CHUNK_BYTES = 64 * 1024;
/** The most that is kept for reuse: 1 MiB of small and 4 MiB of large chunks; what exceeds it is garbage. */
const SMALL_CHUNKS_MAX = 256;
const LARGE_CHUNKS_MAX = 64;

/** Stands for "no chunk": every `reserve` on it takes the slow path. */
export const NO_BYTES = new Uint8Array(0);

const small: Uint8Array[] = [];
const large: Uint8Array[] = [];

/**
 * Takes a chunk with room for `count` bytes out of the pool of the process. Its contents are arbitrary. Above
 * `LARGE_CHUNK_BYTES` it has exactly that size and is not pooled afterwards.
 */
export function takeChunk(count: number): Uint8Array {
  if (count <= SMALL_CHUNK_BYTES) return small.pop() ?? new Uint8Array(SMALL_CHUNK_BYTES);
  if (count <= LARGE_CHUNK_BYTES) return large.pop() ?? new Uint8Array(LARGE_CHUNK_BYTES);
  return new Uint8Array(count);
}

/** Gives a chunk back. Nobody may hold a view of it any more. */
export function releaseChunk(chunk: Uint8Array): void {
  // Last in, first out: the chunk used next is the one still in the processor's cache.
  if (chunk.length === SMALL_CHUNK_BYTES) {
    if (small.length < SMALL_CHUNKS_MAX) small.push(chunk);
  } else if (chunk.length === LARGE_CHUNK_BYTES) {
    if (large.length < LARGE_CHUNKS_MAX) large.push(chunk);
  }
}
