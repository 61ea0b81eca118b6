import type { Limits } from '../limits.ts';
import type { Message } from '../message.ts';
import { AckType } from '../packet.ts';
import type { ProtocolVersion, QoS } from '../packet.ts';
import type { Channel, PacketEncoder, PublishForm } from '../ports/channel.ts';
import type { Clock } from '../ports/clock.ts';
import { Awaiting, SendWindow } from '../session/send-window.ts';
import type { Counters } from '../telemetry/counters.ts';
import type { SharedGroup } from '../route/route-table.ts';
import type { RouteEntry } from '../route/subscription.ts';
import { Deque } from './deque.ts';
import { OutboundAliases } from './outbound-aliases.ts';

/** What outboxes share: one object for the whole node. */
export interface DeliveryContext {
  readonly encoder: PacketEncoder;
  readonly clock: Clock;
  readonly counters: Counters;
  readonly limits: Limits;
}

/** What the client said about itself in CONNECT, as far as sending to it is concerned. */
export interface OutboxOptions {
  readonly version: ProtocolVersion;
  readonly clientId: string;
  /** Messages of QoS 1 and 2 that may be under way; the smaller of the client's and our limit. */
  readonly receiveMaximum: number;
  /** Bytes; packets above it are discarded for this client alone [MQTT-3.1.2-24] [MQTT-3.1.2-25]. */
  readonly packetBytesMax: number;
  /** Topic aliases that the client accepts; 0: none [MQTT-3.1.2-27]. */
  readonly topicAliasMaximum: number;
}

/** What an acknowledgement from the client meant. */
export const AckOutcome = {
  Done: 0,
  /** Nothing is under way with that packet identifier. */
  Unknown: 1,
  /** Something is, but it waits for another packet: the client broke the protocol. */
  Mismatch: 2,
} as const;
export type AckOutcome = (typeof AckOutcome)[keyof typeof AckOutcome];

/** A message that waits until the in-flight window of a clean session has room. */
interface WaitingMessage {
  readonly message: Message;
  readonly form: PublishForm;
  readonly qos: 1 | 2;
  readonly retain: boolean;
  /** The shared group it was chosen from: on disconnect another member gets it. */
  readonly group: SharedGroup<RouteEntry> | undefined;
}

/** What a client has not taken yet: messages that wait for its window, and bytes of them and of output. */
export interface Owed {
  readonly messages: number;
  readonly bytes: number;
}

/** Payloads from this size on are not copied into each subscriber's output. */
export const SHARED_PAYLOAD_BYTES_MIN = 16_384;

/** No limit of the client's own on packet sizes. */
export const PACKET_BYTES_UNLIMITED = 268_435_460;

/**
 * Puts messages on the wire of one connection: QoS 0 for any session, QoS 1 and 2 for a clean session (those of a
 * persistent session come through `QueueReader`, which uses `send`).
 *
 * Bounded three ways (P10): output that the socket does not take costs QoS 0 messages, which are counted; a full
 * in-flight window, or twice as much output, makes messages wait; too many waiting messages end the connection,
 * because it was promised them (P11).
 */
export class Outbox {
  readonly channel: Channel;
  readonly clientId: string;
  readonly version: ProtocolVersion;
  readonly packetBytesMax: number;
  readonly window: SendWindow;
  /** False once the connection has ended: nothing is written any more. */
  open = true;
  /** Slowing publishers down did not help: until this outbox has drained it costs only itself. */
  graceSpent = false;
  /** Publishers that are held for its sake. */
  holds = 0;
  readonly #context: DeliveryContext;
  readonly #aliases: OutboundAliases | undefined;
  #waiting: Deque<WaitingMessage> | undefined = undefined;
  #waitingBytes = 0;
  /** Called soon after the bound on waiting messages was passed. */
  readonly #overflow: () => void;

  constructor(
    context: DeliveryContext,
    channel: Channel,
    options: OutboxOptions,
    overflow: () => void,
  ) {
    this.#context = context;
    this.channel = channel;
    this.clientId = options.clientId;
    this.version = options.version;
    this.packetBytesMax = options.packetBytesMax;
    this.window = new SendWindow(options.receiveMaximum, context.counters);
    this.#aliases =
      options.topicAliasMaximum > 0 ? new OutboundAliases(options.topicAliasMaximum) : undefined;
    this.#overflow = overflow;
  }

  /**
   * True when packets to this client are like those to any other of its protocol version, but for packet
   * identifiers: no topic aliases, no size limit of its own.
   */
  get plain(): boolean {
    return this.#aliases === undefined && this.packetBytesMax === PACKET_BYTES_UNLIMITED;
  }

  /** Messages waiting for the window. */
  get waiting(): number {
    return this.#waiting === undefined ? 0 : this.#waiting.length;
  }

  /** Publishers should be slowed down for the sake of this client. */
  get congested(): boolean {
    return (
      this.channel.backlogBytes > this.#context.limits.outboundBytesMax >> 2 ||
      (this.#waiting !== undefined &&
        (this.#waiting.length > this.#context.limits.waitingMessagesMax >> 2 ||
          this.#waitingBytes > this.#context.limits.waitingBytesMax >> 2))
    );
  }

  /** What the client has not taken yet. */
  get owed(): Owed {
    return { messages: this.waiting, bytes: this.#waitingBytes + this.channel.backlogBytes };
  }

  /** The client has taken a good part of what it was owed then, although more may have come. */
  hasHeadwaySince(before: Owed): boolean {
    const { limits } = this.#context;
    const now = this.owed;
    return (
      before.messages - now.messages >= limits.waitingMessagesMax >> 5 ||
      before.bytes - now.bytes >= limits.outboundBytesMax >> 4
    );
  }

  /** Enough of a congestion has gone. */
  get relieved(): boolean {
    return (
      this.channel.backlogBytes <= this.#context.limits.outboundBytesMax >> 4 &&
      this.waiting <= this.#context.limits.waitingMessagesMax >> 3 &&
      this.#waitingBytes <= this.#context.limits.waitingBytesMax >> 3
    );
  }

  /**
   * The socket holds so much that nothing is added that can wait: QoS 1 and 2 messages wait, and nothing is read from
   * the client that it would have to be answered. Above the budget of QoS 0, which must not starve the others.
   */
  get blocked(): boolean {
    return this.channel.backlogBytes > this.#context.limits.outboundBytesMax * 2;
  }

  /** The socket holds so much that QoS 0 messages are dropped. */
  get overBudget(): boolean {
    return this.channel.backlogBytes > this.#context.limits.outboundBytesMax;
  }

  /** Delivers to a clean session, or at QoS 0 to any. `retain` is the flag to send. */
  deliver(
    message: Message,
    form: PublishForm,
    qos: QoS,
    retain: boolean,
    group: SharedGroup<RouteEntry> | undefined,
  ): void {
    if (!this.open) return;
    if (qos === 0) {
      if (this.overBudget) {
        this.#context.counters.messagesDropped.slow_consumer += 1;
        return;
      }
      this.send(message, form, 0, retain, false, 0);
      return;
    }
    if (this.waiting === 0 && this.#mayStart) {
      this.#sendInWindow(message, form, qos, retain);
      return;
    }
    this.#wait({ message: message.owned(), form, qos, retain, group });
  }

  /**
   * Writes one PUBLISH. Returns false when it was discarded: expired, or larger than the client accepts
   * [MQTT-3.1.2-25].
   */
  send(
    message: Message,
    form: PublishForm,
    qos: QoS,
    retain: boolean,
    dup: boolean,
    packetId: number,
  ): boolean {
    const { encoder, clock, counters } = this.#context;
    let remainingExpiry = -1;
    if (message.expiresAtMs !== 0) {
      const remainingMs = message.expiresAtMs - clock.wallMs();
      // What was sent before is owed: a message expires until its delivery begins [MQTT-3.3.2-5] [MQTT-4.3.3-7].
      if (remainingMs <= 0 && !dup) {
        counters.messagesDropped.expired += 1;
        return false;
      }
      // What the publisher asked for, less the time it waited here [MQTT-3.3.2-6].
      remainingExpiry = Math.max(Math.ceil(remainingMs / 1000), 0);
    }
    const alias = this.#aliases === undefined ? undefined : this.#aliases.use(message.topic);
    let aliasNumber = alias === undefined ? 0 : alias.number;
    let omitTopic = alias?.known ?? false;
    if (this.packetBytesMax !== PACKET_BYTES_UNLIMITED) {
      let bytes = encoder.publishBytes(message, form, qos, aliasNumber, omitTopic);
      if (bytes > this.packetBytesMax && aliasNumber > 0) {
        // It may be the alias that is too much: it takes three bytes.
        if (!omitTopic) this.#aliases?.forget(message.topic);
        aliasNumber = 0;
        omitTopic = false;
        bytes = encoder.publishBytes(message, form, qos, 0, false);
      }
      if (bytes > this.packetBytesMax) {
        counters.messagesDropped.too_large += 1;
        return false;
      }
    }
    const header = 0x30 | (dup ? 8 : 0) | (qos << 1) | (retain ? 1 : 0);
    counters.countPublishSent(qos, message.payloadBytes);
    if (message.payloadBytes < SHARED_PAYLOAD_BYTES_MIN) {
      encoder.publish(
        this.channel,
        message,
        form,
        header,
        packetId,
        remainingExpiry,
        aliasNumber,
        omitTopic,
        true,
      );
      return true;
    }
    const owned = message.owned();
    encoder.publish(
      this.channel,
      owned,
      form,
      header,
      packetId,
      remainingExpiry,
      aliasNumber,
      omitTopic,
      false,
    );
    this.channel.writeShared(owned.bytes.subarray(owned.start, owned.end));
    return true;
  }

  /** PUBACK, PUBREC or PUBCOMP from the client of a clean session. */
  acknowledge(type: AckType, packetId: number, reasonCode: number): AckOutcome {
    const awaiting = this.window.awaiting(packetId);
    if (awaiting === Awaiting.Nothing) return AckOutcome.Unknown;
    switch (type) {
      case AckType.Puback:
        if (awaiting !== Awaiting.Puback) return AckOutcome.Mismatch;
        this.window.free(packetId);
        break;
      case AckType.Pubrec:
        // A repeated PUBREC is answered again [MQTT-4.3.3-4].
        if (awaiting === Awaiting.Pubcomp && reasonCode < 0x80) {
          this.#pubrel(packetId);
          return AckOutcome.Done;
        }
        if (awaiting !== Awaiting.Pubrec) return AckOutcome.Mismatch;
        if (reasonCode >= 0x80) {
          this.window.free(packetId);
          break;
        }
        this.window.advanceToPubcomp(packetId);
        this.#pubrel(packetId);
        return AckOutcome.Done;
      case AckType.Pubcomp:
        if (awaiting !== Awaiting.Pubcomp) return AckOutcome.Mismatch;
        this.window.free(packetId);
        break;
      case AckType.Pubrel:
        return AckOutcome.Mismatch;
    }
    if (this.#waiting !== undefined) this.#sendWaiting(this.#waiting);
    return AckOutcome.Done;
  }

  /** The socket has taken most of what it held. */
  onDrain(): void {
    if (this.#waiting !== undefined) this.#sendWaiting(this.#waiting);
  }

  /** Ends the outbox. What was never sent and came from a shared group is handed to `redistribute`. */
  close(redistribute: (message: Message, group: SharedGroup<RouteEntry>) => void): void {
    this.open = false;
    this.window.clear();
    const waiting = this.#waiting;
    this.#waiting = undefined;
    this.#context.counters.waitingBytes -= this.#waitingBytes;
    this.#waitingBytes = 0;
    for (let item = waiting?.shift(); item !== undefined; item = waiting?.shift()) {
      if (item.group !== undefined) redistribute(item.message, item.group);
    }
  }

  /**
   * One more message of QoS 1 or 2 may be under way. The first one always may: its acknowledgement goes on with those
   * that wait, whether the channel reports that it has drained or not.
   */
  get #mayStart(): boolean {
    const { window } = this;
    return window.room > 0 && (window.inflight === 0 || !this.blocked);
  }

  #pubrel(packetId: number): void {
    this.#context.encoder.ack(this.channel, AckType.Pubrel, packetId, 0, this.version);
    this.#context.counters.packetsSent[AckType.Pubrel]!++;
  }

  #sendInWindow(message: Message, form: PublishForm, qos: 1 | 2, retain: boolean): void {
    const packetId = this.window.acquire(qos === 1 ? Awaiting.Puback : Awaiting.Pubrec);
    if (!this.send(message, form, qos, retain, false, packetId)) this.window.free(packetId);
  }

  #wait(item: WaitingMessage): void {
    this.#waiting ??= new Deque();
    this.#waiting.push(item);
    this.#waitingBytes += item.message.payloadBytes;
    this.#context.counters.waitingBytes += item.message.payloadBytes;
    if (
      this.#waiting.length > this.#context.limits.waitingMessagesMax ||
      this.#waitingBytes > this.#context.limits.waitingBytesMax
    ) {
      this.open = false;
      // Not in the midst of a publish: the end of a connection passes messages on and runs hooks, which may publish.
      void Promise.resolve().then(this.#overflow);
    }
  }

  #sendWaiting(waiting: Deque<WaitingMessage>): void {
    while (this.#mayStart) {
      const item = waiting.shift();
      if (item === undefined) return;
      this.#waitingBytes -= item.message.payloadBytes;
      this.#context.counters.waitingBytes -= item.message.payloadBytes;
      this.#sendInWindow(item.message, item.form, item.qos, item.retain);
    }
  }
}
