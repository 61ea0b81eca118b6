/** Randomness for the core, which has none of its own; seeded in simulations. */
export interface Random {
  /** A fresh unguessable identifier of 22 characters out of [A-Za-z0-9_-]. */
  id(): string;
  /** An integer in [0, bound). */
  integer(bound: number): number;
}
