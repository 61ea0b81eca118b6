import type { Clock } from '@shoalmq/core';

/** A clock that stands still until it is told how much time has passed. */
export class FakeClock implements Clock {
  #nowMs: number;

  /** `startMs` is the first reading of both clocks; not 0, because 0 means "never" in places. */
  constructor(startMs = 1_000_000_000_000) {
    this.#nowMs = startMs;
  }

  monotonicMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs;
  }

  advance(ms: number): void {
    this.#nowMs += ms;
  }
}
