/**
 * Capacity of a chunk of the pool: the largest frame. Twice as much costs a third more per byte: gRPC copies each frame to
 * memory of its own, and from 128 KiB on the C library maps and unmaps it every time.
 */
export const CHUNK_BYTES = 112 * 1024;
/** Chunks kept for reuse by the whole process: 3.5 MiB. */
const POOLED_CHUNKS_MAX = 32;

const pool: Uint8Array<ArrayBuffer>[] = [];

/** Memory for the frames of a link, one after the other. It goes back when the last of them is acknowledged. */
export class Chunk {
  /** Not a Buffer: encoders shall meet one kind of array only. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Frames that lie here, and the link while it writes here. */
  #users = 1;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.bytes = bytes;
  }

  /** Only the taker uses it. */
  get idle(): boolean {
    return this.#users === 1;
  }

  retain(): void {
    this.#users++;
  }

  release(): void {
    if (--this.#users > 0) return;
    if (this.bytes.length === CHUNK_BYTES && pool.length < POOLED_CHUNKS_MAX) pool.push(this.bytes);
  }
}

/** A chunk with room for `bytes`; its contents are arbitrary. */
export function takeChunk(bytes: number): Chunk {
  if (bytes > CHUNK_BYTES) return new Chunk(allocate(bytes));
  return new Chunk(pool.pop() ?? allocate(CHUNK_BYTES));
}

/** Without filling it with zeros. */
function allocate(bytes: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.allocUnsafeSlow(bytes).buffer);
}
