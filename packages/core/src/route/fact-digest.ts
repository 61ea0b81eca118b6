import type { NodeIdentity } from '../ports/cluster-state.ts';

/** Parts that the facts are spread over, each with a sum of its own. */
export const DIGEST_PARTS = 64;

/** First the lower and then the upper halves of two hashes that a text is mixed into together. */
let low = 0;
let high = 0;

/**
 * A sum of all shared facts that a node's tables hold, 64 bits for each of 64 parts: equal for equal facts, whatever the
 * order in which they came. Adding a fact and removing it are the same: each toggles its hash. Costs as much as reading
 * the texts of the fact once.
 */
export class FactDigest {
  /** For each part two words. */
  readonly sums = new Uint32Array(2 * DIGEST_PARTS);
  /** Told before the sum of a part changes. */
  onChange: ((part: number) => void) | undefined = undefined;

  /** `weight` as it counts: 1 unless the filter is shared. */
  toggleNode({ id, incarnation }: NodeIdentity, filter: string, weight: number): void {
    start(1);
    mix(id);
    mix(incarnation);
    mix(filter);
    mixNumber(weight);
    this.#toggle();
  }

  toggleSession(clientId: string, incarnation: string, filter: string, options: string): void {
    start(2);
    mix(clientId);
    mix(incarnation);
    mix(filter);
    mix(options);
    this.#toggle();
  }

  /** Names that begin with `$` are each node's own. */
  toggleRetained(name: string): void {
    if (name.startsWith('$')) return;
    start(3);
    mix(name);
    this.#toggle();
  }

  #toggle(): void {
    const first = finished(low);
    const second = finished(high);
    const part = first % DIGEST_PARTS;
    this.onChange?.(part);
    this.sums[2 * part]! ^= first;
    this.sums[2 * part + 1]! ^= second;
  }
}

function start(kind: number): void {
  low = 0x811c9dc5 ^ kind;
  high = 0x9747b28c ^ kind;
}

/** FNV-1a with two primes. The length keeps texts apart that look alike when joined. */
function mix(text: string): void {
  const { length } = text;
  for (let i = 0; i < length; i++) {
    const code = text.charCodeAt(i);
    low = Math.imul(low ^ code, 0x01000193);
    high = Math.imul(high ^ code, 0x5bd1e995);
  }
  mixNumber(length);
}

function mixNumber(value: number): void {
  low = Math.imul(low ^ value, 0x01000193);
  high = Math.imul(high ^ value, 0x5bd1e995) ^ (high >>> 15);
}

/** Spreads the last characters over all bits. */
function finished(hash: number): number {
  let mixed = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  mixed = Math.imul(mixed ^ (mixed >>> 13), 0xc2b2ae35);
  return (mixed ^ (mixed >>> 16)) >>> 0;
}
