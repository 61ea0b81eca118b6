/**
 * Packet identifiers under way to one client whose session lives in memory, and how far each is. MQTT 5.0 §4.3.2,
 * §4.3.3, §4.9.
 *
 *   (free) ── QoS 1 PUBLISH ──▶ puback ── PUBACK ──▶ (free)
 *   (free) ── QoS 2 PUBLISH ──▶ pubrec ── PUBREC ──▶ pubcomp ── PUBCOMP ──▶ (free)
 *                                  └── PUBREC of 0x80 or above ──▶ (free)
 *
 * A clean session is never resent anything, so an identifier is all there is to keep: three bytes in a table that
 * is open-addressed by the identifier itself. The table grows with use up to twice the limit.
 */

/** What a packet identifier waits for; 0: it is free. */
export const Awaiting = { Nothing: 0, Puback: 1, Pubrec: 2, Pubcomp: 3 } as const;

/** The level of the whole node, kept along. */
export interface InflightLevel {
  inflightMessages: number;
}

const FIRST_SLOTS = 16;
const PACKET_ID_MAX = 65_535;

export class SendWindow {
  /** Messages that may be under way at once: the client's Receive Maximum or ours, the smaller [MQTT-3.3.4-9]. */
  readonly limit: number;
  /** Messages under way. */
  inflight = 0;
  readonly #level: InflightLevel;
  #ids = new Uint16Array(0);
  #awaiting = new Uint8Array(0);
  #mask = 0;
  #lastId = 0;

  constructor(limit: number, level: InflightLevel) {
    this.limit = limit;
    this.#level = level;
  }

  /** How many more messages may be sent. */
  get room(): number {
    return this.limit - this.inflight;
  }

  /** Takes a packet identifier that is not in use [MQTT-2.2.1-4]. Only with `room` above 0. */
  acquire(awaiting: 1 | 2): number {
    // At most half of the slots are taken, so the search below ends soon.
    if (this.inflight * 2 >= this.#ids.length) this.#grow();
    let id = this.#lastId;
    let slot: number;
    do {
      id = id === PACKET_ID_MAX ? 1 : id + 1;
      slot = id & this.#mask;
    } while (this.#awaiting[slot] !== 0);
    this.#lastId = id;
    this.#ids[slot] = id;
    this.#awaiting[slot] = awaiting;
    this.inflight += 1;
    this.#level.inflightMessages += 1;
    return id;
  }

  /** What this identifier waits for. */
  awaiting(id: number): number {
    const slot = id & this.#mask;
    return this.#ids[slot] === id ? (this.#awaiting[slot] as number) : Awaiting.Nothing;
  }

  /** PUBREC came: the same identifier now waits for PUBCOMP and still counts as under way. */
  advanceToPubcomp(id: number): void {
    this.#awaiting[id & this.#mask] = Awaiting.Pubcomp;
  }

  /** The exchange is over; the identifier may be used again. Only for identifiers that wait for something. */
  free(id: number): void {
    this.#awaiting[id & this.#mask] = 0;
    this.inflight -= 1;
    this.#level.inflightMessages -= 1;
  }

  /** The connection is gone: nothing is under way any more. */
  clear(): void {
    this.#level.inflightMessages -= this.inflight;
    this.inflight = 0;
    this.#ids = new Uint16Array(0);
    this.#awaiting = new Uint8Array(0);
    this.#mask = 0;
  }

  #grow(): void {
    const slots = Math.max(FIRST_SLOTS, this.#ids.length * 2);
    const ids = new Uint16Array(slots);
    const awaiting = new Uint8Array(slots);
    // Two identifiers that differ modulo the smaller size differ modulo the larger one.
    for (let old = 0; old < this.#ids.length; old++) {
      if (this.#awaiting[old] === 0) continue;
      const id = this.#ids[old] as number;
      ids[id & (slots - 1)] = id;
      awaiting[id & (slots - 1)] = this.#awaiting[old] as number;
    }
    this.#ids = ids;
    this.#awaiting = awaiting;
    this.#mask = slots - 1;
  }
}
