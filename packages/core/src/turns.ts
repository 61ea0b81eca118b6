import type { Scheduler } from './ports/scheduler.ts';

/** Slices of long work that one turn of the event loop has room for. */
const SLICES_MAX = 8;

/**
 * Shares the turns of the event loop between everybody who has long work to do in slices: however many they are,
 * a turn takes no longer than a few slices. A slice is about a millisecond of work.
 */
export class Turns {
  readonly #scheduler: Scheduler;
  #waiting: (() => void)[] = [];
  /** Slices that ran in this turn. */
  #spent = 0;

  constructor(scheduler: Scheduler) {
    this.#scheduler = scheduler;
  }

  /** Runs a slice: now when this turn has room for it, otherwise in a later one, in the order of the calls. */
  take(slice: () => void): void {
    if (this.#spent >= SLICES_MAX) {
      this.#waiting.push(slice);
      return;
    }
    this.#spend(1);
    slice();
  }

  /** Resolves in a later turn that has room for a slice. */
  next(): Promise<void> {
    return new Promise((resolve) => {
      this.#scheduler.defer(() => {
        this.take(resolve);
      });
    });
  }

  #spend(slices: number): void {
    if (this.#spent === 0) {
      this.#scheduler.defer(() => {
        this.#begin();
      });
    }
    this.#spent += slices;
  }

  /** A turn begins: those that had to wait come first. */
  #begin(): void {
    this.#spent = 0;
    if (this.#waiting.length === 0) return;
    const slices = this.#waiting.slice(0, SLICES_MAX);
    this.#waiting = this.#waiting.slice(SLICES_MAX);
    this.#spend(slices.length);
    for (const slice of slices) slice();
  }
}
