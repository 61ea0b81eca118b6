import type { Channel, ChannelHandler } from '@shoalmq/core';
import { LARGE_CHUNK_BYTES, NO_BYTES, releaseChunk, takeChunk } from './chunk-pool.ts';
import { flushAtTurnEnd } from './event-loop-turn.ts';
import { watch, watchTicks } from './watch.ts';

/** What a channel does with received bytes: a decoder. */
export interface ByteReceiver {
  /**
   * Bytes `start` to `end` of `bytes` arrived. They are borrowed: the buffer is reused when this returns. An
   * exception is a bug of ours and reaches the process.
   */
  push(bytes: Uint8Array, start: number, end: number): void;
  /** Continues with bytes that were kept, after `Channel.resumeDecoding`. */
  resume(): void;
}

/** What a channel needs of the listener that accepted it. */
export interface ChannelOwner {
  readonly name: string;
  /** Ticks of the watch without progress after which a write is given up. */
  readonly writeStallTicks: number;
  bytesReceived: number;
  bytesSent: number;
  /** The connection is gone and its descriptor free. Called before `ChannelHandler.onClosed`. */
  channelClosed(channel: SocketChannel): void;
}

/** `onDrain` is due when the backlog falls below the low mark after it was above the high one. */
export const BACKLOG_HIGH_BYTES = 256 * 1024;
export const BACKLOG_LOW_BYTES = 64 * 1024;
/** Output of one turn that is worth a write of its own before the turn ends. */
const EARLY_FLUSH_BYTES = LARGE_CHUNK_BYTES;
/** Segments in one write; the system takes 1,024 at most (IOV_MAX). */
const SEGMENTS_MAX = 1_000;
/** After a failed write, how long the read side gets to report how the connection ended. */
const BROKEN_MS = 1_000;

/**
 * open ──end──▶ ending ─┐     open     both directions work
 *   │                   │     broken   writing failed; what the client sent before is still read, output is dropped
 *   ├─────▶ broken ─────┤     ending   output is being sent, then half-closed; what is received is discarded
 *   │                   ▼     closing  the descriptor is being closed; nothing goes in or out
 *   └──────────────▶ closing ──▶ closed (onClosed was called)
 */
const State = { Open: 0, Broken: 1, Ending: 2, Closing: 3, Closed: 4 } as const;
type State = (typeof State)[keyof typeof State];

/**
 * Output that did not fit into one chunk or was not taken at once. Made when first needed, so that the many
 * connections that never need it stay small.
 */
class Backlog {
  /** Complete segments, in order; the unfinished one is `channel.bytes` from `segmentStart` on. */
  segments: Uint8Array[] = [];
  /** Chunks that `segments` are views of, to be given back when these are sent. */
  chunks: Uint8Array[] = [];
  /** Chunks of the write in flight. */
  chunksInFlight: Uint8Array[] = [];
  /** Bytes of the write in flight that the system has not taken; 0: none is in flight. */
  inFlightBytes = 0;
  /** Ticks of the watch since the last progress. */
  stalledTicks = 0;
  /** `inFlightBytes` at the last tick. */
  lastTickBytes = 0;
  /** Ticks until the connection is closed although the peer has not; -1: none. */
  ticksLeft = -1;
  watched = false;
}

/**
 * The part of a channel that does not depend on the kind of socket: gathers output per event-loop turn, keeps one
 * write in flight at most, measures the backlog, and knows the life cycle.
 *
 * A connection without output holds no buffer, and no channel has a timer or a closure of its own.
 */
export abstract class SocketChannel implements Channel {
  bytes: Uint8Array = NO_BYTES;
  length = 0;
  readonly remoteAddress: string;
  readonly remotePort: number;
  protected readonly owner: ChannelOwner;
  private receiver: ByteReceiver | undefined = undefined;
  private handler: ChannelHandler | undefined = undefined;
  /** Where in `bytes` the segment begins that is being written. */
  private segmentStart = 0;
  /** Complete segments and what is in flight. */
  private queuedBytes = 0;
  private backlog: Backlog | undefined = undefined;
  private state: State = State.Open;
  private dirty = false;
  private drainDue = false;
  private readingPaused = false;
  private closeReason: Parameters<ChannelHandler['onClosed']>[0] = 'server';
  private closeError: string | undefined = undefined;

  constructor(owner: ChannelOwner, remoteAddress: string, remotePort: number) {
    this.owner = owner;
    // A socket for both IP versions shows an IPv4 client as a mapped address, which no access rule would know.
    this.remoteAddress = remoteAddress.startsWith('::ffff:')
      ? remoteAddress.slice(7)
      : remoteAddress;
    this.remotePort = remotePort;
  }

  /** Starts to read; what arrives and happens goes to the two. */
  open(receiver: ByteReceiver, handler: ChannelHandler): void {
    this.receiver = receiver;
    this.handler = handler;
    if (this.state === State.Ending || (this.state === State.Open && !this.readingPaused)) {
      this.startReading();
    }
  }

  get listener(): string {
    return this.owner.name;
  }

  get backlogBytes(): number {
    return this.queuedBytes + this.length - this.segmentStart;
  }

  reserve(count: number): void {
    if (this.bytes.length - this.length < count) this.makeRoom(count);
  }

  writeShared(bytes: Uint8Array): void {
    if (this.state !== State.Open || bytes.length === 0) return;
    const backlog = (this.backlog ??= new Backlog());
    this.finishSegment(backlog);
    backlog.segments.push(bytes);
    this.queuedBytes += bytes.length;
    this.markDirty();
    if (this.queuedBytes >= EARLY_FLUSH_BYTES && backlog.inFlightBytes === 0) this.send();
  }

  pauseReading(): void {
    this.readingPaused = true;
    if (this.state <= State.Broken && this.receiver !== undefined) this.stopReading();
  }

  resumeReading(): void {
    this.readingPaused = false;
    if (this.state <= State.Broken && this.receiver !== undefined) this.startReading();
  }

  resumeDecoding(): void {
    // Reading goes on by itself: only `pauseReading` stops it.
    if (this.state <= State.Broken) this.receiver?.resume();
  }

  end(drainMs: number): void {
    if (this.state !== State.Open) {
      if (this.state === State.Broken) this.destroy();
      return;
    }
    if (!this.send()) {
      this.destroy();
      return;
    }
    this.state = State.Ending;
    const backlog = (this.backlog ??= new Backlog());
    this.finishChunk(backlog);
    backlog.ticksLeft = watchTicks(drainMs);
    this.watchFrom(backlog);
    if (backlog.inFlightBytes === 0) this.halfClose();
    if (this.receiver !== undefined) this.startReading();
  }

  destroy(): void {
    this.close('server');
  }

  /** Called once at the end of the turn in which something was written. */
  flush(): void {
    this.dirty = false;
    this.send();
    this.reportDrain();
  }

  /** Called by the watch while a write is in flight, or the end is near. */
  watchTick(): boolean {
    const backlog = this.backlog!;
    if (this.state >= State.Closing) return false;
    if (backlog.ticksLeft >= 0 && --backlog.ticksLeft < 0) {
      if (this.state === State.Broken) this.close('io_error', this.closeError);
      else this.close('server');
      return false;
    }
    if (backlog.inFlightBytes === 0) {
      backlog.watched = backlog.ticksLeft >= 0;
      return backlog.watched;
    }
    this.taken(backlog, this.unsentBytes());
    if (backlog.inFlightBytes < backlog.lastTickBytes) backlog.stalledTicks = 0;
    backlog.lastTickBytes = backlog.inFlightBytes;
    if (++backlog.stalledTicks <= this.owner.writeStallTicks) return true;
    this.close(this.state === State.Ending ? 'server' : 'slow_consumer');
    return false;
  }

  /** Starts and stops the flow of bytes to `received`. Both may be called twice. */
  protected abstract startReading(): void;
  protected abstract stopReading(): void;
  /**
   * Writes the segments, `bytes` in all. Returns how many of them the system has not taken yet; if there are any,
   * `writeDone` is called later and nothing of the segments may change until then. Returns -1 after a failure, which
   * it has given to `writeFailed`.
   */
  protected abstract write(segments: Uint8Array[], bytes: number): number;
  /** Like `write`, for the frequent case of one segment. */
  protected abstract writeOne(segment: Uint8Array): number;
  /** Of the write in flight, the bytes the system has not taken; at least 1 before `writeDone`. */
  protected abstract unsentBytes(): number;
  /** Sends a FIN; everything was written. */
  protected abstract halfClose(): void;
  /** Closes the descriptor and calls `closed` in a later turn. */
  protected abstract closeSocket(): void;

  /** Bytes arrived. */
  protected received(bytes: Uint8Array, start: number, end: number): void {
    this.owner.bytesReceived += end - start;
    if (this.state <= State.Broken) this.receiver!.push(bytes, start, end);
  }

  /** The client closed its side, or all of it. */
  protected receivedEnd(): void {
    if (this.state === State.Broken) {
      this.close('io_error', this.closeError);
      return;
    }
    if (this.state === State.Open) this.send(); // the client may have closed its sending side only
    this.close('client_eof');
  }

  protected readFailed(code: string): void {
    this.close('io_error', code);
  }

  /**
   * Writing is over, but a DISCONNECT that the client sent before it went away may still wait to be read, and would
   * make the difference for its will. So reading goes on, until it reports the end too.
   */
  protected writeFailed(code: string): void {
    if (this.state === State.Ending || this.readingPaused) {
      this.close('io_error', code);
    } else if (this.state === State.Open) {
      this.state = State.Broken;
      this.closeError = code;
      this.dropOutput();
      const backlog = (this.backlog ??= new Backlog());
      backlog.ticksLeft = watchTicks(BROKEN_MS);
      this.watchFrom(backlog);
    }
  }

  /** The write in flight was taken as a whole, or failed, or was given up because the socket was closed. */
  protected writeDone(error: string | undefined): void {
    const backlog = this.backlog!;
    for (const chunk of backlog.chunksInFlight) releaseChunk(chunk);
    backlog.chunksInFlight.length = 0;
    if (this.state >= State.Closing) return;
    if (error !== undefined) {
      backlog.inFlightBytes = 0;
      this.writeFailed(error);
      return;
    }
    this.taken(backlog, 0);
    this.send();
    if (this.state === State.Ending && backlog.inFlightBytes === 0) this.halfClose();
    this.reportDrain();
  }

  /** The descriptor is closed. */
  protected closed(): void {
    if (this.state === State.Closed) return;
    this.state = State.Closed;
    this.owner.channelClosed(this);
    this.handler?.onClosed(this.closeReason, this.closeError);
  }

  protected get isClosing(): boolean {
    return this.state >= State.Closing;
  }

  /** The first reason given is the one reported. */
  private close(reason: Parameters<ChannelHandler['onClosed']>[0], error?: string): void {
    if (this.state >= State.Closing) return;
    if (this.state !== State.Ending) {
      this.closeReason = reason;
      this.closeError = reason === 'io_error' ? error : undefined;
    }
    this.state = State.Closing;
    this.dropOutput();
    this.closeSocket();
  }

  private makeRoom(count: number): void {
    if (this.state !== State.Open) {
      // The writer need not ask whether anybody still listens: a buffer that goes nowhere.
      this.bytes = new Uint8Array(Math.max(count, 512));
      this.length = 0;
      return;
    }
    const written = this.length - this.segmentStart;
    if (this.bytes === NO_BYTES) {
      this.bytes = takeChunk(count);
    } else if (this.segmentStart === 0 && written + count <= LARGE_CHUNK_BYTES) {
      const grown = takeChunk(LARGE_CHUNK_BYTES);
      grown.set(this.bytes.subarray(0, written));
      releaseChunk(this.bytes);
      this.bytes = grown;
    } else {
      const backlog = (this.backlog ??= new Backlog());
      this.finishChunk(backlog);
      if (this.queuedBytes >= EARLY_FLUSH_BYTES && backlog.inFlightBytes === 0) {
        if (!this.send()) {
          this.makeRoom(count);
          return;
        }
      }
      this.bytes = takeChunk(Math.max(count, LARGE_CHUNK_BYTES));
    }
    this.markDirty();
  }

  private markDirty(): void {
    if (this.dirty) return;
    this.dirty = true;
    flushAtTurnEnd(this);
  }

  /** Puts what was written to `bytes` since the last segment into the list of segments. */
  private finishSegment(backlog: Backlog): void {
    const bytes = this.length - this.segmentStart;
    if (bytes === 0) return;
    backlog.segments.push(this.bytes.subarray(this.segmentStart, this.length));
    this.queuedBytes += bytes;
    this.segmentStart = this.length;
  }

  /** Likewise, and no more is written to this chunk. */
  private finishChunk(backlog: Backlog): void {
    if (this.bytes === NO_BYTES) return;
    this.finishSegment(backlog);
    backlog.chunks.push(this.bytes);
    this.dropChunk();
  }

  private dropChunk(): void {
    this.bytes = NO_BYTES;
    this.length = 0;
    this.segmentStart = 0;
  }

  /**
   * Writes all there is, unless a write is in flight: then `writeDone` continues. False: writing is over. Never
   * calls the handler.
   */
  private send(): boolean {
    if (this.state !== State.Open && this.state !== State.Ending) return false;
    const backlog = this.backlog;
    if (backlog !== undefined && (backlog.segments.length > 0 || backlog.inFlightBytes > 0)) {
      while (backlog.inFlightBytes === 0 && backlog.segments.length > 0) {
        if (!this.sendSegments(backlog)) return false;
      }
      return true;
    }
    const { length } = this;
    if (length === 0 || this.state === State.Ending) return true;
    const chunk = this.bytes;
    if (length > BACKLOG_HIGH_BYTES) this.drainDue = true;
    this.dropChunk();
    const unsent = this.writeOne(chunk.subarray(0, length));
    if (unsent > 0) this.inFlight(unsent, chunk);
    else releaseChunk(chunk);
    if (unsent < 0) return false;
    this.owner.bytesSent += length - unsent;
    return true;
  }

  private sendSegments(backlog: Backlog): boolean {
    if (this.backlogBytes > BACKLOG_HIGH_BYTES) this.drainDue = true;
    if (this.state === State.Open) this.finishChunk(backlog);
    let segments = backlog.segments;
    let bytes = this.queuedBytes;
    if (segments.length <= SEGMENTS_MAX) {
      backlog.segments = [];
    } else {
      backlog.segments = segments.slice(SEGMENTS_MAX);
      segments = segments.slice(0, SEGMENTS_MAX);
      bytes = 0;
      for (const segment of segments) bytes += segment.length;
    }
    // Chunks are given back when the last segment left: later segments may be views of the same chunk.
    const last = backlog.segments.length === 0;
    const unsent =
      segments.length === 1 ? this.writeOne(segments[0]!) : this.write(segments, bytes);
    if (unsent < 0) return false;
    this.queuedBytes -= bytes;
    this.owner.bytesSent += bytes - unsent;
    if (unsent > 0) {
      this.inFlight(unsent, undefined);
      if (last) {
        const chunks = backlog.chunks;
        backlog.chunks = backlog.chunksInFlight;
        backlog.chunksInFlight = chunks;
      }
    } else if (last) {
      for (const chunk of backlog.chunks) releaseChunk(chunk);
      backlog.chunks.length = 0;
    }
    return true;
  }

  private inFlight(unsentBytes: number, chunk: Uint8Array | undefined): void {
    const backlog = (this.backlog ??= new Backlog());
    if (chunk !== undefined) backlog.chunksInFlight.push(chunk);
    this.queuedBytes += unsentBytes;
    backlog.inFlightBytes = unsentBytes;
    backlog.lastTickBytes = unsentBytes;
    backlog.stalledTicks = 0;
    this.watchFrom(backlog);
  }

  /** Part of the write in flight was taken. */
  protected writeProgressed(unsentBytes: number): void {
    if (this.state < State.Closing) this.taken(this.backlog!, unsentBytes);
  }

  /** Of the write in flight, only `unsentBytes` are still with us. */
  private taken(backlog: Backlog, unsentBytes: number): void {
    if (this.backlogBytes > BACKLOG_HIGH_BYTES) this.drainDue = true;
    const bytes = backlog.inFlightBytes - unsentBytes;
    backlog.inFlightBytes = unsentBytes;
    this.queuedBytes -= bytes;
    this.owner.bytesSent += bytes;
  }

  private reportDrain(): void {
    if (!this.drainDue || this.backlogBytes >= BACKLOG_LOW_BYTES || this.state !== State.Open)
      return;
    this.drainDue = false;
    this.handler!.onDrain();
  }

  private watchFrom(backlog: Backlog): void {
    if (backlog.watched) return;
    backlog.watched = true;
    watch(this);
  }

  /** Forgets what was not written. What is in flight belongs to the system until `writeDone`. */
  private dropOutput(): void {
    if (this.bytes !== NO_BYTES && this.segmentStart === 0) releaseChunk(this.bytes);
    this.dropChunk();
    this.queuedBytes = 0;
    const backlog = this.backlog;
    if (backlog === undefined) return;
    backlog.segments = [];
    backlog.chunks = [];
  }
}
