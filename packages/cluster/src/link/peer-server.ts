import type { NodeIdentity } from '@shoalmq/core';
import { Server } from '@grpc/grpc-js';
import type { ConnectionInjector, ServerDuplexStream } from '@grpc/grpc-js';
import { createServer } from 'node:net';
import type { AddressInfo, Server as TcpServer, Socket } from 'node:net';
import { interoperates, isComplete, isProof, linkVersion, makeNonce, prove } from './handshake.ts';
import type { LinkVersion } from './handshake.ts';
import { decodeRequest, encodeReply } from './messages.ts';
import type { Hello, ReceivedFrame, Refusal, Request } from './messages.ts';
import { isCertificateOf, receiverCredentials } from './security.ts';
import type { LinkSecurity } from './security.ts';
import { LINK_PATH } from './service.ts';

export interface PeerServerLimits {
  /** Bytes of one frame; a larger one ends its stream. */
  readonly frameBytesMax: number;
  /** Bytes of one item, which may take several frames; a larger one ends its stream. */
  readonly itemBytesMax: number;
  /** Peers with a stream; more are refused. */
  readonly peersMax: number;
  /** Connections that have not shown who they are; more are closed. */
  readonly pendingConnectionsMax: number;
  /** Milliseconds from accept until a connection must have shown who it is. */
  readonly handshakeTimeoutMs: number;
  /** Milliseconds between acknowledgements that somebody waits for; the first after a pause goes out at once. */
  readonly acknowledgeIntervalMs: number;
  /** Milliseconds of silence after which the peer is asked for a sign of life, and in which it must give one. */
  readonly keepAliveMs: number;
}

export const DEFAULT_PEER_SERVER_LIMITS: PeerServerLimits = {
  frameBytesMax: 1_048_576,
  itemBytesMax: 16_777_216,
  peersMax: 256,
  pendingConnectionsMax: 256,
  handshakeTimeoutMs: 5_000,
  acknowledgeIntervalMs: 2,
  keepAliveMs: 2_000,
};

/** Items that will not come: look up what they would have told, and close whoever was owed something. */
export interface Gap {
  /** Items nobody waited for. Hints among them: what they pointed to must be read again. */
  readonly dropped: number;
  /** Items that were owed. */
  readonly missed: number;
}

/** What arrives from one link of a peer. */
export interface PeerSource {
  readonly identity: NodeIdentity;
  /** Stops reading the peer's frames; the one in hand is the last, if not the streams change meanwhile. */
  hold(): void;
  /** Reads on. */
  release(): void;
}

/** Why a connection got no further, as a closed set; beside the peer's refusals. */
export type ServerRefusal = Refusal | 'handshake_timeout' | 'too_many_connections';

export interface PeerServerEvents {
  /** Whether this life of a node may talk to this one: it has a lease, as far as this node knows. Asked per stream. */
  admit(peer: NodeIdentity): boolean;
  /**
   * A stream is there. `fresh`: the first one of its link; what the peer sent on an earlier link, and did not see
   * acknowledged, is lost.
   */
  onUp(source: PeerSource, fresh: boolean): void;
  /** The stream is gone; the link may come back with another one. */
  onDown(source: PeerSource): void;
  /**
   * `count` items, bytes `start` to `end` of `bytes`, in order and each once. The bytes may be kept. When this returns
   * the items count as accepted and will be acknowledged.
   */
  onItems(source: PeerSource, bytes: Uint8Array, start: number, end: number, count: number): void;
  onGap(source: PeerSource, gap: Gap): void;
  /** Somebody was turned away; `peer` is what it claimed to be. */
  onRefused(reason: ServerRefusal, peer: NodeIdentity | undefined, remoteAddress: string): void;
}

export interface PeerServerOptions {
  readonly self: NodeIdentity;
  readonly host: string;
  /** 0 lets the system choose. */
  readonly port: number;
  /** Version of Shoal, semantic. */
  readonly version: string;
  readonly security: LinkSecurity;
  readonly limits?: Partial<PeerServerLimits>;
  readonly events: PeerServerEvents;
}

/** Links whose stream is gone and of which the state is kept, so that they can go on. The oldest are forgotten. */
const REMEMBERED_LINKS_MAX = 1_024;
/** A stream that ends leaves its connection so much time to read why. */
const LINGER_MS = 1_000;
/** Frames nobody waits for are acknowledged after so many, after so many bytes, or after so long. */
const LAZY_FRAMES = 64;
const LAZY_BYTES = 524_288;
const LAZY_MS = 50;

type Call = ServerDuplexStream<Request, Buffer>;

/** The receiving side of the links of all peers: a port of its own that only nodes of the cluster get through. */
export class PeerServer {
  readonly self: NodeIdentity;
  readonly events: PeerServerEvents;
  readonly limits: PeerServerLimits;
  readonly version: LinkVersion;
  readonly security: LinkSecurity;

  readonly #grpc: Server;
  readonly #injector: ConnectionInjector;
  readonly #tcp: TcpServer;
  readonly #connections = new Map<string, Connection>();
  readonly #streams = new Set<ReceiverStream>();
  /** By node id and incarnation; in the order in which streams were last opened. */
  readonly #links = new Map<string, Link>();
  #pendingConnections = 0;
  #closed: Promise<void> | undefined;

  /** Starts to listen. Rejects with the system's error when it cannot. */
  static async listen(options: PeerServerOptions): Promise<PeerServer> {
    const server = new PeerServer(options);
    await new Promise<void>((resolve, reject) => {
      server.#tcp.once('error', reject);
      server.#tcp.listen({ host: options.host, port: options.port }, () => {
        server.#tcp.off('error', reject);
        server.#tcp.on('error', () => {});
        resolve();
      });
    }).catch(async (error: unknown) => {
      await server.close();
      throw error;
    });
    return server;
  }

  private constructor(options: PeerServerOptions) {
    this.self = options.self;
    this.events = options.events;
    this.security = options.security;
    this.version = linkVersion(options.version);
    this.limits = { ...DEFAULT_PEER_SERVER_LIMITS, ...options.limits };
    const { keepAliveMs, frameBytesMax } = this.limits;
    this.#grpc = new Server({
      'grpc.enable_channelz': 0,
      'grpc.max_concurrent_streams': 1,
      'grpc.max_receive_message_length': frameBytesMax,
      'grpc.keepalive_time_ms': keepAliveMs,
      'grpc.keepalive_timeout_ms': keepAliveMs,
    });
    this.#grpc.register(
      LINK_PATH,
      (call: Call) => this.#accept(call),
      (reply: Buffer) => reply,
      decodeRequest,
      'bidi',
    );
    // Connections are accepted here and not by the library, which has no limit and no deadline for them.
    this.#injector = this.#grpc.createConnectionInjector(receiverCredentials(options.security));
    this.#tcp = createServer({ noDelay: true }, (socket) => this.#connect(socket));
  }

  /** The port that is listened on. */
  get port(): number {
    return (this.#tcp.address() as AddressInfo).port;
  }

  /** Ends the streams of a life of a node and forgets what it sent: it is dead, or left. */
  forget(peer: NodeIdentity): void {
    const link = this.#links.get(linkKey(peer));
    if (link === undefined) return;
    this.#links.delete(linkKey(peer));
    link.stream?.close();
  }

  /** Stops listening and ends everything. Resolves when the port is free. */
  close(): Promise<void> {
    this.#closed ??= this.#close();
    return this.#closed;
  }

  /** A stream has shown whom it comes from. Returns its link, or why it may not go on. */
  admit(stream: ReceiverStream, hello: Hello): Link | Refusal {
    const { sender, receiver } = hello;
    const version = { major: hello.versionMajor, minor: hello.versionMinor };
    if (!interoperates(this.version, version)) return 'version';
    if (receiver.id !== this.self.id || receiver.incarnation !== this.self.incarnation) {
      return 'wrong_receiver';
    }
    if (!this.events.admit(sender)) return 'not_admitted';
    const key = linkKey(sender);
    let link = this.#links.get(key);
    const sameLink = link?.number === hello.link;
    if (link !== undefined) {
      if (hello.link < link.number) return 'stale';
      if (sameLink && hello.attempt <= link.attempt) return 'stale';
    }
    if (hello.acknowledged > (sameLink ? link!.received : 0)) return 'forgotten';
    if (link?.stream === undefined && this.#openLinks() >= this.limits.peersMax) return 'busy';
    link?.stream?.close();
    if (link === undefined || !sameLink) link = new Link(sender, hello.link);
    link.attempt = hello.attempt;
    link.stream = stream;
    this.#links.delete(key);
    this.#links.set(key, link);
    this.#forgetOldest();
    return link;
  }

  /** The connection of this call has shown that it belongs to a node. */
  authenticated(call: Call): void {
    const connection = this.#connections.get(call.getPeer());
    if (connection?.pending !== true) return;
    connection.pending = false;
    this.#pendingConnections--;
    clearTimeout(connection.timer);
  }

  ended(stream: ReceiverStream, call: Call): void {
    this.#streams.delete(stream);
    const connection = this.#connections.get(call.getPeer());
    if (connection?.pending !== false) return;
    connection.timer = setTimeout(() => connection.socket.destroy(), LINGER_MS);
  }

  async #close(): Promise<void> {
    for (const stream of [...this.#streams]) stream.close();
    this.#links.clear();
    this.#grpc.forceShutdown();
    for (const { socket } of this.#connections.values()) socket.destroy();
    await new Promise<void>((resolve) => this.#tcp.close(() => resolve()));
  }

  #connect(socket: Socket): void {
    const address = `${socket.remoteAddress}:${socket.remotePort}`;
    // Until the library has it, and after it let go of it, nobody else listens.
    socket.on('error', () => {});
    if (this.#pendingConnections >= this.limits.pendingConnectionsMax) {
      this.events.onRefused('too_many_connections', undefined, address);
      socket.destroy();
      return;
    }
    const timer = setTimeout(() => {
      this.events.onRefused('handshake_timeout', undefined, address);
      socket.destroy();
    }, this.limits.handshakeTimeoutMs);
    const connection: Connection = { socket, timer, pending: true };
    this.#pendingConnections++;
    this.#connections.set(address, connection);
    socket.once('close', () => {
      clearTimeout(connection.timer);
      if (connection.pending) this.#pendingConnections--;
      if (this.#connections.get(address) === connection) this.#connections.delete(address);
    });
    this.#injector.injectConnection(socket);
  }

  #accept(call: Call): void {
    this.#streams.add(new ReceiverStream(this, call));
  }

  #openLinks(): number {
    let count = 0;
    for (const link of this.#links.values()) if (link.stream !== undefined) count++;
    return count;
  }

  #forgetOldest(): void {
    if (this.#links.size <= REMEMBERED_LINKS_MAX) return;
    for (const [key, link] of this.#links) {
      if (link.stream !== undefined) continue;
      this.#links.delete(key);
      return;
    }
  }
}

interface Connection {
  readonly socket: Socket;
  timer: NodeJS.Timeout;
  /** Has not shown who it is. */
  pending: boolean;
}

/** What is known of a link of a peer, whether or not it has a stream. */
class Link implements PeerSource {
  readonly identity: NodeIdentity;
  readonly number: number;
  attempt = 0;
  /** The last frame that was handled. */
  received = 0;
  /** No frame of this link has been asked for yet. */
  fresh = true;
  stream: ReceiverStream | undefined;
  held = false;
  /** The start of an item that goes on in the next frame, and what comes before it in its frame. */
  pieces: Uint8Array[] = [];
  piecesBytes = 0;
  piecesCount = 0;

  constructor(identity: NodeIdentity, number: number) {
    this.identity = identity;
    this.number = number;
  }

  hold(): void {
    this.held = true;
    this.stream?.pause();
  }

  release(): void {
    this.held = false;
    this.stream?.resume();
  }

  forgetPieces(): void {
    this.pieces = [];
    this.piecesBytes = this.piecesCount = 0;
  }
}

/** One stream of a peer, from the Hello to the end. */
class ReceiverStream {
  readonly #server: PeerServer;
  readonly #call: Call;
  #state: 'hello' | 'proof' | 'open' | 'closed' = 'hello';
  #hello: Hello | undefined;
  #helloBytes: Uint8Array = new Uint8Array(0);
  #nonce: Uint8Array = new Uint8Array(0);
  #link: Link | undefined;

  #acknowledged = 0;
  #unacknowledgedBytes = 0;
  #lastAcknowledgeMs = 0;
  /** What will send the next acknowledgement: at the end of this turn, in a moment, or some time. */
  #immediate: NodeJS.Immediate | undefined;
  #soon: NodeJS.Timeout | undefined;
  #lazy: NodeJS.Timeout | undefined;
  #writable = true;

  constructor(server: PeerServer, call: Call) {
    this.#server = server;
    this.#call = call;
    call.on('data', (request: Request) => this.#receive(request));
    call.on('drain', () => {
      this.#writable = true;
      if (this.#state === 'open') this.#acknowledgeLazily();
    });
    // Behind the library's own listener, which ends the call.
    call.on('error', () => this.close());
    call.on('cancelled', () => this.close());
    call.on('end', () => this.close());
  }

  pause(): void {
    this.#call.pause();
  }

  resume(): void {
    if (this.#state === 'open') this.#call.resume();
  }

  /** Ends the stream. Frames that were not handled yet never are. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearImmediate(this.#immediate);
    clearTimeout(this.#soon);
    clearTimeout(this.#lazy);
    this.#server.ended(this, this.#call);
    this.#call.end();
    // What still arrives has to go somewhere.
    this.#call.resume();
    const link = this.#link;
    if (link?.stream !== this) return;
    link.stream = undefined;
    this.#server.events.onDown(link);
  }

  #receive(request: Request): void {
    if (this.#state === 'open' && request.kind === 'frame') this.#receiveFrame(request);
    else if (this.#state === 'hello' && request.kind === 'hello') {
      this.#receiveHello(request.hello, request.helloBytes);
    } else if (this.#state === 'proof' && request.kind === 'proof') {
      this.#receiveProof(request.proof);
    } else if (this.#state !== 'closed') this.#refuse('malformed');
  }

  #receiveHello(hello: Hello, helloBytes: Uint8Array): void {
    this.#hello = hello;
    this.#helloBytes = helloBytes;
    if (!isComplete(hello)) {
      this.#refuse('malformed');
      return;
    }
    this.#state = 'proof';
    this.#nonce = makeNonce();
    this.#call.write(encodeReply({ kind: 'challenge', nonce: this.#nonce }));
  }

  #receiveProof(proof: Uint8Array): void {
    const server = this.#server;
    const hello = this.#hello!;
    const handshake = { helloBytes: this.#helloBytes, nonce: this.#nonce };
    const { secret, tls } = server.security;
    const certificate = this.#call.getAuthContext().sslPeerCertificate;
    if (
      !isProof(proof, 'sender', secret, handshake) ||
      (tls !== undefined &&
        (certificate === undefined || !isCertificateOf(certificate, hello.sender.id, tls)))
    ) {
      this.#refuse('unauthenticated');
      return;
    }
    const link = server.admit(this, hello);
    if (typeof link === 'string') {
      this.#refuse(link);
      return;
    }
    server.authenticated(this.#call);
    this.#link = link;
    this.#state = 'open';
    this.#acknowledged = link.received;
    const { received, fresh } = link;
    link.fresh = false;
    this.#call.write(
      encodeReply({ kind: 'welcome', received, proof: prove('receiver', secret, handshake) }),
    );
    if (link.held) this.#call.pause();
    server.events.onUp(link, fresh);
  }

  #receiveFrame(frame: ReceivedFrame): void {
    const link = this.#link!;
    if (frame.sequence <= link.received) return; // we have it already
    if (frame.sequence !== link.received + 1) {
      this.#refuse('malformed');
      return;
    }
    const { events } = this.#server;
    link.received = frame.sequence;
    if (frame.missed > 0) link.forgetPieces();
    if (frame.dropped > 0 || frame.missed > 0) {
      events.onGap(link, { dropped: frame.dropped, missed: frame.missed });
    }
    if (frame.continues || link.pieces.length > 0) this.#receivePiece(link, frame);
    else if (frame.count > 0) {
      events.onItems(link, frame.bytes, frame.start, frame.end, frame.count);
    }
    if (this.#state === 'open') this.#acknowledge(frame);
  }

  #receivePiece(link: Link, frame: ReceivedFrame): void {
    link.pieces.push(frame.bytes.subarray(frame.start, frame.end));
    link.piecesBytes += frame.end - frame.start;
    link.piecesCount += frame.count;
    const { itemBytesMax, frameBytesMax } = this.#server.limits;
    if (link.piecesBytes > itemBytesMax + frameBytesMax) {
      link.forgetPieces();
      this.#refuse('malformed');
      return;
    }
    if (frame.continues) return;
    const items = Buffer.concat(link.pieces);
    const count = link.piecesCount;
    link.forgetPieces();
    this.#server.events.onItems(link, items, 0, items.length, count);
  }

  /** Acknowledges a frame, soon when somebody waits for it. */
  #acknowledge(frame: ReceivedFrame): void {
    this.#unacknowledgedBytes += frame.end - frame.start;
    if (this.#immediate !== undefined || this.#soon !== undefined) return;
    if (
      frame.urgent ||
      frame.sequence - this.#acknowledged >= LAZY_FRAMES ||
      this.#unacknowledgedBytes >= LAZY_BYTES
    ) {
      const { acknowledgeIntervalMs } = this.#server.limits;
      if (performance.now() - this.#lastAcknowledgeMs >= acknowledgeIntervalMs) {
        this.#immediate = setImmediate(this.#sendAcknowledgement);
      } else {
        this.#soon = setTimeout(this.#sendAcknowledgement, acknowledgeIntervalMs);
      }
    } else {
      this.#acknowledgeLazily();
    }
  }

  #acknowledgeLazily(): void {
    this.#lazy ??= setTimeout(this.#sendAcknowledgement, LAZY_MS);
  }

  readonly #sendAcknowledgement = (): void => {
    clearTimeout(this.#lazy);
    this.#immediate = this.#soon = this.#lazy = undefined;
    const { received } = this.#link!;
    // A peer that does not read gets one number when it reads again.
    if (!this.#writable || received === this.#acknowledged) return;
    this.#acknowledged = received;
    this.#unacknowledgedBytes = 0;
    this.#lastAcknowledgeMs = performance.now();
    this.#writable = this.#call.write(
      encodeReply({ kind: 'acknowledged', acknowledged: received }),
    );
  };

  #refuse(refusal: Refusal): void {
    this.#server.events.onRefused(refusal, this.#hello?.sender, this.#call.getPeer());
    this.#call.write(encodeReply({ kind: 'refused', refusal }));
    this.close();
  }
}

function linkKey(peer: NodeIdentity): string {
  return `${peer.id}\n${peer.incarnation}`;
}
