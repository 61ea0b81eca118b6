import type { PacketSink, RawClient } from '../raw-client.ts';
import type { SequenceChecker } from '../sequence-checker.ts';
import { encodePublish, STAMP_BYTES } from '../wire.ts';
import type { ProtocolLevel, Qos } from '../wire.ts';

/**
 * Sends stamped messages and keeps at most `window` of them unsettled.
 *
 * A message is settled when all its subscribers have got past it and, at QoS 1 and 2, the handshake
 * is complete. (At QoS 1 and 2 a broker may acknowledge long before it delivers; were delivery not
 * part of the window, the run would measure how fast the broker's queue grows.)
 *
 * The packets are a ring of `window` slots, encoded in advance; sending patches sequence and time.
 * A slot is used again only when its message was settled, so the kernel has taken its bytes.
 */
export class Publisher implements PacketSink {
  /** Set once connected. */
  client: RawClient | undefined;
  /** Messages sent so far; the next sequence number. */
  sent = 0;
  /** Handshakes that ended in a reason code of 0x80 or above. */
  refused = 0;
  readonly window: number;
  readonly #qos: Qos;
  readonly #ring: Buffer;
  readonly #view: DataView;
  readonly #slotBytes: number;
  readonly #payloadOffset: number;
  readonly #watchers: readonly SequenceChecker[];
  /** One byte per slot: 1 when the handshake of the message in it is complete. */
  readonly #complete: Uint8Array;
  /** All handshakes below this sequence are complete. */
  #acknowledged = 0;
  /** Everything below this sequence counts as settled, because it was given up. */
  #givenUp = 0;

  /** `topics` are used in turn and have one length. `watchers` are its messages' subscribers. */
  constructor(options: {
    readonly index: number;
    readonly topics: readonly string[];
    readonly payloadBytes: number;
    readonly qos: Qos;
    readonly level: ProtocolLevel;
    readonly window: number;
    readonly retain?: boolean;
    readonly watchers: readonly SequenceChecker[];
  }) {
    if (options.payloadBytes < STAMP_BYTES) throw new Error('payload too small for the stamp');
    this.window = options.window;
    this.#qos = options.qos;
    this.#watchers = options.watchers;
    this.#complete = new Uint8Array(options.window);
    const templates = options.topics.map((topic) => encodePublish({ ...options, topic }));
    const first = templates[0];
    if (first === undefined) throw new Error('a publisher needs a topic');
    this.#slotBytes = first.bytes.length;
    this.#payloadOffset = first.payloadOffset;
    this.#ring = Buffer.alloc(this.#slotBytes * options.window);
    this.#view = new DataView(this.#ring.buffer, this.#ring.byteOffset, this.#ring.length);
    for (let slot = 0; slot < options.window; slot += 1) {
      const template = templates[slot % templates.length] ?? first;
      const offset = slot * this.#slotBytes;
      this.#ring.set(template.bytes, offset);
      this.#view.setUint32(offset + first.payloadOffset, options.index);
      if (options.qos > 0) this.#view.setUint16(offset + first.packetIdOffset, slot + 1);
    }
  }

  /** The number of messages sent and not settled. */
  get unsettled(): number {
    let settled = this.#qos === 0 ? this.sent : this.#acknowledged;
    for (const watcher of this.#watchers) if (watcher.next < settled) settled = watcher.next;
    return this.sent - Math.max(settled, this.#givenUp);
  }

  /** Completed handshakes: a sign of progress. */
  get acknowledged(): number {
    return this.#acknowledged;
  }

  /** Sends as many messages as the window has room for, at most `limit`. Returns how many. */
  send(stampUs: number, limit: number): number {
    const client = this.client;
    if (client === undefined) return 0;
    const window = this.#qos === 0 ? this.window : Math.min(this.window, client.receiveMaximum);
    const count = Math.min(window - this.unsettled, limit);
    if (count <= 0) return 0;
    const firstSlot = this.sent % this.window;
    let offset = firstSlot * this.#slotBytes + this.#payloadOffset;
    for (let index = 0; index < count; index += 1) {
      this.#view.setUint32(offset + 4, this.sent + index);
      this.#view.setFloat64(offset + 8, stampUs);
      offset += this.#slotBytes;
      if (firstSlot + index + 1 === this.window) offset = this.#payloadOffset;
    }
    this.sent += count;
    const untilEnd = Math.min(count, this.window - firstSlot);
    this.#write(client, firstSlot, untilEnd);
    if (untilEnd < count) this.#write(client, 0, count - untilEnd);
    return count;
  }

  /** Counts everything unsettled as settled; false while the kernel still holds bytes of it. */
  giveUp(): boolean {
    if (this.unsettled === 0) return true;
    if (this.client === undefined || this.client.pendingBytes > 0) return false;
    this.#givenUp = this.sent;
    this.#acknowledged = this.sent;
    this.#complete.fill(0);
    return true;
  }

  packet(view: DataView, firstByte: number, start: number, end: number): void {
    const type = firstByte >>> 4;
    const packetId = view.getUint16(start);
    const refused = end - start > 2 && view.getUint8(start + 2) >= 0x80;
    if (type === 4 || type === 7 || (type === 5 && refused)) {
      if (refused) this.refused += 1;
      this.#complete[packetId - 1] = 1;
      while (
        this.#acknowledged < this.sent &&
        this.#complete[this.#acknowledged % this.window] === 1
      ) {
        this.#complete[this.#acknowledged % this.window] = 0;
        this.#acknowledged += 1;
      }
    } else if (type === 5) {
      this.client?.acknowledge(0x62, packetId);
    }
  }

  readEnd(): void {
    this.onRead();
  }

  /** Called after each read, when acknowledgements may have made room in the window. */
  onRead: () => void = () => undefined;

  #write(client: RawClient, slot: number, count: number): void {
    client.write(this.#ring.subarray(slot * this.#slotBytes, (slot + count) * this.#slotBytes));
  }
}
