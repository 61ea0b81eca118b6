/**
 * The only file that knows what is below Node's `net.Socket`: the handle, its one-buffer reads and its writes with
 * a synchronous result.
 *
 * Why: with one small read and one small write per message there is nothing to batch, and the stream machinery
 * between the two shows in the cost of every message. Node has no public way to read accepted sockets into one
 * buffer, or to learn that a write was taken at once. The names used here are those of Node 20, 22 and 24; should one
 * be missing, `tcpHandles` says so and `listen` uses the public API (stream-channel.ts).
 */
import type { Server } from 'node:net';
import { getSystemErrorName } from 'node:util';
import { SocketChannel, type ChannelOwner } from './socket-channel.ts';

/** A request of libuv. The same object serves any number of writes that were taken at once. */
interface Request {
  oncomplete: (this: Request, status: number) => void;
  channel: HandleChannel | undefined;
  /** Kept reachable while in flight. */
  segments: Uint8Array | Uint8Array[] | undefined;
}

/** The `_handle` of an accepted socket. */
export interface TcpHandle {
  onread: (this: TcpHandle) => undefined;
  channel: HandleChannel | undefined;
  useUserBuffer(buffer: Uint8Array): void;
  readStart(): number;
  readStop(): number;
  writeBuffer(request: Request, bytes: Uint8Array): number;
  writev(request: Request, segments: Uint8Array[], allBuffers: true): number;
  shutdown(request: Request): number;
  setNoDelay(on: boolean): number;
  getpeername(out: PeerName): number;
  close(onClosed?: (this: TcpHandle) => void): void;
  readonly writeQueueSize: number;
}

interface PeerName {
  address?: string;
  port?: number;
}

interface ServerHandle {
  onconnection: (this: unknown, status: number, handle: TcpHandle | undefined) => void;
}

interface StreamBinding {
  readonly WriteWrap: new () => Request;
  readonly ShutdownWrap: new () => Request;
  readonly streamBaseState: Int32Array;
  readonly kReadBytesOrError: number;
  readonly kLastWriteWasAsync: number;
}

/** Bytes read at once. All sockets of the process share the buffer: a receiver is done with it when it returns. */
const READ_BUFFER_BYTES = 64 * 1024;
/** libuv's UV_EOF. */
const UV_EOF = -4095;

/** What a handle must have. */
const METHODS = [
  'onread',
  'useUserBuffer',
  'readStart',
  'readStop',
  'writeBuffer',
  'writev',
  'writeQueueSize',
  'shutdown',
  'setNoDelay',
  'getpeername',
  'close',
];

const binding = streamBinding();
const streamState = binding?.streamBaseState ?? new Int32Array(5);
const kReadBytesOrError = binding?.kReadBytesOrError ?? 0;
const kLastWriteWasAsync = binding?.kLastWriteWasAsync ?? 0;
const readBuffer = new Uint8Array(binding === undefined ? 0 : READ_BUFFER_BYTES);

/** Whether this Node.js has the internals that `acceptHandles` and `HandleChannel` use. */
export const tcpHandles: boolean = binding !== undefined;

/**
 * Has the handles of connections to a listening server given to `accept` instead of being wrapped in sockets;
 * `failed` gets the codes of failed accepts. Returns false, and changes nothing, when the server looks unfamiliar.
 */
export function acceptHandles(
  server: Server,
  accept: (handle: TcpHandle) => void,
  failed: (code: string) => void,
): boolean {
  const handle = (server as unknown as { _handle?: Partial<ServerHandle> | null })._handle;
  if (!tcpHandles || typeof handle?.onconnection !== 'function') return false;
  handle.onconnection = (status, accepted) => {
    if (accepted === undefined || status !== 0) failed(getSystemErrorName(status));
    else accept(accepted);
  };
  return true;
}

let freeRequest: Request | undefined;

/** A channel on a bare TCP handle: no stream, no socket object, no allocation per read. */
export class HandleChannel extends SocketChannel {
  private readonly handle: TcpHandle;
  private reading = false;

  constructor(owner: ChannelOwner, handle: TcpHandle) {
    const peer: PeerName = {};
    handle.getpeername(peer); // fails, and leaves it empty, when the client is gone already
    super(owner, peer.address ?? '', peer.port ?? 0);
    this.handle = handle;
    handle.channel = this;
    handle.onread = onRead;
    handle.useUserBuffer(readBuffer);
    handle.setNoDelay(true);
  }

  onRead(): void {
    const bytes = streamState[kReadBytesOrError]!;
    if (bytes > 0) this.received(readBuffer, 0, bytes);
    else if (bytes === UV_EOF) this.receivedEnd();
    else if (bytes < 0) this.readFailed(getSystemErrorName(bytes));
  }

  onWritten(status: number): void {
    this.writeDone(status < 0 ? getSystemErrorName(status) : undefined);
  }

  onHandleClosed(): void {
    this.closed();
  }

  protected startReading(): void {
    if (this.reading) return;
    this.reading = true;
    this.handle.readStart();
  }

  protected stopReading(): void {
    if (!this.reading) return;
    this.reading = false;
    this.handle.readStop();
  }

  protected writeOne(segment: Uint8Array): number {
    const request = (freeRequest ??= newRequest());
    return this.written(this.handle.writeBuffer(request, segment), request, segment);
  }

  protected write(segments: Uint8Array[]): number {
    const request = (freeRequest ??= newRequest());
    return this.written(this.handle.writev(request, segments, true), request, segments);
  }

  protected unsentBytes(): number {
    // The last bytes may be gone while the completion is still to come.
    return Math.max(1, this.handle.writeQueueSize);
  }

  protected halfClose(): void {
    const request = new binding!.ShutdownWrap();
    request.oncomplete = ignore;
    if (this.handle.shutdown(request) < 0) this.destroy();
  }

  protected closeSocket(): void {
    this.handle.close(onClosed);
  }

  private written(status: number, request: Request, segments: Uint8Array | Uint8Array[]): number {
    if (status !== 0) {
      this.writeFailed(getSystemErrorName(status));
      return -1;
    }
    if (streamState[kLastWriteWasAsync] === 0) return 0;
    freeRequest = undefined;
    request.channel = this;
    request.segments = segments;
    return this.unsentBytes();
  }
}

function newRequest(): Request {
  const request = new binding!.WriteWrap();
  request.oncomplete = onWritten;
  return request;
}

// Shared by all handles and requests: a connection has no closure of its own.
function onRead(this: TcpHandle): undefined {
  this.channel!.onRead();
}

function onWritten(this: Request, status: number): void {
  this.segments = undefined;
  this.channel!.onWritten(status);
}

function onClosed(this: TcpHandle): void {
  this.channel!.onHandleClosed();
}

function ignore(): void {
  // when a shutdown fails, reading tells
}

function streamBinding(): StreamBinding | undefined {
  try {
    const node = process as unknown as { binding(name: string): unknown };
    const stream = node.binding('stream_wrap') as Partial<StreamBinding>;
    const tcp = node.binding('tcp_wrap') as { TCP?: { prototype: object } };
    const methods = tcp.TCP?.prototype ?? {};
    const familiar =
      typeof stream.WriteWrap === 'function' &&
      typeof stream.ShutdownWrap === 'function' &&
      ArrayBuffer.isView(stream.streamBaseState) &&
      typeof stream.kReadBytesOrError === 'number' &&
      typeof stream.kLastWriteWasAsync === 'number' &&
      stream.streamBaseState.length >
        Math.max(stream.kReadBytesOrError, stream.kLastWriteWasAsync) &&
      METHODS.every((name) => name in methods);
    return familiar ? (stream as StreamBinding) : undefined;
  } catch {
    return undefined; // process.binding is gone, or forbidden by --permission
  }
}
