import type { Eviction, Node } from '@shoalmq/core';
import type { Listener } from '@shoalmq/transport';
import type { Backing } from './backing.ts';
import type { Config } from './config/schema.ts';

export interface DrainParts {
  readonly node: Node;
  readonly backing: Pick<Backing, 'announceDrain' | 'nodes'>;
  readonly listener: Listener;
  readonly settings: Config['drain'];
}

export interface DrainOptions {
  /** Whether to go on listening until balancers have noticed. @default true */
  readonly balancerDelay?: boolean;
}

/** Milliseconds between two looks at what is to be done. */
const STEP_MS = 20;
/** Milliseconds in which the other nodes should hear of the drain; Redis may be away. */
const ANNOUNCE_MS = 2_000;
/** Milliseconds that work of the cluster that was begun gets to end. */
const SETTLE_MS = 5_000;
/** Of the time that a drain may take, so much is for the last connections. */
const LAST_MS = 2_000;

/**
 * A node lets its clients go to other nodes:
 *
 *   announced (`/lb` says 404, clients are still accepted) ──▶ not listening, evicting at a pace ──▶ settling ──▶ over
 *
 * Begins when it is made. A node without others that could serve its clients neither waits nor paces.
 */
export class Drain {
  /** Resolves when no connection is left, or time is up; never rejects. */
  readonly over: Promise<void>;
  readonly #parts: DrainParts;
  readonly #startedAtMs = performance.now();
  #eviction: Eviction | undefined;

  constructor(parts: DrainParts, { balancerDelay = true }: DrainOptions = {}) {
    this.#parts = parts;
    this.over = this.#run(balancerDelay);
  }

  /** Connections that are not gone yet. */
  get remaining(): number {
    return this.#eviction?.left ?? this.#parts.node.openConnections;
  }

  async #run(balancerDelay: boolean): Promise<void> {
    const { node, backing, listener, settings } = this.#parts;
    await Promise.race([backing.announceDrain(), pause(ANNOUNCE_MS)]);
    if (balancerDelay) {
      const delayMs = settings.balancerDelaySeconds * 1_000;
      await this.#until(delayMs, () => this.#others === 0);
    }
    await listener.close();
    node.retire();
    const { serverReference, willGraceSeconds } = settings;
    const eviction = node.evict({ serverReference, willGraceMs: willGraceSeconds * 1_000 });
    this.#eviction = eviction;
    const pace = new Pace();
    const maxMs = settings.maxSeconds * 1_000;
    await this.#until(maxMs, () => {
      eviction.advance(pace.next(this.#perSecond(maxMs)));
      return eviction.left === 0;
    });
    await this.#until(this.#elapsedMs + SETTLE_MS, () => node.idle);
  }

  /** The rate is the cluster's: nodes that drain together share it. It rises when time would run out. */
  #perSecond(maxMs: number): number {
    if (this.#others === 0) return Infinity;
    const { connectionsPerSecond } = this.#parts.settings;
    const draining = this.#parts.backing.nodes().filter(({ state }) => state === 'draining');
    const leftMs = maxMs - LAST_MS - this.#elapsedMs;
    const needed = leftMs > 0 ? (this.remaining * 1_000) / leftMs : Infinity;
    return Math.max(connectionsPerSecond / Math.max(draining.length, 1), needed);
  }

  /** Nodes that may take over clients. */
  get #others(): number {
    const { node, backing } = this.#parts;
    return backing.nodes().filter(({ state, incarnation }) => {
      return state === 'serving' && incarnation !== node.identity.incarnation;
    }).length;
  }

  get #elapsedMs(): number {
    return performance.now() - this.#startedAtMs;
  }

  /** Resolves when `done` or when the drain takes `ms`; asks now and then. */
  async #until(ms: number, done: () => boolean): Promise<void> {
    while (!done() && this.#elapsedMs < ms) await pause(STEP_MS);
  }
}

/** How many at a time make a rate. What was not used is not saved up for more than a moment. */
class Pace {
  #lastMs = performance.now();
  #owed = 1;

  next(perSecond: number): number {
    const nowMs = performance.now();
    const elapsedMs = Math.min(nowMs - this.#lastMs, 10 * STEP_MS);
    this.#lastMs = nowMs;
    if (perSecond === Infinity) return Infinity;
    this.#owed += (perSecond * elapsedMs) / 1_000;
    const count = Math.floor(this.#owed);
    this.#owed -= count;
    return count;
  }
}

function pause(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
