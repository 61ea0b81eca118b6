import type { NodeIdentity } from '@shoalmq/core';
import { isComplete, isProof, makeNonce, prove } from './handshake.ts';
import { encodeReply } from './messages.ts';
import type { Hello, ReceivedFrame, Refusal, Request } from './messages.ts';
import type { PeerServerEvents, PeerServerLimits, PeerSource } from './peer-server.ts';
import { isCertificateOf } from './security.ts';
import type { LinkSecurity } from './security.ts';
import type { IncomingCall } from './transport.ts';

/** Frames nobody waits for are acknowledged after so many, after so many bytes, or after so long. */
const LAZY_FRAMES = 64;
const LAZY_BYTES = 524_288;
const LAZY_MS = 50;

/** What a stream needs of the server that accepted it. */
export interface StreamOwner {
  readonly security: LinkSecurity;
  readonly limits: PeerServerLimits;
  readonly events: PeerServerEvents;
  /** The stream has shown whom it comes from. Returns its link, which is its own from now on, or why it must go. */
  admit(stream: ReceiverStream, hello: Hello): Link | Refusal;
  /** The stream is over. */
  ended(stream: ReceiverStream): void;
}

/** What is known of a link of a peer, whether or not it has a stream. */
export class Link implements PeerSource {
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
export class ReceiverStream {
  readonly call: IncomingCall;
  readonly #owner: StreamOwner;
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

  constructor(owner: StreamOwner, call: IncomingCall) {
    this.#owner = owner;
    this.call = call;
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
    this.call.pause();
  }

  resume(): void {
    if (this.#state === 'open') this.call.resume();
  }

  /** Ends the stream. Frames that were not handled yet never are. */
  close(): void {
    if (this.#state === 'closed') return;
    this.#state = 'closed';
    clearImmediate(this.#immediate);
    clearTimeout(this.#soon);
    clearTimeout(this.#lazy);
    this.#owner.ended(this);
    this.call.end();
    // What still arrives has to go somewhere.
    this.call.resume();
    const link = this.#link;
    if (link?.stream !== this) return;
    link.stream = undefined;
    this.#owner.events.onDown(link);
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
    this.call.write(encodeReply({ kind: 'challenge', nonce: this.#nonce }));
  }

  #receiveProof(proof: Uint8Array): void {
    const owner = this.#owner;
    const hello = this.#hello!;
    const handshake = { helloBytes: this.#helloBytes, nonce: this.#nonce };
    const { secret, tls } = owner.security;
    const certificate = this.call.getAuthContext().sslPeerCertificate;
    if (
      !isProof(proof, 'sender', secret, handshake) ||
      (tls !== undefined &&
        (certificate === undefined || !isCertificateOf(certificate, hello.sender.id, tls)))
    ) {
      this.#refuse('unauthenticated');
      return;
    }
    const link = owner.admit(this, hello);
    if (typeof link === 'string') {
      this.#refuse(link);
      return;
    }
    this.#link = link;
    this.#state = 'open';
    this.#acknowledged = link.received;
    const { received, fresh } = link;
    link.fresh = false;
    this.call.write(
      encodeReply({ kind: 'welcome', received, proof: prove('receiver', secret, handshake) }),
    );
    if (link.held) this.call.pause();
    owner.events.onUp(link, fresh);
  }

  #receiveFrame(frame: ReceivedFrame): void {
    const link = this.#link!;
    if (frame.sequence <= link.received) return; // we have it already
    if (frame.sequence !== link.received + 1) {
      this.#refuse('malformed');
      return;
    }
    const { events } = this.#owner;
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
    const { itemBytesMax, frameBytesMax } = this.#owner.limits;
    if (link.piecesBytes > itemBytesMax + frameBytesMax) {
      link.forgetPieces();
      this.#refuse('malformed');
      return;
    }
    if (frame.continues) return;
    const items = Buffer.concat(link.pieces);
    const count = link.piecesCount;
    link.forgetPieces();
    this.#owner.events.onItems(link, items, 0, items.length, count);
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
      const { acknowledgeIntervalMs } = this.#owner.limits;
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
    this.#writable = this.call.write(encodeReply({ kind: 'acknowledged', acknowledged: received }));
  };

  #refuse(refusal: Refusal): void {
    this.#owner.events.onRefused(refusal, this.#hello?.sender, this.call.getPeer());
    this.call.write(encodeReply({ kind: 'refused', refusal }));
    this.close();
  }
}
