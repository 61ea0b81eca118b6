import { Message } from '../message.ts';
import type { ByteSink, PacketEncoder } from '../ports/channel.ts';
import { Own } from '../route/matches.ts';
import type { DeliveryGroup } from '../route/matches.ts';
import type { QoS } from '../packet.ts';
import { Awaiting } from '../session/send-window.ts';
import type { Topic } from '../topic/topic.ts';
import type { Outbox } from './outbox.ts';

/** Bytes of a run; it is delivered when they are used up. */
const RUN_BYTES_MAX = 65_536;
/**
 * A run of at least this many bytes for at least so many members is given to them as it is, and the next one gets new
 * memory: the kernel then reads the same bytes again and again, instead of a copy for each member. Half a buffer at
 * least, so that a member that does not take it holds at most twice what it is charged for.
 */
const SHARED_BYTES_MIN = RUN_BYTES_MAX / 2;
const SHARED_MEMBERS_MIN = 4;

/**
 * Consecutive messages for one delivery group, encoded once and given to every member in one piece; only packet
 * identifiers are patched in. What makes fan-out cheap: encoding costs per message, copying per run.
 *
 *   bytes   | PUBLISH | PUBLISH | PUBLISH |
 *   ends              ^         ^         ^
 *   idOffsets  ^         ^         ^            (QoS 1 and 2)
 *   payloads     ^         ^         ^          (start of each payload, up to the packet's end)
 */
export class Run implements ByteSink {
  bytes = new Uint8Array(RUN_BYTES_MAX);
  length = 0;
  count = 0;
  payloadBytes = 0;
  writtenBytes = 0;
  #group: DeliveryGroup | undefined = undefined;
  #topic: Topic | undefined = undefined;
  #publisher = '';
  qos: QoS = 0;
  #ends: number[] = [];
  #idOffsets: number[] = [];
  #payloads: number[] = [];
  readonly #encoder: PacketEncoder;

  constructor(encoder: PacketEncoder) {
    this.#encoder = encoder;
  }

  /** Starts collecting for `group`. */
  open(group: DeliveryGroup, topic: Topic, qos: QoS, publisher: string): void {
    this.#group = group;
    this.#topic = topic;
    this.qos = qos;
    this.#publisher = publisher;
  }

  reserve(count: number): void {
    if (this.bytes.length - this.length >= count) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.length + count));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }

  /** Adds a message without properties and expiry. Returns true when the run should be delivered before the next. */
  append(message: Message): boolean {
    const group = this.#group!;
    const start = this.length;
    const bytes = this.#encoder.publish(
      this,
      message,
      group.form,
      0x30 | (this.qos << 1),
      0,
      -1,
      0,
      false,
      true,
    );
    if (this.qos > 0) {
      this.#idOffsets.push(this.#encoder.packetIdOffset);
      this.#payloads.push(start + bytes - message.payloadBytes);
      this.#ends.push(this.length);
    }
    this.count += 1;
    this.payloadBytes += message.payloadBytes;
    return this.length >= RUN_BYTES_MAX - 1024;
  }

  /**
   * Hands the run to every member and empties it. Returns how many messages were written in all; `writtenBytes` has
   * their payload.
   */
  deliver(dropped: (count: number) => void): number {
    const group = this.#group!;
    let written = 0;
    this.writtenBytes = 0;
    const piece = this.bytes.subarray(0, this.length);
    const shared =
      this.qos === 0 &&
      this.length >= SHARED_BYTES_MIN &&
      group.members.length >= SHARED_MEMBERS_MIN;
    for (const member of group.members) {
      if (!member.open || (group.own === Own.Skip && member.clientId === this.#publisher)) continue;
      if (this.qos === 0) {
        if (member.overBudget) {
          dropped(this.count);
          continue;
        }
        const channel = member.channel;
        if (shared) {
          channel.writeShared(piece);
        } else {
          channel.reserve(this.length);
          channel.bytes.set(piece, channel.length);
          channel.length += this.length;
        }
        written += this.count;
        this.writtenBytes += this.payloadBytes;
      } else {
        const fitting = this.#deliverInWindow(member, piece);
        written += fitting;
        this.writtenBytes += this.#payloadBytesOf(fitting);
      }
    }
    this.length = 0;
    this.count = 0;
    this.payloadBytes = 0;
    this.#ends.length = 0;
    this.#idOffsets.length = 0;
    this.#payloads.length = 0;
    if (shared || this.bytes.length > RUN_BYTES_MAX * 2) this.bytes = new Uint8Array(RUN_BYTES_MAX);
    return written;
  }

  #deliverInWindow(member: Outbox, piece: Uint8Array): number {
    const window = member.window;
    const fitting = member.waiting > 0 || member.blocked ? 0 : Math.min(window.room, this.count);
    if (fitting > 0) {
      const length = this.#ends[fitting - 1]!;
      const channel = member.channel;
      channel.reserve(length);
      const base = channel.length;
      const bytes = channel.bytes;
      bytes.set(length === this.length ? piece : this.bytes.subarray(0, length), base);
      channel.length = base + length;
      const awaiting = this.qos === 1 ? Awaiting.Puback : Awaiting.Pubrec;
      for (let i = 0; i < fitting; i++) {
        const packetId = window.acquire(awaiting);
        const at = base + this.#idOffsets[i]!;
        bytes[at] = packetId >> 8;
        bytes[at + 1] = packetId & 0xff;
      }
    }
    for (let i = fitting; i < this.count && member.open; i++) {
      member.deliver(this.#message(i), this.#group!.form, this.qos, false, undefined);
    }
    return fitting;
  }

  /** Bytes of payload of the first `count` messages. */
  #payloadBytesOf(count: number): number {
    if (count === this.count) return this.payloadBytes;
    let bytes = 0;
    for (let i = 0; i < count; i++) bytes += this.#ends[i]! - this.#payloads[i]!;
    return bytes;
  }

  /** The message at `index`, built again for members that must keep it. */
  #message(index: number): Message {
    return Message.of(this.#topic!, this.bytes.slice(this.#payloads[index], this.#ends[index]), {
      qos: this.qos,
      retain: false,
      publisher: this.#publisher,
    });
  }
}
