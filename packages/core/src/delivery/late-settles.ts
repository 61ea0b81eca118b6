import { Deque } from './deque.ts';
import type { PendingPublish } from './pending-publish.ts';

/**
 * How long a node may still be at a publish that its publisher has repeated elsewhere: cut off from the store it keeps
 * what it has to append, and goes on when it is back.
 */
const LATE_MS = 600_000;
const LATE_MAX = 100_000;

interface LateSettle {
  readonly pending: PendingPublish;
  readonly id: string;
  readonly dueAtMs: number;
}

/**
 * Uids of messages that were begun by another node and repeated by this one. Everybody has the message, but what the
 * other one may still send under the uid has to be known as a duplicate (P2): so they are settled much later. Bounded:
 * beyond, the oldest are settled before their time.
 */
export class LateSettles {
  readonly #late = new Deque<LateSettle>();
  readonly #max: number;

  constructor(max: number = LATE_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#late.length;
  }

  add(pending: PendingPublish, id: string, nowMs: number): void {
    this.#late.push({ pending, id, dueAtMs: nowMs + LATE_MS });
  }

  /** Calls `settle` for each whose time has come. */
  takeDue(nowMs: number, settle: (pending: PendingPublish, id: string) => void): void {
    for (let first = this.#late.peek(); first !== undefined; first = this.#late.peek()) {
      if (first.dueAtMs > nowMs && this.#late.length <= this.#max) return;
      this.#late.shift();
      settle(first.pending, first.id);
    }
  }
}
