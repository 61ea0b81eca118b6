import type { RedisCall } from './redis-call.ts';

const COMPACT_FROM = 1_024;

/** Calls in order: in at the end, out at the front, both O(1). */
export class CallQueue {
  #calls: (RedisCall | undefined)[] = [];
  #head = 0;

  get length(): number {
    return this.#calls.length - this.#head;
  }

  push(call: RedisCall): void {
    this.#calls.push(call);
  }

  shift(): RedisCall | undefined {
    const call = this.#calls[this.#head];
    if (call === undefined) return undefined;
    this.#calls[this.#head] = undefined;
    this.#head += 1;
    if (this.#head === this.#calls.length) {
      this.#calls.length = this.#head = 0;
    } else if (this.#head >= COMPACT_FROM && this.#head * 2 > this.#calls.length) {
      this.#calls = this.#calls.slice(this.#head);
      this.#head = 0;
    }
    return call;
  }

  /** Takes everything out. */
  drain(): RedisCall[] {
    const calls = this.#calls.slice(this.#head) as RedisCall[];
    this.#calls.length = this.#head = 0;
    return calls;
  }
}
