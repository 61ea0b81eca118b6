import type { NodeIdentity } from '@shoalmq/core';
import { isProof, makeNonce, prove } from './handshake.ts';
import type { LinkVersion } from './handshake.ts';
import { encodeHello, encodeHelloFrame, encodeProof } from './messages.ts';
import type { Refusal, Reply } from './messages.ts';
import type { LinkSecurity } from './security.ts';
import type { LinkTransport, OutgoingCall } from './transport.ts';

export interface SenderStreamOptions {
  readonly self: NodeIdentity;
  readonly peer: NodeIdentity;
  /** host:port */
  readonly address: string;
  readonly version: LinkVersion;
  readonly security: LinkSecurity;
  readonly transport: LinkTransport;
  /** As in proto/peer.proto. */
  readonly link: number;
  readonly attempt: number;
  readonly acknowledged: number;
  /** Milliseconds until the peer must have said welcome. */
  readonly connectTimeoutMs: number;
  /** Milliseconds between signs of life of a silent connection, and until the missing answer ends it. */
  readonly keepAliveMs: number;
}

export interface SenderStreamHandler {
  /** The peer is there. From now on it may know of this link, whether or not that is heard of. */
  onChallenged(): void;
  /** Frames behind `received` may be written. */
  onWelcome(received: number): void;
  onAcknowledged(sequence: number): void;
  /** The stream takes frames again, after `write` returned false. */
  onWritable(): void;
  /** The end, unless `close` was called before. Called once; `detail` is for people. */
  onBroken(refusal: Refusal | undefined, detail: string): void;
}

/** One attempt to reach a peer: a connection with one stream on it, from the handshake to the end. Never reused. */
export class SenderStream {
  readonly #handler: SenderStreamHandler;
  readonly #security: LinkSecurity;
  readonly #call: OutgoingCall;
  readonly #connectTimer: NodeJS.Timeout;
  readonly #helloBytes: Buffer;
  #nonce: Uint8Array | undefined;
  #open = false;
  #closed = false;

  constructor(options: SenderStreamOptions, handler: SenderStreamHandler) {
    this.#handler = handler;
    this.#security = options.security;
    this.#call = options.transport.connect({
      address: options.address,
      peerId: options.peer.id,
      security: options.security,
      keepAliveMs: options.keepAliveMs,
    });
    this.#call.on('data', (reply: Reply) => this.#receive(reply));
    this.#call.on('drain', () => {
      if (this.#open) handler.onWritable();
    });
    this.#call.on('error', (error) => this.#break(undefined, error.message));
    this.#call.on('end', () => this.#break(undefined, 'the peer ended the stream'));
    this.#connectTimer = setTimeout(
      () => this.#break(undefined, 'no welcome in time'),
      options.connectTimeoutMs,
    );
    this.#helloBytes = encodeHello({
      versionMajor: options.version.major,
      versionMinor: options.version.minor,
      sender: options.self,
      receiver: options.peer,
      link: options.link,
      attempt: options.attempt,
      acknowledged: options.acknowledged,
      nonce: makeNonce(),
    });
    this.#call.write(encodeHelloFrame(this.#helloBytes));
  }

  /** Sends an encoded frame, which must not change until it is acknowledged. False: wait for `onWritable`. */
  write(message: Buffer): boolean {
    return this.#call.write(message);
  }

  /** Ends the connection at once. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#open = false;
    clearTimeout(this.#connectTimer);
    this.#call.close();
  }

  #receive(reply: Reply): void {
    if (this.#closed) return;
    if (reply.kind === 'acknowledged' && this.#open) {
      this.#handler.onAcknowledged(reply.acknowledged);
    } else if (reply.kind === 'challenge' && this.#nonce === undefined) {
      this.#nonce = reply.nonce;
      const handshake = { helloBytes: this.#helloBytes, nonce: reply.nonce };
      this.#handler.onChallenged();
      this.#call.write(encodeProof(prove('sender', this.#security.secret, handshake)));
    } else if (reply.kind === 'welcome' && this.#nonce !== undefined && !this.#open) {
      const handshake = { helloBytes: this.#helloBytes, nonce: this.#nonce };
      if (!isProof(reply.proof, 'receiver', this.#security.secret, handshake)) {
        this.#break('unauthenticated', 'the peer does not know the secret');
        return;
      }
      clearTimeout(this.#connectTimer);
      this.#open = true;
      this.#handler.onWelcome(reply.received);
    } else if (reply.kind === 'refused') {
      this.#break(reply.refusal, `refused: ${reply.refusal}`);
    } else {
      this.#break('malformed', `unexpected reply: ${reply.kind}`);
    }
  }

  #break(refusal: Refusal | undefined, detail: string): void {
    if (this.#closed) return;
    this.close();
    this.#handler.onBroken(refusal, detail);
  }
}
