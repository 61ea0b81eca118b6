import type { NodeIdentity } from '@shoalmq/core';
import { grpcTransport } from './grpc-transport.ts';
import { interoperates, linkVersion } from './handshake.ts';
import type { LinkVersion } from './handshake.ts';
import type { Hello, Refusal } from './messages.ts';
import { Link, ReceiverStream } from './receiver-stream.ts';
import type { StreamOwner } from './receiver-stream.ts';
import type { LinkSecurity } from './security.ts';
import type { LinkListener, LinkTransport, ListenerLimits, TurnedAway } from './transport.ts';

export interface PeerServerLimits extends ListenerLimits {
  /** Bytes of one item, which may take several frames; a larger one ends its stream. */
  readonly itemBytesMax: number;
  /** Peers with a stream; more are refused. */
  readonly peersMax: number;
  /** Milliseconds between acknowledgements that somebody waits for; the first after a pause goes out at once. */
  readonly acknowledgeIntervalMs: number;
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
export type ServerRefusal = Refusal | TurnedAway;

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
   * `count` items, bytes `start` to `end` of `bytes`, in order and each once. The bytes may be kept, and keep
   * the whole frame in memory then. When this returns the items count as accepted and will be acknowledged.
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
  /** @default gRPC */
  readonly transport?: LinkTransport;
  readonly events: PeerServerEvents;
}

/** Links whose stream is gone and of which the state is kept, so that they can go on. The oldest are forgotten. */
const REMEMBERED_LINKS_MAX = 1_024;

/** The receiving side of the links of all peers: a port of its own that only nodes of the cluster get through. */
export class PeerServer {
  readonly #self: NodeIdentity;
  readonly #version: LinkVersion;
  readonly #owner: StreamOwner;
  #listener!: LinkListener;
  readonly #streams = new Set<ReceiverStream>();
  /** By node id and incarnation; in the order in which streams were last opened. */
  readonly #links = new Map<string, Link>();
  #closed: Promise<void> | undefined;

  /** Starts to listen. Rejects with the system's error when it cannot. */
  static async listen(options: PeerServerOptions): Promise<PeerServer> {
    const server = new PeerServer(options);
    await server.#listen(options);
    return server;
  }

  private constructor(options: PeerServerOptions) {
    this.#self = options.self;
    this.#version = linkVersion(options.version);
    this.#owner = {
      security: options.security,
      limits: { ...DEFAULT_PEER_SERVER_LIMITS, ...options.limits },
      events: options.events,
      admit: (stream, hello) => this.#admit(stream, hello),
      ended: (stream) => this.#ended(stream),
    };
  }

  /** The port that is listened on. */
  get port(): number {
    return this.#listener.port;
  }

  /**
   * Ends the stream of a life of a node and forgets what it sent: it is dead, or left. `admit` must refuse it from now
   * on, or it may begin anew and repeat what it had not seen acknowledged.
   */
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

  async #close(): Promise<void> {
    for (const stream of [...this.#streams]) stream.close();
    this.#links.clear();
    await this.#listener.close();
  }

  async #listen({ transport = grpcTransport, host, port }: PeerServerOptions): Promise<void> {
    const { security, limits, events } = this.#owner;
    this.#listener = await transport.listen({
      host,
      port,
      security,
      limits,
      onCall: (call) => {
        this.#streams.add(new ReceiverStream(this.#owner, call));
      },
      onTurnedAway: (reason, remoteAddress) => {
        events.onRefused(reason, undefined, remoteAddress);
      },
    });
  }

  #admit(stream: ReceiverStream, hello: Hello): Link | Refusal {
    const { sender, receiver } = hello;
    const { events, limits } = this.#owner;
    const version = { major: hello.versionMajor, minor: hello.versionMinor };
    if (!interoperates(this.#version, version)) return 'version';
    if (receiver.id !== this.#self.id || receiver.incarnation !== this.#self.incarnation) {
      return 'wrong_receiver';
    }
    if (!events.admit(sender)) return 'not_admitted';
    const key = linkKey(sender);
    let link = this.#links.get(key);
    const sameLink = link?.number === hello.link;
    if (link !== undefined) {
      if (hello.link < link.number) return 'stale';
      if (sameLink && hello.attempt <= link.attempt) return 'stale';
    }
    if (hello.acknowledged > (sameLink ? link!.received : 0)) return 'forgotten';
    if (link?.stream === undefined && this.#openLinks() >= limits.peersMax) return 'busy';
    link?.stream?.close();
    if (link === undefined || !sameLink) link = new Link(sender, hello.link);
    link.attempt = hello.attempt;
    link.stream = stream;
    this.#links.delete(key);
    this.#links.set(key, link);
    this.#forgetOldest();
    this.#listener.trust(stream.call);
    return link;
  }

  #ended(stream: ReceiverStream): void {
    this.#streams.delete(stream);
    this.#listener.ended(stream.call);
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

function linkKey(peer: NodeIdentity): string {
  return `${peer.id}\n${peer.incarnation}`;
}
