import { DIGEST_PARTS } from '@shoalmq/core';
import type { FactDigest } from '@shoalmq/core';

/** Sums that a part had lately, as many as are remembered. */
const REMEMBERED = 256;
/** Comparisons in a row in which a part must differ. */
const ROUNDS = 3;

interface Compared {
  /** What the peer had the last time. */
  readonly sums: Uint32Array;
  /** By part: how often in a row the peer had a sum that this node had neither before nor after. */
  readonly differs: Uint8Array;
}

/**
 * Compares the digest of this node with those of its peers. While facts change no two nodes have all of them at the same
 * time, so a peer is in order when this node had the same sum lately, or has it by the next comparison; and a part
 * differs only when that was so for none of three in a row.
 */
export class DigestComparison {
  readonly #digest: FactDigest;
  readonly #monotonicMs: () => number;
  readonly #rememberedMs: number;
  /** By part a ring of sums, and until when the part had them. */
  readonly #sums = new Uint32Array(2 * DIGEST_PARTS * REMEMBERED);
  readonly #untilMs = new Float64Array(DIGEST_PARTS * REMEMBERED).fill(-Infinity);
  readonly #next = new Uint8Array(DIGEST_PARTS);
  readonly #peers = new Map<string, Compared>();

  /** `rememberedMs`: for how long a sum counts that a part does not have any more. */
  constructor(digest: FactDigest, monotonicMs: () => number, rememberedMs: number) {
    this.#rememberedMs = rememberedMs;
    this.#digest = digest;
    this.#monotonicMs = monotonicMs;
    digest.onChange = (part) => {
      this.#remember(part);
    };
  }

  /** A peer has these sums. Returns whether its tables and those of this node differ for good. */
  compare(peer: string, sums: Uint32Array): boolean {
    const before = this.#peers.get(peer);
    const differs = before?.differs ?? new Uint8Array(DIGEST_PARTS);
    this.#peers.set(peer, { sums, differs });
    let confirmed = false;
    for (let part = 0; part < DIGEST_PARTS; part++) {
      const known = this.#had(part, sums) || (before !== undefined && this.#had(part, before.sums));
      differs[part] = known ? 0 : Math.min(differs[part]! + 1, ROUNDS);
      if (differs[part] === ROUNDS) confirmed = true;
    }
    return confirmed;
  }

  /** Nothing that was compared counts any more. */
  startAgain(): void {
    this.#peers.clear();
  }

  forget(peer: string): void {
    this.#peers.delete(peer);
  }

  #remember(part: number): void {
    const { sums } = this.#digest;
    const slot = part * REMEMBERED + this.#next[part]!;
    this.#next[part] = (this.#next[part]! + 1) % REMEMBERED;
    this.#sums[2 * slot] = sums[2 * part]!;
    this.#sums[2 * slot + 1] = sums[2 * part + 1]!;
    this.#untilMs[slot] = this.#monotonicMs();
  }

  #had(part: number, of: Uint32Array): boolean {
    const low = of[2 * part]!;
    const high = of[2 * part + 1]!;
    const { sums } = this.#digest;
    if (sums[2 * part] === low && sums[2 * part + 1] === high) return true;
    const sinceMs = this.#monotonicMs() - this.#rememberedMs;
    for (let slot = part * REMEMBERED; slot < (part + 1) * REMEMBERED; slot++) {
      if (
        this.#sums[2 * slot] === low &&
        this.#sums[2 * slot + 1] === high &&
        this.#untilMs[slot]! >= sinceMs
      ) {
        return true;
      }
    }
    return false;
  }
}
