/**
 * Which QoS 2 messages this node has given to clean sessions here. The node of their publisher may die before the
 * publisher hears of it; then another node repeats them under the same uid, and clean sessions have no queue in the
 * store that would know it (P2).
 *
 * A uid is remembered until it is settled. Those that nobody settles, because their publisher never came back, are
 * bounded: the oldest go.
 */
export class GivenUids {
  readonly #max: number;
  /** Uid -> the full filters of the shared groups that got it, '' for everybody else who subscribed. */
  readonly #given = new Map<string, Set<string>>();

  constructor(max: number = GIVEN_MAX) {
    this.#max = max;
  }

  get size(): number {
    return this.#given.size;
  }

  /** Notes that `to` (a full filter, or '') is given the message. False when it has been already. */
  add(uid: string, to: string): boolean {
    const given = this.#given.get(uid);
    if (given !== undefined) {
      if (given.has(to)) return false;
      given.add(to);
      return true;
    }
    this.#given.set(uid, new Set([to]));
    if (this.#given.size > this.#max) {
      const [oldest] = this.#given.keys();
      this.#given.delete(oldest!);
    }
    return true;
  }

  /** The message will not be repeated. */
  settle(uid: string): void {
    this.#given.delete(uid);
  }
}

const GIVEN_MAX = 100_000;
