import type { Channel, ChannelHandler } from '@shoalmq/core';
import { createServer, type Socket } from 'node:net';
import type { AddressInfo } from 'node:net';
import type { ByteReceiver, ChannelOwner, SocketChannel } from './socket-channel.ts';
import { StreamChannel } from './stream-channel.ts';
import { HandleChannel, acceptHandles, type TcpHandle } from './tcp-handle.ts';
import { watchTicks } from './watch.ts';

/** Where and how to accept MQTT over TCP. */
export interface ListenOptions {
  /** `Channel.listener` of its connections. */
  readonly name: string;
  readonly host: string;
  /** 0: any free port. */
  readonly port: number;
  /** Connections served at a time; those beyond wait, see `connectionsHeldMax`. */
  readonly connectionsMax: number;
  /**
   * Connections beyond `connectionsMax` that wait, unread, for one to end. When there are more, the one that waits
   * longest is closed: its client has most likely given up.
   * @default 1024
   */
  readonly connectionsHeldMax?: number;
  /**
   * Length of the system's queue of connections not yet accepted.
   * @default 4096, which the system may lower (net.core.somaxconn)
   */
  readonly backlog?: number;
  /**
   * Milliseconds without progress after which a write, and with it the connection, is given up.
   * @default 30000
   */
  readonly writeStallMs?: number;
  /**
   * False: use nothing but the public API of Node.js, at about twice the cost per small message.
   * @default true, where this Node.js has what it takes
   */
  readonly useRawHandles?: boolean;
  /** Called for each connection before anything is read from it. */
  accept(channel: Channel): { receiver: ByteReceiver; handler: ChannelHandler };
  /** An accept failed with this system error code: EMFILE when there are no descriptors left. */
  acceptFailed?(code: string): void;
}

/** A listening socket and its connections. */
export interface Listener {
  readonly name: string;
  /** The address and port it is bound to. */
  readonly address: string;
  readonly port: number;
  /** Connections that were accepted and are not closed yet; those held are not among them. */
  readonly connections: number;
  /** Connections that wait for one to end. */
  readonly connectionsHeld: number;
  /** Since the start, of all connections. Sent: taken by the operating system. */
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** Stops accepting and closes the connections held; the others live on. */
  close(): Promise<void>;
  /** Destroys all connections. */
  destroyAll(): void;
}

/**
 * Listens for TCP connections.
 *
 * Rejects with the error of the system, its `code` EADDRINUSE, EACCES, EADDRNOTAVAIL and so on.
 */
export function listen(options: ListenOptions): Promise<Listener> {
  return new Promise((resolve, reject) => {
    const listener = new TcpListener(options);
    const { server } = listener;
    server.once('error', reject);
    server.listen(
      { host: options.host, port: options.port, backlog: options.backlog ?? 4096 },
      () => {
        server.off('error', reject);
        listener.listening();
        resolve(listener);
      },
    );
  });
}

/** A connection that was accepted by the system and by nobody else. */
interface Held {
  serve(): SocketChannel;
  close(): void;
}

class TcpListener implements Listener, ChannelOwner {
  readonly name: string;
  readonly writeStallTicks: number;
  address = '';
  port = 0;
  bytesReceived = 0;
  bytesSent = 0;
  readonly server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
  private readonly options: ListenOptions;
  private readonly channels = new Set<SocketChannel>();
  /** Oldest first. */
  private readonly held = new Set<Held>();
  private closing = false;

  constructor(options: ListenOptions) {
    this.options = options;
    this.name = options.name;
    this.writeStallTicks = watchTicks(options.writeStallMs ?? 30_000);
  }

  get connections(): number {
    return this.channels.size;
  }

  get connectionsHeld(): number {
    return this.held.size;
  }

  listening(): void {
    const { address, port } = this.server.address() as AddressInfo;
    this.address = address;
    this.port = port;
    const failed = (code: string): void => this.options.acceptFailed?.(code);
    const raw =
      this.options.useRawHandles !== false &&
      acceptHandles(this.server, (handle) => this.accepted(new HeldHandle(this, handle)), failed);
    if (raw) return;
    this.server.on('error', (error: NodeJS.ErrnoException) => failed(error.code ?? error.message));
    this.server.on('connection', (socket) => this.accepted(new HeldSocket(this, socket)));
  }

  close(): Promise<void> {
    if (!this.closing) {
      this.closing = true;
      // The socket stops listening in this call; the server's callback would also wait for the connections.
      this.server.close();
      for (const connection of this.held) connection.close();
      this.held.clear();
    }
    return Promise.resolve();
  }

  destroyAll(): void {
    for (const channel of this.channels) channel.destroy();
  }

  channelClosed(channel: SocketChannel): void {
    this.channels.delete(channel);
    for (const next of this.held) {
      if (this.channels.size >= this.options.connectionsMax) return;
      this.held.delete(next);
      this.serve(next);
    }
  }

  private accepted(connection: Held): void {
    if (this.closing) {
      connection.close();
    } else if (this.channels.size < this.options.connectionsMax) {
      this.serve(connection);
    } else {
      this.hold(connection);
    }
  }

  /**
   * Libuv cannot stop accepting without closing the listening socket, which would refuse. So the connection is
   * taken and left alone: what the client sends stays in the kernel until its turn comes.
   */
  private hold(connection: Held): void {
    this.held.add(connection);
    if (this.held.size <= (this.options.connectionsHeldMax ?? 1024)) return;
    const [oldest] = this.held;
    this.held.delete(oldest!);
    oldest!.close();
  }

  private serve(connection: Held): void {
    const channel = connection.serve();
    this.channels.add(channel);
    const { receiver, handler } = this.options.accept(channel);
    channel.open(receiver, handler);
  }
}

class HeldHandle implements Held {
  private readonly owner: ChannelOwner;
  private readonly handle: TcpHandle;

  constructor(owner: ChannelOwner, handle: TcpHandle) {
    this.owner = owner;
    this.handle = handle;
  }

  serve(): SocketChannel {
    return new HandleChannel(this.owner, this.handle);
  }

  close(): void {
    this.handle.close();
  }
}

class HeldSocket implements Held {
  private readonly owner: ChannelOwner;
  private readonly socket: Socket;

  constructor(owner: ChannelOwner, socket: Socket) {
    this.owner = owner;
    this.socket = socket;
    socket.on('error', ignore);
  }

  serve(): SocketChannel {
    const { socket } = this;
    const { remoteAddress = '', remotePort = 0 } = socket;
    return new StreamChannel(this.owner, socket, remoteAddress, remotePort);
  }

  close(): void {
    this.socket.destroy();
  }
}

function ignore(): void {
  // an error while nobody listens: the channel, once it does, sees the end
}
