/** The event loop, as far as the core knows it. */
export interface Scheduler {
  /** Runs `callback` in a later turn, after sockets had their chance: for long work done in slices. */
  defer(callback: () => void): void;
}
