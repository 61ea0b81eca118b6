/**
 * Judges the sequence numbers of one publisher as one subscriber sees them.
 *
 * A number above the next expected one opens a gap; a number from a gap that comes later was out of
 * order; a number seen before is a duplicate. What is still missing at the end is lost.
 */
export class SequenceChecker {
  /** The lowest number that is above all numbers seen: what the subscriber has got past. */
  next = 0;
  /** Different numbers seen. */
  unique = 0;
  duplicates = 0;
  outOfOrder = 0;
  readonly #missing = new Set<number>();

  /** Takes a number that is not `next`; the caller handles the expected one itself, for speed. */
  unexpected(sequence: number): void {
    if (sequence > this.next) {
      for (let gap = this.next; gap < sequence; gap += 1) this.#missing.add(gap);
      this.next = sequence + 1;
      this.unique += 1;
    } else if (this.#missing.delete(sequence)) {
      this.outOfOrder += 1;
      this.unique += 1;
    } else {
      this.duplicates += 1;
    }
  }

  /** Takes any number. */
  accept(sequence: number): void {
    if (sequence === this.next) {
      this.next += 1;
      this.unique += 1;
    } else {
      this.unexpected(sequence);
    }
  }

  /** How many of the first `sent` numbers never came. */
  lost(sent: number): number {
    return sent - this.unique;
  }
}
