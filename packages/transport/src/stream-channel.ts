import type { Duplex } from 'node:stream';
import { SocketChannel, type ChannelOwner } from './socket-channel.ts';

/** Given to the stream at once, so that progress of a large write can be seen. */
const SLICE_BYTES = 64 * 1024;

/**
 * A channel on a Node.js stream, through its public API: where bare handles are not available, and for what has no
 * handle of its own. The stream must be paused, allow half-open connections, and emit 'close'.
 */
export class StreamChannel extends SocketChannel {
  private readonly stream: Duplex;
  private readonly onSlice: (error?: Error | null) => void;
  /** The write in flight: segments not given to the stream yet, from `nextSegment` and `nextOffset` on. */
  private segments: Uint8Array[] = [];
  private nextSegment = 0;
  private nextOffset = 0;
  private sliceBytes = 0;
  private unsent = 0;

  constructor(owner: ChannelOwner, stream: Duplex, remoteAddress: string, remotePort: number) {
    super(owner, remoteAddress, remotePort);
    this.stream = stream;
    this.onSlice = (error) => this.onSliceWritten(error);
    stream.on('data', (bytes: Uint8Array) => this.received(bytes, 0, bytes.length));
    stream.on('end', () => this.receivedEnd());
    stream.on('error', (error) => this.readFailed(codeOf(error)));
    stream.on('close', () => this.onStreamClosed());
  }

  protected startReading(): void {
    this.stream.resume();
  }

  protected stopReading(): void {
    this.stream.pause();
  }

  protected writeOne(segment: Uint8Array): number {
    return this.write([segment], segment.length);
  }

  protected write(segments: Uint8Array[], bytes: number): number {
    this.segments = segments;
    this.nextSegment = 0;
    this.nextOffset = 0;
    this.unsent = bytes;
    this.writeSlice();
    return bytes;
  }

  protected unsentBytes(): number {
    return this.unsent;
  }

  protected halfClose(): void {
    this.stream.end();
  }

  protected closeSocket(): void {
    this.stream.destroy();
  }

  private writeSlice(): void {
    const { stream, segments } = this;
    let room = SLICE_BYTES;
    stream.cork();
    while (room > 0 && this.nextSegment < segments.length) {
      const segment = segments[this.nextSegment]!;
      const end = Math.min(segment.length, this.nextOffset + room);
      const part = segment.subarray(this.nextOffset, end);
      room -= part.length;
      this.nextOffset = end;
      if (end === segment.length) {
        this.nextSegment++;
        this.nextOffset = 0;
      }
      if (room > 0 && this.nextSegment < segments.length) stream.write(part);
      else stream.write(part, this.onSlice);
    }
    this.sliceBytes = SLICE_BYTES - room;
    stream.uncork();
  }

  private onSliceWritten(error: Error | null | undefined): void {
    const failed = error !== undefined && error !== null;
    this.unsent = failed ? 0 : this.unsent - this.sliceBytes;
    if (this.unsent > 0 && !this.isClosing) {
      this.writeProgressed(this.unsent);
      this.writeSlice();
    } else {
      this.segments = [];
      this.writeDone(failed ? codeOf(error) : undefined);
    }
  }

  private onStreamClosed(): void {
    if (!this.isClosing) this.readFailed('ECONNRESET');
    this.closed();
  }
}

function codeOf(error: NodeJS.ErrnoException): string {
  return error.code ?? error.message;
}
