import { AckType } from '../packet.ts';
import { publishForm } from '../route/matches.ts';
import type {
  OwnerToken,
  QueueEntry,
  QueuedMessage,
  SessionRef,
  StateStore,
} from '../ports/state-store.ts';
import { AckOutcome } from './outbox.ts';
import type { DeliveryContext, Outbox } from './outbox.ts';

/** Packet identifiers repeat after this many sequences [MQTT-2.2.1-4]. */
const PACKET_IDS = 65_535;
/** Bytes of payload read from the store in one piece. */
const READ_BYTES_MAX = 1_048_576;
const READ_COUNT_MAX = 500;

/** The packet identifier of a queued message is a function of its place, so a new owner resends with the same one. */
export function packetIdOf(sequence: number): number {
  return (sequence % PACKET_IDS) + 1;
}

/** An entry of the queue that was sent and is not settled. */
interface InFlight {
  readonly sequence: number;
  /** `pubrel`: the PUBREC is being stored; PUBREL follows. */
  awaiting: 'puback' | 'pubrec' | 'storing-pubrec' | 'pubcomp';
}

/** The connection that the queue is delivered to. */
export interface QueueReaderOwner {
  /** The session belongs to somebody else, or the store failed: the connection must end. */
  storeLost(why: 'fenced' | 'failed'): void;
  /** All that the queue held has been sent. */
  caughtUp(): void;
  /** What the store answered still holds: the session cannot have moved on since without anybody hearing of it. */
  readonly valid: boolean;
  /** Resolves when it does, or when the connection has ended. */
  whenValid(): Promise<void>;
}

/**
 * Delivers the queue of one persistent session, in queue order, to the connection that owns it [MQTT-4.6.0-6].
 *
 * The queue in the store is the truth: what is in `#inflight` may be lost at any time, because whoever owns the
 * session next finds the same entries, derives the same packet identifiers and sends them again with DUP
 * [MQTT-4.4.0-1]. Entries appended while everything before them was sent are delivered from memory (`onAppended`);
 * otherwise they are read, at most a window full at a time, so that a queue of a million costs no memory here.
 */
export class QueueReader {
  readonly #context: DeliveryContext;
  readonly #store: StateStore;
  readonly #session: SessionRef;
  readonly #token: OwnerToken;
  readonly #outbox: Outbox;
  readonly #inflight = new Map<number, InFlight>();
  /** The next sequence to send. */
  #next = 1;
  /** The highest sequence that `onAppended` told of. */
  #announced = 0;
  /** The store may hold entries from `#next` on: what is appended now must not overtake them. */
  #behind = true;
  /** Entries below may have been sent on an earlier connection. */
  readonly #sentBelow: number;
  readonly #released: Set<number>;
  /** Entries below may have been dropped from the queue, also after they were sent. */
  #droppedBelow = 1;
  /** Packet identifiers that the client has released on this connection; kept when some may be those of dropped entries. */
  readonly #cleared = new Set<number>();
  #reading = false;
  #closed = false;
  #settled: number[] = [];
  readonly #owner: QueueReaderOwner;

  constructor(
    context: DeliveryContext,
    store: StateStore,
    session: SessionRef,
    token: OwnerToken,
    outbox: Outbox,
    resumed: { readonly sentBelow: number; readonly released: readonly number[] },
    owner: QueueReaderOwner,
  ) {
    this.#context = context;
    this.#store = store;
    this.#session = session;
    this.#token = token;
    this.#outbox = outbox;
    this.#sentBelow = resumed.sentBelow;
    this.#released = new Set(resumed.released);
    this.#owner = owner;
  }

  /** Entries below this sequence may have been sent. */
  get sentBelow(): number {
    return Math.max(this.#next, this.#sentBelow);
  }

  /** The sequence that the queue goes on with when the store has lost it: nothing before will come any more. */
  get nextSequence(): number {
    return Math.max(this.sentBelow, this.#announced + 1);
  }

  /** Sequences whose PUBREC the store knows, and whose PUBCOMP has not come. */
  get releasedSequences(): number[] {
    return [...this.#inflight.values()]
      .filter(({ awaiting }) => awaiting === 'pubcomp')
      .map(({ sequence }) => sequence);
  }

  get inflight(): number {
    return this.#inflight.size;
  }

  /** A message appended now is sent at once, and pushes no other one out of the queue. */
  get hungry(): boolean {
    const { queueMessagesMax } = this.#context.limits;
    return !this.#behind && this.#room() > 0 && this.#inflight.size < queueMessagesMax;
  }

  /** Starts with what the store has: PUBREL for released entries first, then the queue. */
  start(): void {
    for (const sequence of this.#released) {
      const packetId = packetIdOf(sequence);
      this.#inflight.set(packetId, { sequence, awaiting: 'pubcomp' });
      this.#context.counters.inflightMessages += 1;
      this.#sendPubrel(packetId);
    }
    this.#pump();
  }

  /** The store has kept a message for this session at `sequence`. */
  onAppended(sequence: number, queued: QueuedMessage): void {
    if (this.#closed) return;
    if (sequence > this.#announced) this.#announced = sequence;
    if (
      !this.#behind &&
      sequence === this.#next &&
      this.#mayQueue(sequence, queued.qos) &&
      this.#owner.valid
    ) {
      const sent = this.#send(sequence, queued, false);
      this.#next = sequence + 1;
      // The client may be silent for long: nothing else would take it out of the store.
      if (!sent) this.#removeSettled();
      return;
    }
    this.#behind = true;
    this.#pump();
  }

  /** Entries may have come without `onAppended`. */
  recheck(): void {
    this.#behind = true;
    this.#pump();
  }

  /** PUBACK, PUBREC or PUBCOMP from the client. */
  acknowledge(type: AckType, packetId: number, reasonCode: number): AckOutcome {
    const entry = this.#inflight.get(packetId);
    if (entry === undefined) return AckOutcome.Unknown;
    switch (type) {
      case AckType.Puback:
        if (entry.awaiting !== 'puback') return AckOutcome.Mismatch;
        break;
      case AckType.Pubrec:
        if (entry.awaiting === 'pubcomp' && reasonCode < 0x80) {
          this.#sendPubrel(packetId);
          return AckOutcome.Done;
        }
        if (entry.awaiting === 'storing-pubrec') return AckOutcome.Done;
        if (entry.awaiting !== 'pubrec') return AckOutcome.Mismatch;
        if (reasonCode >= 0x80) break;
        this.#release(packetId, entry);
        return AckOutcome.Done;
      case AckType.Pubcomp:
        if (entry.awaiting !== 'pubcomp') return AckOutcome.Mismatch;
        break;
      case AckType.Pubrel:
        return AckOutcome.Mismatch;
    }
    this.#inflight.delete(packetId);
    this.#context.counters.inflightMessages -= 1;
    if (this.#droppedBelow > 1 && type !== AckType.Puback) this.#cleared.add(packetId);
    this.#settled.push(entry.sequence);
    return AckOutcome.Done;
  }

  /** End of a batch of packets: settled entries leave the store in one call, and what fits now is sent. */
  onBatchEnd(): void {
    if (this.#settled.length > 0) this.#removeSettled();
    this.#pump();
  }

  /** The connection is gone; nothing is read or sent any more. What was acknowledged still leaves the store. */
  close(): void {
    if (this.#settled.length > 0) this.#removeSettled();
    this.#closed = true;
    this.#context.counters.inflightMessages -= this.#inflight.size;
    this.#inflight.clear();
  }

  #room(): number {
    // One message is always under way: its acknowledgement goes on with the queue, whether the channel reports that it
    // has drained or not.
    if (this.#outbox.congested) return this.#inflight.size === 0 ? 1 : 0;
    return this.#outbox.window.limit - this.#inflight.size;
  }

  /** An old message that was never acknowledged may still hold the identifier: then everything waits. */
  #mayQueue(sequence: number, qos: 1 | 2): boolean {
    const packetId = packetIdOf(sequence);
    if (this.#room() <= 0 || this.#inflight.has(packetId)) return false;
    // What was sent before has its identifier from then.
    if (qos === 1 || this.#droppedBelow === 1 || sequence < this.#sentBelow) return true;
    return !this.#clearIfHeld(packetId);
  }

  /**
   * An entry that was sent at QoS 2 and then dropped at the queue's bound is not sent again, but the client may hold its
   * packet identifier, and would take the next message with it for a repetition [MQTT-4.3.3-10]. PUBREL makes the client
   * forget it. Which ones are held nobody knows: each that may be is cleared once for a connection.
   */
  #clearIfHeld(packetId: number): boolean {
    const first = packetId === 1 ? PACKET_IDS : packetId - 1;
    if (first >= Math.min(this.#droppedBelow, this.#sentBelow) || this.#cleared.has(packetId)) {
      return false;
    }
    this.#inflight.set(packetId, { sequence: first, awaiting: 'pubcomp' });
    this.#context.counters.inflightMessages += 1;
    this.#sendPubrel(packetId);
    return true;
  }

  #pump(): void {
    if (!this.#behind || this.#reading || this.#closed) return;
    const room = this.#room();
    // Also for a single place: the client may be waiting for a message before it acknowledges any other. What is
    // freed during a read is read together afterwards.
    if (room <= 0) return;
    this.#reading = true;
    const announcedBefore = this.#announced;
    this.#store
      .read(this.#session, this.#token, this.#next, Math.min(room, READ_COUNT_MAX), READ_BYTES_MAX)
      .then(
        (result) => {
          if (!this.#owner.valid && !this.#closed) {
            this.#readAgainWhenValid();
            return;
          }
          this.#reading = false;
          if (this.#closed) return;
          if (result.outcome === 'fenced') this.#owner.storeLost('fenced');
          else {
            this.#droppedBelow = result.droppedBelow;
            this.#onEntries(result.entries, announcedBefore);
          }
        },
        () => {
          this.#reading = false;
          if (!this.#closed) this.#owner.storeLost('failed');
        },
      );
  }

  /** The answer may have been on its way while this process was paused, and the session may have moved on. */
  #readAgainWhenValid(): void {
    void this.#owner.whenValid().then(() => {
      this.#reading = false;
      this.#pump();
    });
  }

  #onEntries(entries: readonly QueueEntry[], announcedBefore: number): void {
    this.#sendEntries(entries, announcedBefore);
    // Also of what was discarded.
    if (this.#settled.length > 0) this.#removeSettled();
  }

  #sendEntries(entries: readonly QueueEntry[], announcedBefore: number): void {
    for (const entry of entries) {
      if (!this.#released.has(entry.sequence)) {
        if (!this.#mayQueue(entry.sequence, entry.qos)) {
          this.#clearAhead(entries);
          return;
        }
        this.#send(entry.sequence, entry, entry.sequence < this.#sentBelow);
      }
      this.#next = entry.sequence + 1;
    }
    if (entries.length === 0) {
      // What was announced before the read and is not there was dropped at the queue's bound.
      this.#next = Math.max(this.#next, announcedBefore + 1);
      this.#behind = this.#announced >= this.#next;
    } else {
      this.#behind = this.#announced === 0 || this.#announced >= this.#next;
    }
    if (this.#behind) this.#pump();
    else this.#owner.caughtUp();
  }

  /** What was read will be sent soon: identifiers that may be held are cleared together, not one after the other. */
  #clearAhead(entries: readonly QueueEntry[]): void {
    if (this.#droppedBelow === 1) return;
    for (const { sequence, qos } of entries) {
      if (sequence > this.#next) this.#mayQueue(sequence, qos);
    }
  }

  /** Returns false when the message was discarded: it is settled. */
  #send(sequence: number, queued: QueuedMessage, dup: boolean): boolean {
    const packetId = packetIdOf(sequence);
    const form = publishForm(this.#outbox.version, queued.subscriptionIds);
    const sent = this.#outbox.send(queued.message, form, queued.qos, queued.retain, dup, packetId);
    const held = dup && queued.qos === 2;
    if (!sent && !held) {
      this.#settled.push(sequence);
      return false;
    }
    this.#context.counters.inflightMessages += 1;
    let awaiting: InFlight['awaiting'] = queued.qos === 1 ? 'puback' : 'pubrec';
    if (!sent) {
      // The client takes smaller packets only than when it may have got this one, and may hold its identifier.
      awaiting = 'pubcomp';
      this.#sendPubrel(packetId);
    }
    this.#inflight.set(packetId, { sequence, awaiting });
    return true;
  }

  #sendPubrel(packetId: number): void {
    const { encoder, counters } = this.#context;
    encoder.ack(this.#outbox.channel, AckType.Pubrel, packetId, 0, this.#outbox.version);
    counters.packetsSent[AckType.Pubrel]!++;
  }

  /** PUBREL may only go out once the store knows of the PUBREC: a later owner must not send PUBLISH again. */
  #release(packetId: number, entry: InFlight): void {
    entry.awaiting = 'storing-pubrec';
    this.#store.markReleased(this.#session, this.#token, entry.sequence).then(
      (result) => {
        if (this.#closed) return;
        if (result === 'fenced') {
          this.#owner.storeLost('fenced');
          return;
        }
        entry.awaiting = 'pubcomp';
        this.#sendPubrel(packetId);
      },
      () => {
        if (!this.#closed) this.#owner.storeLost('failed');
      },
    );
  }

  #removeSettled(): void {
    const sequences = this.#settled;
    this.#settled = [];
    this.#store.remove(this.#session, this.#token, sequences).then(
      (result) => {
        if (result === 'fenced' && !this.#closed) this.#owner.storeLost('fenced');
      },
      () => {
        if (!this.#closed) this.#owner.storeLost('failed');
      },
    );
  }
}
