/**
 * Growing columns of numbers and values. They grow by whole chunks that are never copied, so that a table of a
 * million rows has no doubling that stops the event loop, and never holds twice the memory it needs.
 */
const CHUNK_BITS = 14;
const CHUNK_LENGTH = 1 << CHUNK_BITS;
const CHUNK_MASK = CHUNK_LENGTH - 1;

/** The first chunk starts small and doubles: most tables stay small. */
const FIRST_LENGTH = 32;

/** Length that the chunk after `length` rows must have. */
function chunkLength(length: number): number {
  return length >= CHUNK_LENGTH ? CHUNK_LENGTH : Math.max(FIRST_LENGTH, length * 2);
}

/** 32 bit integers by row, 0 until set. Rows must have been made with `reserve`. */
export class IntColumn {
  readonly #chunks: Int32Array[] = [];
  #length = 0;

  /** Makes the rows below `length` exist. */
  reserve(length: number): void {
    while (this.#length < length) {
      const chunk = new Int32Array(chunkLength(this.#length));
      if (this.#length < CHUNK_LENGTH) {
        chunk.set(this.#chunks[0] ?? []);
        this.#chunks[0] = chunk;
        this.#length = chunk.length;
      } else {
        this.#chunks.push(chunk);
        this.#length += chunk.length;
      }
    }
  }

  get(row: number): number {
    return (this.#chunks[row >>> CHUNK_BITS] as Int32Array)[row & CHUNK_MASK] as number;
  }

  set(row: number, value: number): void {
    (this.#chunks[row >>> CHUNK_BITS] as Int32Array)[row & CHUNK_MASK] = value;
  }
}

/** Double precision numbers by row, 0 until set. Rows must have been made with `reserve`. */
export class DoubleColumn {
  readonly #chunks: Float64Array[] = [];
  #length = 0;

  /** Makes the rows below `length` exist. */
  reserve(length: number): void {
    while (this.#length < length) {
      const chunk = new Float64Array(chunkLength(this.#length));
      if (this.#length < CHUNK_LENGTH) {
        chunk.set(this.#chunks[0] ?? []);
        this.#chunks[0] = chunk;
        this.#length = chunk.length;
      } else {
        this.#chunks.push(chunk);
        this.#length += chunk.length;
      }
    }
  }

  get(row: number): number {
    return (this.#chunks[row >>> CHUNK_BITS] as Float64Array)[row & CHUNK_MASK] as number;
  }

  set(row: number, value: number): void {
    (this.#chunks[row >>> CHUNK_BITS] as Float64Array)[row & CHUNK_MASK] = value;
  }
}

/** Values by row, `undefined` until set. Rows must have been made with `reserve`. */
export class ValueColumn<V> {
  readonly #chunks: (V | undefined)[][] = [];
  #length = 0;

  /** Makes the rows below `length` exist. */
  reserve(length: number): void {
    while (this.#length < length) {
      const chunk = new Array<V | undefined>(chunkLength(this.#length)).fill(undefined);
      if (this.#length < CHUNK_LENGTH) {
        (this.#chunks[0] ?? []).forEach((value, row) => {
          chunk[row] = value;
        });
        this.#chunks[0] = chunk;
        this.#length = chunk.length;
      } else {
        this.#chunks.push(chunk);
        this.#length += chunk.length;
      }
    }
  }

  get(row: number): V | undefined {
    return (this.#chunks[row >>> CHUNK_BITS] as (V | undefined)[])[row & CHUNK_MASK];
  }

  set(row: number, value: V | undefined): void {
    (this.#chunks[row >>> CHUNK_BITS] as (V | undefined)[])[row & CHUNK_MASK] = value;
  }
}
