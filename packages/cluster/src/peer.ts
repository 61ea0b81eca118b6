import type {
  Clock,
  LogPosition,
  Message,
  NodeDescriptor,
  NodeTarget,
  OwnerToken,
  QueuedMessage,
  SessionRef,
  Settleable,
} from '@shoalmq/core';
import type { ClusterCounters } from './cluster-counters.ts';
import type { PeerStatus } from './cluster-status.ts';
import type { HintRetries } from './hint-retries.ts';
import {
  writeApplied,
  writeChanged,
  writeConnected,
  writeDeliverAt,
  writeDigest,
  writeForward,
  writeHint,
  writeLooked,
  writeSettled,
  writeTakeOver,
} from './item.ts';
import { PeerLink } from './link/peer-link.ts';
import type { LinkEvents, PeerLinkOptions } from './link/peer-link.ts';
import type { Reporter } from './report.ts';
import type { Unacknowledged } from './unacknowledged.ts';

export interface PeerParts {
  readonly descriptor: NodeDescriptor;
  readonly target: NodeTarget;
  readonly link: Omit<PeerLinkOptions, 'peer' | 'address' | 'events'>;
  readonly clock: Clock;
  readonly report: Reporter;
  readonly counters: ClusterCounters;
  readonly retries: HintRetries;
  /** The link has come up. */
  readonly onUp: () => void;
  /** For what the peer has left when it is gone, or has taken this node for dead. */
  readonly heir: () => Unacknowledged;
}

interface Question {
  readonly askedAtMs: number;
  readonly answered: () => void;
}

/** Numbers rise over all peers, so that an answer to an earlier link fits nothing. */
let lastNumber = 0;

/** Another node that has a lease, in one of its lives: what is sent to it, and what it owes an answer to. */
export class Peer {
  readonly descriptor: NodeDescriptor;
  readonly target: NodeTarget;
  /**
   * Since when the peer's own link to this node is down, by the monotonic clock; `undefined`: it is up. `Infinity`: it
   * never was; `-Infinity`: something has been lost on it unless it goes on where it was.
   */
  silentSinceMs: number | undefined = Infinity;
  readonly #parts: PeerParts;
  #link: PeerLink;
  /** Hints and deliveries whose session may turn out not to be there, in the order of their numbers. */
  readonly #lookUps = new Map<number, () => void>();
  readonly #questions = new Map<number, Question>();

  constructor(parts: PeerParts) {
    this.#parts = parts;
    this.descriptor = parts.descriptor;
    this.target = parts.target;
    this.target.available = false;
    this.target.gone = false;
    this.#link = this.#newLink();
  }

  /** The peer's own link to this node is up. */
  get heard(): boolean {
    return this.silentSinceMs === undefined;
  }

  /**
   * Whether the peer may be taking messages from clients: one that joins does not before this node has a link to it.
   */
  get mayServe(): boolean {
    return this.descriptor.state !== 'joining' || this.#link.introduced;
  }

  /** What is sent arrives within moments. */
  get up(): boolean {
    return this.#link.state === 'up';
  }

  /** As an operator sees it. */
  get status(): PeerStatus {
    const { state, bufferedBytes, waiting, counters } = this.#link;
    return { state, heard: this.heard, bufferedBytes, waiting, counters: { ...counters } };
  }

  forward(
    message: Message,
    plain: boolean,
    groups: readonly string[],
    uid: string,
    pending: Settleable | undefined,
  ): void {
    const link = this.#link;
    const { counters } = this.#parts;
    if (message.qos === 0 && link.dropping) counters.forwardsDropped += 1;
    else counters.forwardsSent += 1;
    writeForward(link, message, plain, groups, uid, this.#nowMs(message));
    try {
      if (message.qos === 0) link.commitDroppable();
      else link.commit(pending);
    } catch (error) {
      this.#tooLarge(error);
      pending?.settle();
    }
  }

  settleUid(uid: string): void {
    writeSettled(this.#link, uid);
    this.#link.commitDroppable();
  }

  hint(session: SessionRef, sequence: number, queued: QueuedMessage, notHere: () => void): void {
    const number = ++lastNumber;
    this.#parts.counters.hintsSent += 1;
    writeHint(this.#link, number, session, sequence, queued, this.#nowMs(queued.message));
    const { clientId, incarnation } = session;
    this.#sendLookUp(number, () => {
      this.#parts.retries.add({ clientId, incarnation }, notHere);
    });
  }

  deliverAt(
    session: SessionRef,
    delivery: {
      readonly message: Message;
      readonly retain: boolean;
      readonly subscriptionIds: readonly number[];
    },
    notHere: () => void,
  ): void {
    const number = ++lastNumber;
    writeDeliverAt(this.#link, number, session, delivery, this.#nowMs(delivery.message));
    this.#sendLookUp(number, notHere);
  }

  /** What the time that a message has left is counted from; most never expire, and asking the clock costs. */
  #nowMs(message: Message): number {
    return message.expiresAtMs === 0 ? 0 : this.#parts.clock.wallMs();
  }

  takeOver(clientId: string, token: OwnerToken): void {
    writeTakeOver(this.#link, clientId, token);
    this.#link.commit(undefined);
  }

  /** Resolves when the peer knows that the session is connected here. */
  tellConnected(session: SessionRef): Promise<void> {
    return this.#ask((number) => {
      writeConnected(this.#link, number, session);
    });
  }

  /** Resolves when the peer has applied the logs up to there. */
  tellChanged(positions: ReadonlyMap<number, LogPosition>): Promise<void> {
    return this.#ask((number) => {
      writeChanged(this.#link, number, positions);
    });
  }

  /** Best effort: there will be another one. */
  tellDigest(sums: Uint32Array): void {
    writeDigest(this.#link, sums);
    this.#link.commitDroppable();
  }

  answerApplied(number: number): void {
    writeApplied(this.#link, number);
    this.#link.commit(undefined);
  }

  answerLooked(upTo: number, notHere: readonly number[]): void {
    writeLooked(this.#link, upTo, notHere);
    this.#link.commit(undefined);
  }

  /** The peer has looked at everything up to there. */
  onLooked(upTo: number, notHere: readonly number[]): void {
    const missing = new Set(notHere);
    const away: (() => void)[] = [];
    for (const [number, notThere] of this.#lookUps) {
      if (number > upTo) break;
      this.#lookUps.delete(number);
      if (missing.has(number)) away.push(notThere);
    }
    for (const notThere of away) notThere();
  }

  onApplied(number: number): void {
    const question = this.#questions.get(number);
    this.#questions.delete(number);
    question?.answered();
  }

  /**
   * Nobody waits any longer for answers to what was asked before `askedBeforeMs`: by then the peer has found out by
   * itself, or has stopped serving.
   */
  giveUpQuestions(askedBeforeMs: number): void {
    for (const [number, { askedAtMs, answered }] of this.#questions) {
      if (askedAtMs >= askedBeforeMs) break;
      this.#questions.delete(number);
      answered();
    }
  }

  /** The peer is gone: whatever waits for it need not wait. */
  close(): void {
    this.target.available = false;
    this.target.gone = true;
    this.#abandon(this.#link);
    const questions = [...this.#questions.values()];
    const lookUps = [...this.#lookUps.values()];
    this.#questions.clear();
    this.#lookUps.clear();
    for (const { answered } of questions) answered();
    for (const notHere of lookUps) notHere();
  }

  /** What is lost on the way makes the peer look at its queues, so nobody has to wait for it. */
  #sendLookUp(number: number, notHere: () => void): void {
    const { dropping } = this.#link;
    try {
      this.#link.commitDroppable();
    } catch (error) {
      this.#tooLarge(error);
      return;
    }
    if (!dropping) this.#lookUps.set(number, notHere);
  }

  #ask(write: (number: number) => void): Promise<void> {
    return new Promise((answered) => {
      const number = ++lastNumber;
      this.#questions.set(number, { askedAtMs: this.#parts.clock.monotonicMs(), answered });
      write(number);
      this.#link.commit(undefined);
    });
  }

  #tooLarge(error: unknown): void {
    this.#parts.report({
      event: 'cluster.too_large',
      peerId: this.descriptor.id,
      message: String(error),
    });
  }

  #newLink(): PeerLink {
    const { descriptor, link } = this.#parts;
    return new PeerLink({
      ...link,
      peer: { id: descriptor.id, incarnation: descriptor.incarnation },
      address: descriptor.address,
      events: this.#events(),
    });
  }

  /**
   * The peer took this node for dead and knows nothing of the link any more. What it has not acknowledged may not have
   * arrived, and it knows that when it sees another link.
   */
  #startAgain(): void {
    const link = this.#link;
    this.#link = this.#newLink();
    this.#abandon(link);
  }

  /** Publishers are told once what was for shared groups is in other hands. */
  #abandon(link: PeerLink): void {
    const heir = this.#parts.heir();
    const settle = link.abandon((bytes, start, end, count) => {
      heir.take(bytes, start, end, count);
    });
    heir.finish((kept) => {
      settle(kept ? 'closed' : 'failed');
    });
  }

  #events(): LinkEvents {
    const { report, onUp } = this.#parts;
    const peerId = this.descriptor.id;
    let told: 'up' | 'down' | undefined;
    return {
      onState: (state, refusal, detail) => {
        if (refusal === 'forgotten') this.#startAgain();
        this.target.available = state === 'up' && !this.#link.congested;
        if (state === 'up') {
          told = 'up';
          report({ event: 'cluster.peer_up', peerId });
          onUp();
        } else if (state === 'down' && told !== 'down') {
          told = 'down';
          report({ event: 'cluster.peer_down', peerId, message: detail });
        }
      },
      onCongestion: (congested) => {
        this.target.available = this.up && !congested;
      },
      onLate: (items) => {
        report({ event: 'cluster.peer_late', peerId, items });
      },
    };
  }
}
