import { Client, Server } from '@grpc/grpc-js';
import type {
  ChannelOptions,
  ClientDuplexStream,
  ConnectionInjector,
  ServerDuplexStream,
} from '@grpc/grpc-js';
import { createServer } from 'node:net';
import type { AddressInfo, Server as TcpServer, Socket } from 'node:net';
import { decodeReply, decodeRequest } from './messages.ts';
import type { Reply, Request } from './messages.ts';
import { receiverCredentials, senderCredentials } from './security.ts';
import { LINK_PATH } from './service.ts';
import type {
  Destination,
  IncomingCall,
  LinkListener,
  LinkTransport,
  ListenOptions,
  OutgoingCall,
} from './transport.ts';

/** Largest reply that is read. */
const REPLY_BYTES_MAX = 4_096;
/** A stream that ends leaves its connection so much time to read why. */
const LINGER_MS = 1_000;

/** Streams between processes: proto/peer.proto. */
export const grpcTransport: LinkTransport = {
  connect: (to) => new GrpcCall(to),
  listen: (options) => GrpcListener.listen(options),
};

class GrpcCall implements OutgoingCall {
  readonly #client: Client;
  readonly #call: ClientDuplexStream<Buffer, Reply>;

  constructor(to: Destination) {
    this.#client = new Client(
      to.address,
      senderCredentials(to.security, to.peerId),
      channelOptions(to),
    );
    this.#call = this.#client.makeBidiStreamRequest(LINK_PATH, asItIs, decodeReply);
  }

  on(event: string, listener: (...args: never[]) => void): void {
    this.#call.on(event, listener as (...args: unknown[]) => void);
  }

  write(request: Buffer): boolean {
    return this.#call.write(request);
  }

  close(): void {
    this.#call.cancel();
    this.#client.close();
  }
}

class GrpcListener implements LinkListener {
  readonly #options: ListenOptions;
  readonly #grpc: Server;
  readonly #injector: ConnectionInjector;
  readonly #tcp: TcpServer;
  readonly #connections = new Map<string, Connection>();
  #pendingConnections = 0;
  #closing = false;

  static async listen(options: ListenOptions): Promise<GrpcListener> {
    const listener = new GrpcListener(options);
    await new Promise<void>((resolve, reject) => {
      listener.#tcp.once('error', reject);
      listener.#tcp.listen({ host: options.host, port: options.port }, () => {
        listener.#tcp.off('error', reject);
        listener.#tcp.on('error', () => {});
        resolve();
      });
    }).catch(async (error: unknown) => {
      await listener.close();
      throw error;
    });
    return listener;
  }

  private constructor(options: ListenOptions) {
    this.#options = options;
    const { keepAliveMs, frameBytesMax } = options.limits;
    this.#grpc = new Server({
      'grpc.enable_channelz': 0,
      'grpc.max_concurrent_streams': 1,
      'grpc.max_receive_message_length': frameBytesMax,
      'grpc.keepalive_time_ms': keepAliveMs,
      'grpc.keepalive_timeout_ms': keepAliveMs,
    });
    this.#grpc.register(
      LINK_PATH,
      (call: ServerDuplexStream<Request, Buffer>) => {
        const connection = this.#connections.get(call.getPeer());
        if (connection !== undefined) connection.called = true;
        options.onCall(call);
      },
      asItIs,
      decodeRequest,
      'bidi',
    );
    // Connections are accepted here and not by the library, which has no limit and no deadline for them.
    this.#injector = this.#grpc.createConnectionInjector(receiverCredentials(options.security));
    this.#tcp = createServer({ noDelay: true }, (socket) => this.#connect(socket));
  }

  get port(): number {
    return (this.#tcp.address() as AddressInfo).port;
  }

  async close(): Promise<void> {
    this.#closing = true;
    this.#grpc.forceShutdown();
    for (const { socket } of this.#connections.values()) socket.destroy();
    await new Promise<void>((resolve) => this.#tcp.close(() => resolve()));
  }

  trust(call: IncomingCall): void {
    const connection = this.#connections.get(call.getPeer());
    if (connection?.pending !== true) return;
    connection.pending = false;
    this.#pendingConnections--;
    clearTimeout(connection.timer);
  }

  ended(call: IncomingCall): void {
    const connection = this.#connections.get(call.getPeer());
    if (connection?.pending !== false) return;
    connection.timer = setTimeout(() => connection.socket.destroy(), LINGER_MS);
  }

  #connect(socket: Socket): void {
    const address = `${socket.remoteAddress}:${socket.remotePort}`;
    // Until the library has it, and after it let go of it, nobody else listens.
    socket.on('error', () => {});
    const { limits } = this.#options;
    if (this.#pendingConnections >= limits.pendingConnectionsMax) {
      this.#options.onTurnedAway('too_many_connections', address);
      socket.destroy();
      return;
    }
    const timer = setTimeout(() => {
      this.#options.onTurnedAway('handshake_timeout', address);
      connection.called = true;
      socket.destroy();
    }, limits.handshakeTimeoutMs);
    const connection: Connection = { socket, timer, pending: true, called: false };
    this.#pendingConnections++;
    this.#connections.set(address, connection);
    socket.once('close', () => {
      clearTimeout(connection.timer);
      if (connection.pending) this.#pendingConnections--;
      // TLS, or what is taken for it, failed below the library. Whoever only looks whether the port is open says nothing.
      if (!connection.called && !this.#closing && socket.bytesRead > 0) {
        this.#options.onTurnedAway('handshake_failed', address);
      }
      if (this.#connections.get(address) === connection) this.#connections.delete(address);
    });
    this.#injector.injectConnection(socket);
  }
}

interface Connection {
  readonly socket: Socket;
  timer: NodeJS.Timeout;
  /** Has not shown who it is. */
  pending: boolean;
  /** Has opened a stream, or was told about. */
  called: boolean;
}

function asItIs(message: Buffer): Buffer {
  return message;
}

/** One connection per stream, and no attempt of the library to repeat, resolve or tunnel anything by itself. */
function channelOptions({ peerId, keepAliveMs }: Destination): ChannelOptions {
  return {
    'grpc.ssl_target_name_override': peerId,
    'grpc.use_local_subchannel_pool': 1,
    'grpc.enable_retries': 0,
    'grpc.service_config_disable_resolution': 1,
    'grpc.enable_http_proxy': 0,
    'grpc.enable_channelz': 0,
    // Of a connection that failed, the library keeps a timer for so long, also when nobody wants it any more.
    'grpc.initial_reconnect_backoff_ms': 100,
    'grpc.max_reconnect_backoff_ms': 100,
    'grpc.max_send_message_length': -1,
    'grpc.max_receive_message_length': REPLY_BYTES_MAX,
    'grpc.keepalive_time_ms': keepAliveMs,
    'grpc.keepalive_timeout_ms': keepAliveMs,
    'grpc.keepalive_permit_without_calls': 1,
  };
}
