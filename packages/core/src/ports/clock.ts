/** Time for the core, which has none of its own. */
export interface Clock {
  /** Milliseconds on a clock that never jumps; for keep alive, deadlines, round trips. */
  monotonicMs(): number;
  /** Milliseconds since 1970 on the clock that sessions and messages expire by. */
  wallMs(): number;
}
