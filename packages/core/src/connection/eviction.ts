import type { Connection } from './connection.ts';

/** How a node that drains lets clients go. */
export interface Farewell {
  /** Where 5.0 clients are sent, in Server Reference with 0x9C; '': 0x8B, and they choose. */
  readonly serverReference: string;
  /** Milliseconds in which a client that comes back, to whatever node, cancels its will. */
  readonly willGraceMs: number;
}

/** Milliseconds that a client's publishes get to be kept. What is not acknowledged then, the client sends again. */
const SETTLE_MS = 10_000;
/** Milliseconds in which a session must be released. A store that is away must not keep the client here. */
const RELEASE_MS = 5_000;

interface Departure {
  readonly sinceMs: number;
  released: boolean;
}

/**
 * Sends the connections of a node away, as many at a time as its caller wants. Each in four steps, so that nothing is
 * lost on the way and the client finds its session free wherever it connects next:
 *
 *   (open) ── leave: not read any more ──▶ (settling) ── all acknowledged ──▶ (departing) ── released, DISCONNECT ──▶ gone
 */
export class Eviction {
  readonly #open: ReadonlySet<Connection>;
  readonly #farewell: Farewell;
  readonly #monotonicMs: () => number;
  /** Since when. */
  readonly #settling = new Map<Connection, number>();
  readonly #departing = new Map<Connection, Departure>();

  /** `open`: the connections of the node, which takes out those that end. */
  constructor(open: ReadonlySet<Connection>, farewell: Farewell, monotonicMs: () => number) {
    this.#open = open;
    this.#farewell = farewell;
    this.#monotonicMs = monotonicMs;
  }

  /** Connections that are not gone yet. */
  get left(): number {
    return this.#open.size + this.#departing.size;
  }

  /** Begins with up to `count` more connections, and goes on with those that it has begun with. Call it often. */
  advance(count: number): void {
    const nowMs = this.#monotonicMs();
    let begun = 0;
    for (const connection of this.#open) {
      if (begun >= count) break;
      if (this.#settling.has(connection)) continue;
      begun += 1;
      connection.leave();
      this.#settling.set(connection, nowMs);
    }
    for (const [connection, sinceMs] of this.#settling) {
      const waits = !connection.closed && !connection.settled;
      if (waits && nowMs - sinceMs < SETTLE_MS) continue;
      this.#settling.delete(connection);
      if (connection.closed) continue;
      const departure: Departure = { sinceMs: nowMs, released: false };
      this.#departing.set(connection, departure);
      void connection.depart(this.#farewell.willGraceMs).then(() => {
        departure.released = true;
      });
    }
    for (const [connection, { sinceMs, released }] of this.#departing) {
      if (!released && nowMs - sinceMs < RELEASE_MS) continue;
      this.#departing.delete(connection);
      connection.bidFarewell(this.#farewell.serverReference);
    }
  }
}
