import type { ByteSink, Histogram, NodeIdentity } from '@shoalmq/core';
import { CHUNK_BYTES, takeChunk } from './chunk.ts';
import type { Chunk } from './chunk.ts';
import { grpcTransport } from './grpc-transport.ts';
import { linkVersion } from './handshake.ts';
import type { LinkVersion } from './handshake.ts';
import { FRAME_HEADER_BYTES_MAX, encodeEmptyFrame, writeFrameHeader } from './messages.ts';
import type { FrameHeader, Refusal } from './messages.ts';
import type { LinkSecurity } from './security.ts';
import { SenderStream } from './sender-stream.ts';
import type { SenderStreamHandler } from './sender-stream.ts';
import { SettleQueue } from './settle-queue.ts';
import type { Outcome, Settleable } from './settle-queue.ts';
import type { LinkTransport } from './transport.ts';

/**
 * `connecting`: never up so far; `up`: items flow; `down`: was up or could not be reached, and tries again; `closed`.
 */
export type LinkState = 'connecting' | 'up' | 'down' | 'closed';

export interface LinkLimits {
  /**
   * Bytes kept for the peer, sent and not acknowledged or not sent. Beyond half of it droppable items are dropped,
   * beyond it the oldest items are given up and the peer is told that it missed something. Who waits for those waits
   * until the peer was told, or until the deadline.
   */
  readonly bufferBytesMax: number;
  /** Bytes kept for the peer at which the link says that it is congested; relieved at half of it. */
  readonly congestedBytes: number;
  /** Bytes of one item. The receiver must be set to the same. */
  readonly itemBytesMax: number;
  /**
   * Milliseconds after which nobody waits any longer for an acknowledgement. The same on all nodes: a receiver that
   * has not heard from its peer for less has missed nothing that was acknowledged to a publisher.
   */
  readonly deadlineMs: number;
  /** Milliseconds without a stream after which droppable items are dropped. */
  readonly dropAfterMs: number;
  /** Milliseconds in which a stream must be welcome. */
  readonly connectTimeoutMs: number;
  /** Milliseconds between attempts: doubled from the one to the other, each with a random part. */
  readonly reconnectMinMs: number;
  readonly reconnectMaxMs: number;
  /** Milliseconds of silence after which the peer is asked for a sign of life, and in which it must give one. */
  readonly keepAliveMs: number;
}

export const DEFAULT_LINK_LIMITS: LinkLimits = {
  bufferBytesMax: 67_108_864,
  congestedBytes: 8_388_608,
  itemBytesMax: 16_777_216,
  deadlineMs: 12_000,
  dropAfterMs: 1_000,
  connectTimeoutMs: 3_000,
  reconnectMinMs: 50,
  reconnectMaxMs: 2_000,
  keepAliveMs: 2_000,
};

/** What a link tells. Never called while an item is being written. */
export interface LinkEvents {
  /**
   * Called for each change of the state, and with `down` for each further attempt that failed. `refusal`: the peer does
   * not want this link, which tries again all the same. `detail` is for people.
   */
  onState(state: LinkState, refusal: Refusal | undefined, detail: string): void;
  /** Told at the end of a turn. A link that is closed is not congested, and does not say so. */
  onCongestion(congested: boolean): void;
  /** The deadline of `items` passed: they were settled as `late`, and still go to the peer when it can be reached. */
  onLate(items: number): void;
}

export interface PeerLinkOptions {
  readonly self: NodeIdentity;
  /** The life of the peer that this link is for. */
  readonly peer: NodeIdentity;
  /** Where it listens, host:port. */
  readonly address: string;
  /** Version of Shoal, semantic. */
  readonly version: string;
  readonly security: LinkSecurity;
  readonly limits?: Partial<LinkLimits>;
  /** @default gRPC */
  readonly transport?: LinkTransport;
  /**
   * Whether anybody may be told that an item is late: not by a node without a lease, which the peer may have taken for
   * dead. Then it is asked again in a moment. @default always
   */
  readonly mayBeLate?: () => boolean;
  /** Gets how long frames that somebody waits for took to be acknowledged, from their first item on. */
  readonly acknowledged?: Histogram;
  readonly events: LinkEvents;
}

/** What was sent and what was not, for metrics. Only ever grows. */
export interface LinkCounters {
  /** Items handed to a stream, each once for every stream that it was handed to. */
  itemsSent: number;
  framesSent: number;
  bytesSent: number;
  itemsDropped: number;
  itemsLate: number;
  /** Given up. Some may have arrived before the stream broke: the peer is told of those that did not. */
  itemsMissed: number;
  /** Streams that were up and broke. */
  resets: number;
}

/** Room of a frame for items, in a chunk of its own. */
const PIECE_BYTES_MAX = CHUNK_BYTES - FRAME_HEADER_BYTES_MAX;
/** What is left of a chunk is not worth another frame below this. */
const ROOM_BYTES_MIN = FRAME_HEADER_BYTES_MAX + 1_024;
/** A stream that was up for so long was no accident: the next attempt comes soon. */
const STABLE_MS = 1_000;
/** A timer that is late by so much fired after a stall: acknowledgements may be waiting to be read. */
const STALL_MS = 1_000;
const AFTER_STALL_MS = 100;
/** Milliseconds until it is asked again whether anybody may be told that an item is late. */
const LATE_AGAIN_MS = 250;

const NO_BYTES = new Uint8Array(0);

/** Links of this process get ascending numbers: a receiver can tell which of two is the later one. */
let lastLinkNumber = 0;

/** A frame that the peer has not acknowledged. */
class Frame implements FrameHeader {
  sequence: number;
  count: number;
  dropped: number;
  missed = 0;
  continues: boolean;
  /** Those in the queue who wait for this frame. */
  waiting: number;
  readonly createdAtMs: number;
  /** What is sent: the header and the items in `chunk`. */
  message: Buffer;
  chunk: Chunk | undefined;
  /** Of items, at the end of the message. */
  itemsBytes = 0;
  next: Frame | undefined;

  constructor(fields: {
    sequence: number;
    count: number;
    dropped: number;
    continues: boolean;
    waiting: number;
    createdAtMs: number;
  }) {
    this.sequence = fields.sequence;
    this.count = fields.count;
    this.dropped = fields.dropped;
    this.continues = fields.continues;
    this.waiting = fields.waiting;
    this.createdAtMs = fields.createdAtMs;
    this.message = NO_MESSAGE;
    this.chunk = undefined;
    this.next = undefined;
  }

  get urgent(): boolean {
    return this.waiting > 0;
  }
}

const NO_MESSAGE = Buffer.alloc(0);

/** Gets `count` items, bytes `start` to `end`. */
export type TakeItems = (bytes: Uint8Array, start: number, end: number, count: number) => void;

/** Some of those who wait, one behind the other, and what they are told. */
interface Waited {
  count: number;
  readonly outcome: Outcome;
}

/**
 * The sending side of the link to one life of a peer: items go out in order, each to arrive exactly once, while streams
 * come and go.
 *
 * An item is written to the link itself, which is a `ByteSink`, and ends with `commit` or `commitDroppable`:
 *
 *     link.reserve(count);
 *     link.bytes[link.length++] = ...;
 *     link.commit(waiter);
 *
 * The items of one event-loop turn leave as one frame (more, when they exceed 112 KiB). A frame stays in memory until
 * the peer acknowledges it, and is sent again on the next stream if it did not arrive. Nothing is allocated per item.
 *
 *     chunk:  [ header | items of a sent frame ][ header | item, item, item, ... half an item ]
 *                                               frameStart ▲             itemStart ▲    length ▲
 *
 * The header's place is kept free in front of the items and filled in when the frame is complete, so that it is sent
 * from where it was written.
 */
export class PeerLink implements ByteSink {
  bytes: Uint8Array = NO_BYTES;
  length = 0;
  /** False: the peer cannot know of this link. */
  introduced = false;
  readonly counters: LinkCounters = {
    itemsSent: 0,
    framesSent: 0,
    bytesSent: 0,
    itemsDropped: 0,
    itemsLate: 0,
    itemsMissed: 0,
    resets: 0,
  };

  readonly #options: PeerLinkOptions;
  readonly #events: LinkEvents;
  readonly #limits: LinkLimits;
  readonly #version: LinkVersion;
  readonly #linkNumber = ++lastLinkNumber;
  readonly #flushSoon = (): void => this.#flush();
  readonly #handler: SenderStreamHandler = {
    onChallenged: () => {
      this.introduced = true;
    },
    onWelcome: (received) => this.#goOn(received),
    onAcknowledged: (sequence) => this.#acknowledge(sequence),
    onWritable: () => {
      this.#writable = true;
      this.#flush();
    },
    onBroken: (refusal, detail) => this.#break(refusal, detail),
  };
  readonly #queue = new SettleQueue();

  #state: LinkState = 'connecting';
  #stream: SenderStream | undefined;
  #attempt = 0;
  #failures = 0;
  #upSinceMs = 0;
  #reconnectTimer: NodeJS.Timeout | undefined;
  #downTimer: NodeJS.Timeout | undefined;
  #downLong = false;
  #deadlineTimer: NodeJS.Timeout | undefined;

  /** Where the open frame is being written. */
  #chunk: Chunk | undefined;
  #frameStart = 0;
  #itemStart = 0;
  #count = 0;
  #waiting = 0;
  #dropped = 0;
  #createdAtMs = 0;
  #dirty = false;

  /** Complete frames that are not acknowledged, a list from `#first` to `#last`. */
  #first: Frame | undefined;
  #last: Frame | undefined;
  /** The first one that the present stream has not been given. */
  #unsent: Frame | undefined;
  /** While there is no stream: frames up to here are given up already. */
  #givenUp: Frame | undefined;
  #sequence = 0;
  #handedSequence = 0;
  #acknowledged = 0;
  #bufferedBytes = 0;
  #writable = false;
  #dropping = false;
  #congestionTold = false;

  constructor(options: PeerLinkOptions) {
    this.#options = options;
    this.#events = options.events;
    this.#limits = { ...DEFAULT_LINK_LIMITS, ...options.limits };
    this.#version = linkVersion(options.version);
    this.#armDownTimer();
    this.#connect();
  }

  get peer(): NodeIdentity {
    return this.#options.peer;
  }

  get state(): LinkState {
    return this.#state;
  }

  /** Whether more than `congestedBytes` wait for the peer: slow down those who publish to it. */
  get congested(): boolean {
    return this.#congestionTold;
  }

  /** Whether droppable items are being dropped. The answer holds for the rest of this turn, at most. */
  get dropping(): boolean {
    return this.#dropping;
  }

  /** Bytes kept for the peer in complete frames. */
  get bufferedBytes(): number {
    return this.#bufferedBytes;
  }

  /** Those who wait for the peer to acknowledge what they sent. */
  get waiting(): number {
    return this.#queue.count;
  }

  reserve(count: number): void {
    if (this.bytes.length - this.length < count) this.#makeRoom(count);
  }

  /**
   * Ends an item that must arrive. `settleable` is settled when the peer has it, or knows that it was given up, when the
   * deadline has passed, or when the link is closed (at once, if it is closed already).
   *
   * @throws RangeError when the item is larger than `itemBytesMax`; the item is forgotten.
   */
  commit(settleable: Settleable | undefined): void {
    if (this.#state === 'closed') {
      this.length = 0;
      settleable?.settle('closed');
      return;
    }
    if (this.length - this.#frameStart > PIECE_BYTES_MAX) {
      if (this.length - this.#itemStart > PIECE_BYTES_MAX) {
        this.#commitLarge(settleable);
        return;
      }
      this.#makeRoom(0);
    }
    if (this.#count === 0) this.#createdAtMs = performance.now();
    this.#count++;
    this.#itemStart = this.length;
    if (settleable !== undefined) {
      this.#waiting++;
      this.#await(settleable);
    }
    if (!this.#dirty) this.#markDirty();
  }

  /**
   * Ends an item that nobody waits for. It is dropped when there has been no stream for a while, or when the buffer is
   * half full; the peer then learns that there is a gap.
   */
  commitDroppable(): void {
    if (!this.#dropping) {
      this.commit(undefined);
      return;
    }
    this.length = this.#itemStart;
    this.counters.itemsDropped++;
    if (this.#state === 'closed') return;
    this.#dropped++;
    if (!this.#dirty) this.#markDirty();
  }

  /** The peer is gone: ends the stream and settles everything that waits. The link cannot be used again. */
  close(): void {
    this.abandon()('closed');
  }

  /**
   * As `close`, but those who wait are settled by the function that it returns. `take` gets what the peer has not
   * acknowledged, and may have, as the peer would have got it.
   */
  abandon(take?: TakeItems): (outcome: 'closed' | 'failed') => void {
    if (this.#state === 'closed') return () => undefined;
    if (take !== undefined) {
      if (this.#count > 0) this.#finishFrame();
      this.#giveUnacknowledged(take);
    }
    this.#state = 'closed';
    this.#stream?.close();
    this.#stream = undefined;
    clearTimeout(this.#reconnectTimer);
    clearTimeout(this.#downTimer);
    clearTimeout(this.#deadlineTimer);
    for (let frame = this.#first; frame !== undefined; frame = frame.next) frame.chunk?.release();
    this.#first = this.#last = this.#unsent = this.#givenUp = undefined;
    this.#leaveChunk();
    this.#bufferedBytes = this.#count = this.#waiting = this.#dropped = 0;
    this.#dropping = true;
    this.#congestionTold = false;
    this.#events.onState('closed', undefined, '');
    return (outcome) => {
      this.#queue.settle(this.#queue.count, outcome);
    };
  }

  #giveUnacknowledged(take: TakeItems): void {
    let pieces: Uint8Array[] = [];
    for (let frame = this.#first; frame !== undefined; frame = frame.next) {
      const { message, chunk, itemsBytes, count, continues } = frame;
      // What was given up is not there any more.
      if (chunk === undefined) pieces = [];
      else if (continues || pieces.length > 0) pieces.push(message.subarray(-itemsBytes));
      else take(message, message.length - itemsBytes, message.length, count);
      if (continues || pieces.length === 0) continue;
      const items = Buffer.concat(pieces);
      pieces = [];
      take(items, 0, items.length, count);
    }
  }

  #goOn(received: number): void {
    if (received < this.#acknowledged || received > this.#sequence) {
      this.#stream?.close();
      this.#break('forgotten', `the peer says it received frame ${received}`);
      return;
    }
    this.#state = 'up';
    this.#upSinceMs = performance.now();
    clearTimeout(this.#downTimer);
    this.#downLong = false;
    this.#handedSequence = received;
    this.#writable = true;
    const waited = this.#forget(received);
    this.#unsent = this.#first;
    this.#givenUp = undefined;
    this.#updateDropping();
    this.#settle(waited);
    // Those who were settled may have closed the link.
    if (this.#stream === undefined) return;
    this.#events.onState('up', undefined, '');
    this.#flush();
  }

  #acknowledge(sequence: number): void {
    if (sequence > this.#handedSequence) {
      this.#stream?.close();
      this.#break('malformed', `the peer acknowledged frame ${sequence} before it was sent`);
      return;
    }
    if (sequence <= this.#acknowledged) return;
    const waited = this.#forget(sequence);
    this.#updateDropping();
    this.#settle(waited);
    if (this.#congestionTold && !this.#dirty) this.#markDirty();
  }

  #break(refusal: Refusal | undefined, detail: string): void {
    const wasUp = this.#state === 'up';
    if (wasUp) {
      this.counters.resets++;
      if (performance.now() - this.#upSinceMs >= STABLE_MS) this.#failures = 0;
      this.#armDownTimer();
    }
    this.#state = 'down';
    this.#stream = undefined;
    this.#writable = false;
    this.#unsent = this.#first;
    const limits = this.#limits;
    const pauseMs =
      refusal === undefined
        ? Math.min(limits.reconnectMaxMs, limits.reconnectMinMs * 2 ** Math.min(this.#failures, 16))
        : limits.reconnectMaxMs;
    this.#failures++;
    this.#reconnectTimer = setTimeout(() => this.#connect(), pauseMs * (0.5 + Math.random() / 2));
    this.#events.onState('down', refusal, detail);
  }

  #connect(): void {
    const { self, peer, address, security, transport = grpcTransport } = this.#options;
    this.#stream = new SenderStream(
      {
        self,
        peer,
        address,
        version: this.#version,
        security,
        transport,
        link: this.#linkNumber,
        attempt: ++this.#attempt,
        acknowledged: this.#acknowledged,
        connectTimeoutMs: this.#limits.connectTimeoutMs,
        keepAliveMs: this.#limits.keepAliveMs,
      },
      this.#handler,
    );
  }

  #armDownTimer(): void {
    clearTimeout(this.#downTimer);
    this.#downTimer = setTimeout(() => {
      this.#downLong = true;
      this.#updateDropping();
    }, this.#limits.dropAfterMs);
  }

  #updateDropping(): void {
    this.#dropping = this.#downLong || this.#bufferedBytes > this.#limits.bufferBytesMax / 2;
  }

  #await(settleable: Settleable): void {
    this.#queue.push(settleable);
    if (this.#deadlineTimer === undefined) this.#armDeadline(this.#limits.deadlineMs);
  }

  #armDeadline(delayMs: number): void {
    const dueMs = performance.now() + delayMs;
    this.#deadlineTimer = setTimeout(() => {
      this.#deadlineTimer = undefined;
      if (performance.now() - dueMs > STALL_MS) this.#armDeadline(AFTER_STALL_MS);
      else this.#settleLate();
    }, delayMs);
  }

  /** Nobody waits for frames that are older than the deadline. Comes back when the next one is due. */
  #settleLate(): void {
    if (this.#options.mayBeLate?.() === false) {
      this.#armDeadline(LATE_AGAIN_MS);
      return;
    }
    if (this.#count > 0) this.#finishFrame();
    const dueMs = performance.now() - this.#limits.deadlineMs;
    let late = 0;
    for (let frame = this.#first; frame !== undefined; frame = frame.next) {
      if (frame.waiting === 0) continue;
      if (frame.createdAtMs > dueMs) {
        this.#armDeadline(frame.createdAtMs - dueMs + 1);
        break;
      }
      late += frame.waiting;
      frame.waiting = 0;
    }
    if (late > 0) {
      this.counters.itemsLate += late;
      this.#queue.settle(late, 'late');
      this.#events.onLate(late);
    }
  }

  #markDirty(): void {
    this.#dirty = true;
    setImmediate(this.#flushSoon);
  }

  /** At the end of a turn in which something was written, and when the stream takes frames again. */
  #flush(): void {
    this.#dirty = false;
    if (this.#state === 'closed') return;
    if (this.#writable) {
      if (this.#count > 0 || this.#dropped > 0) this.#finishFrame();
      this.#send();
    }
    if (this.#bufferedBytes > this.#limits.bufferBytesMax) this.#giveUpOldest();
    this.#tellCongestion();
  }

  #send(): void {
    const { counters } = this;
    for (let frame = this.#unsent; frame !== undefined && this.#writable; frame = frame.next) {
      this.#unsent = frame.next;
      this.#handedSequence = frame.sequence;
      counters.framesSent++;
      counters.itemsSent += frame.count;
      counters.bytesSent += frame.message.length;
      this.#writable = this.#stream!.write(frame.message);
    }
  }

  #tellCongestion(): void {
    const { congestedBytes } = this.#limits;
    if (this.#state === 'closed') return;
    const congested =
      this.#bufferedBytes > (this.#congestionTold ? congestedBytes / 2 : congestedBytes);
    if (congested === this.#congestionTold) return;
    this.#congestionTold = congested;
    this.#events.onCongestion(congested);
  }

  /**
   * While there are more bytes than allowed, replaces the oldest frames by a note that they are missing. The stream
   * must not have been given them: it may have sent half of one.
   */
  #giveUpOldest(): void {
    let frame = this.#unsent;
    if (this.#state !== 'up' && this.#givenUp !== undefined) frame = this.#givenUp.next;
    let inItem = false;
    for (; frame !== undefined; frame = frame.next) {
      if (this.#bufferedBytes <= this.#limits.bufferBytesMax && !inItem) break;
      this.#givenUp = frame;
      if (frame.chunk === undefined) continue;
      inItem = frame.continues;
      this.counters.itemsMissed += frame.count;
      this.#bufferedBytes -= frame.message.length;
      // Of an item in several frames the last one says that it is missed, and the others still say that it goes on.
      frame.missed = frame.count;
      frame.count = 0;
      frame.message = encodeEmptyFrame(frame);
      this.#bufferedBytes += frame.message.length;
      frame.chunk.release();
      frame.chunk = undefined;
    }
    this.#updateDropping();
  }

  #settle(waited: readonly Waited[]): void {
    for (const { count, outcome } of waited) this.#queue.settle(count, outcome);
  }

  /** Lets go of frames that the peer has. Returns how many wait for them, in order. */
  #forget(received: number): readonly Waited[] {
    const waited: Waited[] = [];
    let nowMs = 0;
    let frame = this.#first;
    for (; frame !== undefined && frame.sequence <= received; frame = frame.next) {
      if (frame.waiting > 0) {
        nowMs ||= performance.now();
        this.#options.acknowledged?.observe(nowMs - frame.createdAtMs);
        const outcome = frame.missed > 0 ? 'missed' : 'acknowledged';
        const last = waited.at(-1);
        if (last?.outcome === outcome) last.count += frame.waiting;
        else waited.push({ count: frame.waiting, outcome });
      }
      this.#bufferedBytes -= frame.message.length;
      frame.chunk?.release();
    }
    this.#first = frame;
    if (frame === undefined) this.#last = undefined;
    this.#acknowledged = received;
    // Writing goes on at the start of the chunk, which is in the processor's cache.
    if (this.#chunk?.idle === true && this.#count === 0) this.#startFrameAt(FRAME_HEADER_BYTES_MAX);
    return waited;
  }

  /** Completes the open frame between two items and makes ready for the next one. */
  #finishFrame(): void {
    this.#seal();
    const start = this.length + FRAME_HEADER_BYTES_MAX;
    if (this.bytes.length - start >= ROOM_BYTES_MIN) this.#startFrameAt(start);
    else this.#leaveChunk();
  }

  /** Completes the frame of the items that are committed. The caller decides where writing goes on. */
  #seal(): void {
    const frame = new Frame({
      sequence: ++this.#sequence,
      count: this.#count,
      dropped: this.#dropped,
      continues: false,
      waiting: this.#waiting,
      createdAtMs: this.#createdAtMs,
    });
    this.#dropped = 0;
    if (this.#count === 0) {
      frame.message = encodeEmptyFrame(frame);
    } else {
      const chunk = this.#chunk!;
      chunk.retain();
      this.#place(frame, chunk, this.#frameStart, this.#itemStart);
    }
    this.#count = this.#waiting = 0;
    this.#append(frame);
  }

  /** Writes the frame's header in front of its items, which are bytes `start` to `end` of the chunk. */
  #place(frame: Frame, chunk: Chunk, start: number, end: number): void {
    const headerStart = writeFrameHeader(chunk.bytes, start, end - start, frame);
    frame.message = Buffer.from(chunk.bytes.buffer, headerStart, end - headerStart);
    frame.chunk = chunk;
    frame.itemsBytes = end - start;
  }

  #append(frame: Frame): void {
    if (this.#last === undefined) this.#first = frame;
    else this.#last.next = frame;
    this.#last = frame;
    this.#unsent ??= frame;
    this.#bufferedBytes += frame.message.length;
    this.#updateDropping();
  }

  /** Moves the item that is being written to a chunk where `count` more bytes of it have room. */
  #makeRoom(count: number): void {
    if (this.#state === 'closed') {
      // The writer need not ask whether anybody still listens: a buffer that goes nowhere.
      this.bytes = new Uint8Array(Math.max(count, 512));
      this.length = 0;
      return;
    }
    if (this.#count > 0) this.#seal();
    const item = this.bytes.subarray(this.#itemStart, this.length);
    const neededBytes = FRAME_HEADER_BYTES_MAX + item.length + count;
    // An item that outgrows a chunk doubles, or it would be copied again for every piece of it.
    const chunk = takeChunk(neededBytes <= CHUNK_BYTES ? CHUNK_BYTES : neededBytes + item.length);
    chunk.bytes.set(item, FRAME_HEADER_BYTES_MAX);
    this.#chunk?.release();
    this.#chunk = chunk;
    this.bytes = chunk.bytes;
    this.#startFrameAt(FRAME_HEADER_BYTES_MAX);
    this.length += item.length;
  }

  /** Ends an item that needs several frames. It lies alone in a chunk of its own. */
  #commitLarge(settleable: Settleable | undefined): void {
    const item = this.bytes.subarray(this.#itemStart, this.length);
    const { itemBytesMax } = this.#limits;
    if (item.length > itemBytesMax) {
      this.length = this.#itemStart;
      throw new RangeError(`an item of ${item.length} bytes exceeds ${itemBytesMax}`);
    }
    if (this.#count > 0) this.#seal();
    const createdAtMs = performance.now();
    for (let start = 0; start < item.length; start += PIECE_BYTES_MAX) {
      const piece = item.subarray(start, start + PIECE_BYTES_MAX);
      const last = start + piece.length === item.length;
      const frame = new Frame({
        sequence: ++this.#sequence,
        count: last ? 1 : 0,
        dropped: this.#dropped,
        continues: !last,
        waiting: last && settleable !== undefined ? 1 : 0,
        createdAtMs,
      });
      this.#dropped = 0;
      const chunk = takeChunk(FRAME_HEADER_BYTES_MAX + piece.length);
      chunk.bytes.set(piece, FRAME_HEADER_BYTES_MAX);
      this.#place(frame, chunk, FRAME_HEADER_BYTES_MAX, FRAME_HEADER_BYTES_MAX + piece.length);
      this.#append(frame);
    }
    this.#leaveChunk();
    if (settleable !== undefined) this.#await(settleable);
    if (!this.#dirty) this.#markDirty();
  }

  #startFrameAt(start: number): void {
    this.#frameStart = this.#itemStart = this.length = start;
  }

  #leaveChunk(): void {
    this.#chunk?.release();
    this.#chunk = undefined;
    this.bytes = NO_BYTES;
    this.#startFrameAt(0);
  }
}
