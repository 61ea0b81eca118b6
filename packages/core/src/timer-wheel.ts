/**
 * One coarse timer for everything that has a deadline: a ring of slots, one per `granularityMs`, each a linked
 * list of timers. Arming and disarming are O(1) and allocate nothing; `advance` looks only at the slots that
 * passed. A timer fires at most `granularityMs` late (plus whatever the caller's tick is late) and never early.
 */

const SLOTS = 1024;

/** Something with a deadline. Armed at most once at a time; one owner may hold several. */
export class Timer {
  /** Point in time on the monotonic clock; meaningful while armed. */
  atMs = 0;
  next: Timer | undefined = undefined;
  previous: Timer | undefined = undefined;
  slot = -1;
  readonly owner: TimerOwner;
  constructor(owner: TimerOwner) {
    this.owner = owner;
  }
  get armed(): boolean {
    return this.slot >= 0;
  }
}

/** Gets a call when its timer fires. The timer is disarmed by then and may be armed again in the call. */
export interface TimerOwner {
  onTimer(nowMs: number): void;
}

export class TimerWheel {
  readonly #granularityMs: number;
  readonly #slots = new Array<Timer | undefined>(SLOTS).fill(undefined);
  /** The slot number (not yet wrapped) up to which time has been handled. */
  #position: number;

  constructor(nowMs: number, granularityMs = 250) {
    this.#granularityMs = granularityMs;
    this.#position = Math.floor(nowMs / granularityMs);
  }

  /** Arms, or moves, a timer. A time that has passed fires at the next `advance`. */
  arm(timer: Timer, atMs: number): void {
    if (timer.slot >= 0) this.disarm(timer);
    timer.atMs = atMs;
    const due = Math.max(Math.ceil(atMs / this.#granularityMs), this.#position + 1);
    const slot = due % SLOTS;
    const head = this.#slots[slot];
    timer.slot = slot;
    timer.next = head;
    timer.previous = undefined;
    if (head !== undefined) head.previous = timer;
    this.#slots[slot] = timer;
  }

  disarm(timer: Timer): void {
    if (timer.slot < 0) return;
    if (timer.previous === undefined) this.#slots[timer.slot] = timer.next;
    else timer.previous.next = timer.next;
    if (timer.next !== undefined) timer.next.previous = timer.previous;
    timer.next = undefined;
    timer.previous = undefined;
    timer.slot = -1;
  }

  /** Fires every timer whose time has come. Timers further away than one turn of the ring stay in their slot. */
  advance(nowMs: number): void {
    const target = Math.floor(nowMs / this.#granularityMs);
    const steps = Math.min(target - this.#position, SLOTS);
    const first = target - steps + 1;
    this.#position = Math.max(this.#position, target);
    for (let position = first; position <= target; position++) {
      let timer = this.#slots[position % SLOTS];
      const due: Timer[] = [];
      for (; timer !== undefined; timer = timer.next) if (timer.atMs <= nowMs) due.push(timer);
      for (const fired of due) {
        // An earlier one may have disarmed or moved this one.
        if (fired.slot < 0 || fired.atMs > nowMs) continue;
        this.disarm(fired);
        fired.owner.onTimer(nowMs);
      }
    }
  }
}
