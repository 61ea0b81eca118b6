import type {
  LogPosition,
  Message,
  Node,
  OwnerToken,
  QueuedMessage,
  SessionRef,
} from '@shoalmq/core';
import type { FactReplica } from './fact-replica.ts';
import type { ItemHandler } from './item.ts';
import type { Peer } from './peer.ts';

/** Carries out what one peer sends. */
export class Inbox implements ItemHandler {
  readonly #node: Node;
  readonly #replica: FactReplica;
  readonly #peer: Peer;
  #lookedUpTo = 0;
  #notHere: number[] = [];

  constructor(node: Node, replica: FactReplica, peer: Peer) {
    this.#node = node;
    this.#replica = replica;
    this.#peer = peer;
  }

  /** The end of what came together: messages leave, and what was looked for is answered. */
  onEnd(): void {
    this.#node.router.flush();
    if (this.#lookedUpTo === 0) return;
    const notHere = this.#notHere;
    this.#notHere = [];
    this.#peer.answerLooked(this.#lookedUpTo, notHere);
    this.#lookedUpTo = 0;
  }

  onForward(message: Message, plain: boolean, groups: readonly string[]): void {
    this.#node.router.deliverForwarded(message, plain, groups);
  }

  onHint(number: number, session: SessionRef, sequence: number, queued: QueuedMessage): void {
    this.#looked(number, this.#node.onHint(session, sequence, queued));
  }

  onDeliverAt(
    number: number,
    session: SessionRef,
    message: Message,
    retain: boolean,
    subscriptionIds: readonly number[],
  ): void {
    this.#looked(number, this.#node.onDeliver(session, message, retain, subscriptionIds));
  }

  onLooked(upTo: number, notHere: readonly number[]): void {
    this.#peer.onLooked(upTo, notHere);
  }

  onConnected(number: number, session: SessionRef): void {
    this.#node.sessionSeenAt(session, this.#peer.descriptor.id);
    this.#peer.answerApplied(number);
  }

  onTakeOver(clientId: string, token: OwnerToken): void {
    this.#node.onTakeOver(clientId, token);
  }

  onChanged(number: number, positions: ReadonlyMap<number, LogPosition>): void {
    this.#replica.whenReached(positions, () => {
      this.#peer.answerApplied(number);
    });
  }

  onApplied(number: number): void {
    this.#peer.onApplied(number);
  }

  #looked(number: number, here: boolean): void {
    this.#lookedUpTo = number;
    if (!here) this.#notHere.push(number);
  }
}
