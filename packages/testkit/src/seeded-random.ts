import type { Random } from '@shoalmq/core';

const ALPHABET = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';

/** Randomness that is the same for the same seed (mulberry32). Ids are unique in practice, and guessable. */
export class SeededRandom implements Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed | 0;
  }

  id(): string {
    let id = '';
    for (let i = 0; i < 22; i++) id += ALPHABET.charAt(this.integer(64));
    return id;
  }

  integer(bound: number): number {
    return Math.floor(this.#fraction() * bound);
  }

  /** In [0, 1). */
  #fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4_294_967_296;
  }
}
