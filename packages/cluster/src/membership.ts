import type {
  Clock,
  ClusterState,
  Membership as View,
  NodeDescriptor,
  NodeState,
} from '@shoalmq/core';

export interface MembershipParts {
  readonly state: ClusterState;
  readonly clock: Clock;
  readonly self: () => Omit<NodeDescriptor, 'state'>;
  /** Milliseconds between renewals. */
  readonly renewMs: number;
  /** Milliseconds for which a lease holds. */
  readonly leaseMs: number;
}

/** What a membership tells. */
export interface MembershipEvents {
  /**
   * The lease was renewed. `lapsed`: it had not been valid all the time since the last one. `outage`: it took so long
   * that others, who could not renew theirs either, may have lost them.
   */
  onRenewed(view: View, since: { readonly lapsed: boolean; readonly outage: boolean }): void;
  onFailed(error: unknown): void;
  /** The lease may have ended. Told once, as soon as somebody looks. */
  onSuspended(): void;
}

/**
 * This node's lease. It is taken to begin when its renewal was asked for, so it never lasts longer here than in the
 * store, and it is measured by the monotonic clock whenever somebody asks: a process that was paused does not act on
 * a lease that has ended meanwhile.
 */
export class Membership {
  readonly #parts: MembershipParts;
  readonly #events: MembershipEvents;
  #state: NodeState = 'joining';
  #validUntilMs = -Infinity;
  #renewedAtMs = Infinity;
  #suspended = false;
  #renewedOnce = false;
  #renewing: Promise<void> | undefined;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  constructor(parts: MembershipParts, events: MembershipEvents) {
    this.#parts = parts;
    this.#events = events;
  }

  /** As the other nodes are told at the next renewal. */
  get state(): NodeState {
    return this.#state;
  }

  /** Whether this node has its lease now. */
  get valid(): boolean {
    return this.#check();
  }

  /** Renews the lease from now on. Resolves after the first attempt. */
  start(): Promise<void> {
    return this.renew();
  }

  /** The other nodes hear of it at once. */
  setState(state: NodeState): Promise<void> {
    this.#state = state;
    return this.renew();
  }

  /** Renews now. Resolves when a renewal that was begun after the call has succeeded or failed. */
  async renew(): Promise<void> {
    if (this.#closed) return;
    if (this.#renewing !== undefined) {
      this.#again = true;
      await this.#renewing;
      return;
    }
    this.#renewing = this.#run();
    await this.#renewing;
  }

  /** Stops renewing, and ends the lease when `end`. */
  async close({ end }: { readonly end: boolean }): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#timer);
    await this.#renewing;
    this.#validUntilMs = -Infinity;
    if (end) await this.#parts.state.endLease(this.#parts.self()).catch(() => undefined);
  }

  async #run(): Promise<void> {
    clearTimeout(this.#timer);
    do {
      this.#again = false;
      await this.#renewOnce();
    } while (this.#goesOnAtOnce());
    this.#renewing = undefined;
    if (!this.#closed) this.#timer = setTimeout(() => void this.renew(), this.#parts.renewMs);
  }

  #check(): boolean {
    if (this.#parts.clock.monotonicMs() < this.#validUntilMs) return true;
    if (this.#renewedOnce && !this.#suspended) {
      this.#suspended = true;
      this.#events.onSuspended();
    }
    return false;
  }

  #goesOnAtOnce(): boolean {
    return this.#again && !this.#closed;
  }

  async #renewOnce(): Promise<void> {
    const { state, clock, self, leaseMs } = this.#parts;
    const beganAtMs = clock.monotonicMs();
    try {
      const view = await state.renewLease({ ...self(), state: this.#state }, leaseMs);
      if (this.#closed) return;
      // Asked for, so that the end of the old lease does not pass unnoticed.
      const lapsed = this.#renewedOnce && !this.#check();
      const nowMs = clock.monotonicMs();
      if (nowMs >= beganAtMs + leaseMs) {
        // The answer came after the lease that it speaks of.
        this.#again = true;
        return;
      }
      const outage = nowMs - this.#renewedAtMs >= leaseMs / 2;
      this.#renewedAtMs = nowMs;
      this.#validUntilMs = beganAtMs + leaseMs;
      this.#renewedOnce = true;
      this.#suspended = false;
      this.#events.onRenewed(view, { lapsed, outage });
    } catch (error) {
      if (this.#closed) return;
      this.#events.onFailed(error);
      this.#check();
    }
  }
}
