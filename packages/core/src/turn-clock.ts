import type { Clock } from './ports/clock.ts';
import type { Scheduler } from './ports/scheduler.ts';

/**
 * The monotonic time of this turn of the event loop, read at most once in each: for durations that are measured for
 * every message, where asking the clock costs as much as a message.
 */
export class TurnClock {
  readonly #clock: Clock;
  readonly #scheduler: Scheduler;
  #nowMs = 0;
  #known = false;
  readonly #forget = () => {
    this.#known = false;
  };

  constructor(clock: Clock, scheduler: Scheduler) {
    this.#clock = clock;
    this.#scheduler = scheduler;
  }

  /** Milliseconds of `Clock.monotonicMs`, of some moment of this turn. */
  get nowMs(): number {
    if (!this.#known) {
      this.#known = true;
      this.#nowMs = this.#clock.monotonicMs();
      this.#scheduler.defer(this.#forget);
    }
    return this.#nowMs;
  }
}
