/**
 * Why somebody who waits for an item need not wait any longer. `acknowledged`: the peer has it; `late`: the deadline
 * passed, the peer gets it when it can be reached; `missed`: given up, the peer was told; `closed`: the peer is gone;
 * `failed`: it is, and what it left to others could not be kept.
 */
export type Outcome = 'acknowledged' | 'late' | 'missed' | 'closed' | 'failed';

/** Whoever waits until a peer has an item. */
export interface Settleable {
  /** Called exactly once, in the order of the items. May use the link. */
  settle(outcome: Outcome): void;
}

/** Slots of a ring at first, and at most of one that is kept when it is empty. Powers of two. */
const RING_MIN = 64;
const RING_KEPT_MAX = 65_536;

/** A queue of those who wait, as a ring: it costs nothing per item but the slot. */
export class SettleQueue {
  #ring = emptyRing(RING_MIN);
  #head = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  push(settleable: Settleable): void {
    if (this.#count === this.#ring.length) this.#grow();
    this.#ring[(this.#head + this.#count++) & (this.#ring.length - 1)] = settleable;
  }

  /** Settles the first `count`. What they do in turn, closing the link included, finds the queue in order. */
  settle(count: number, outcome: Outcome): void {
    for (; count > 0 && this.#count > 0; count--) {
      const first = this.#ring[this.#head]!;
      this.#ring[this.#head] = undefined;
      this.#head = (this.#head + 1) & (this.#ring.length - 1);
      this.#count--;
      if (this.#count === 0 && this.#ring.length > RING_KEPT_MAX) {
        this.#ring = emptyRing(RING_MIN);
        this.#head = 0;
      }
      first.settle(outcome);
    }
  }

  #grow(): void {
    const ring = emptyRing(this.#ring.length * 2);
    for (let i = 0; i < this.#count; i++) {
      ring[i] = this.#ring[(this.#head + i) & (this.#ring.length - 1)];
    }
    this.#ring = ring;
    this.#head = 0;
  }
}

function emptyRing(slots: number): (Settleable | undefined)[] {
  return new Array<Settleable | undefined>(slots).fill(undefined);
}
