import type { Channel, ChannelHandler } from '@shoalmq/core';

/** What received bytes go to: a decoder. */
export interface ByteReceiver {
  push(bytes: Uint8Array, start: number, end: number): void;
  resume(): void;
}

const FIRST_BYTES = 256;

/**
 * A connection without a network. The test is the client and the operating system at once: it decides which bytes
 * arrive together (`receive`), and how much of the output the socket takes and when (`take`), so that back-pressure
 * is a number and not a matter of timing.
 */
export class MemoryChannel implements Channel {
  bytes: Uint8Array = new Uint8Array(FIRST_BYTES);
  length = 0;
  readonly remoteAddress: string;
  readonly remotePort = 1;
  readonly listener = 'memory';
  /** The core has ended the connection. */
  ended = false;
  /** Ended by `destroy`, so that output may be lost. */
  destroyed = false;
  readingPaused = false;
  #receiver: ByteReceiver | undefined = undefined;
  #handler: ChannelHandler | undefined = undefined;
  /** What was sent and not read, because reading was paused. */
  #unread: Uint8Array[] = [];
  #shared: Uint8Array[] = [];
  #sharedBytes = 0;
  #reading = false;

  constructor(remoteAddress = '192.0.2.1') {
    this.remoteAddress = remoteAddress;
  }

  /** What arrives and happens goes to the two. */
  open(receiver: ByteReceiver, handler: ChannelHandler): void {
    this.#receiver = receiver;
    this.#handler = handler;
  }

  get backlogBytes(): number {
    return this.#sharedBytes + this.length;
  }

  /** Bytes that wait because reading is paused. */
  get unreadBytes(): number {
    return this.#unread.reduce((sum, { length }) => sum + length, 0);
  }

  /** The client's bytes arrive, in one piece. */
  receive(bytes: Uint8Array): void {
    if (this.ended) return;
    this.#unread.push(bytes);
    this.#read();
  }

  /** The socket takes output, up to `bytesMax` of it. */
  take(bytesMax = Infinity): Uint8Array {
    this.#cut();
    const all = Buffer.concat(this.#shared);
    const taken = Uint8Array.from(all.subarray(0, Math.min(bytesMax, all.length)));
    const rest = Uint8Array.from(all.subarray(taken.length));
    this.#shared = rest.length === 0 ? [] : [rest];
    this.#sharedBytes = rest.length;
    return taken;
  }

  /** The backlog has fallen far enough for the core to hear of it. */
  drained(): void {
    if (!this.ended) this.#handler?.onDrain();
  }

  /** The client is gone without a word. */
  disconnect(): void {
    if (this.ended) return;
    this.ended = true;
    this.#handler?.onClosed('client_eof');
  }

  reserve(count: number): void {
    if (this.bytes.length - this.length >= count) return;
    const larger = new Uint8Array(Math.max(this.bytes.length * 2, this.length + count));
    larger.set(this.bytes.subarray(0, this.length));
    this.bytes = larger;
  }

  writeShared(bytes: Uint8Array): void {
    this.#cut();
    this.#shared.push(bytes);
    this.#sharedBytes += bytes.length;
  }

  pauseReading(): void {
    this.readingPaused = true;
  }

  resumeReading(): void {
    this.readingPaused = false;
    this.#read();
  }

  resumeDecoding(): void {
    if (!this.ended) this.#receiver?.resume();
  }

  end(): void {
    this.ended = true;
    this.#unread = [];
  }

  destroy(): void {
    this.end();
    this.destroyed = true;
  }

  /** As a socket does: not from within the decoder, and one piece after the other. */
  #read(): void {
    if (this.#reading) return;
    this.#reading = true;
    try {
      while (!this.readingPaused && !this.ended) {
        const bytes = this.#unread.shift();
        if (bytes === undefined) break;
        this.#receiver?.push(bytes, 0, bytes.length);
      }
    } finally {
      this.#reading = false;
    }
  }

  #cut(): void {
    if (this.length === 0) return;
    this.#shared.push(this.bytes.slice(0, this.length));
    this.#sharedBytes += this.length;
    this.length = 0;
  }
}
