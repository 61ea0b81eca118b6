import type {
  LogPosition,
  Message,
  Node,
  OwnerToken,
  QueuedMessage,
  SessionRef,
} from '@shoalmq/core';
import type { ClusterCounters } from './cluster-counters.ts';
import type { FactReplica } from './fact-replica.ts';
import type { ItemHandler } from './item.ts';
import type { PeerSource } from './link/peer-server.ts';
import type { Peer } from './peer.ts';

/** Bytes of messages that wait for the lease beyond which no more is read from the peer. */
const LATER_BYTES_MAX = 8_388_608;

interface Later {
  readonly message: Message;
  readonly plain: boolean;
  readonly groups: readonly string[];
  readonly uid: string;
}

/** Carries out what one peer sends on one link. */
export class Inbox implements ItemHandler {
  readonly #node: Node;
  readonly #replica: FactReplica;
  readonly #peer: Peer;
  readonly #source: PeerSource;
  readonly #counters: ClusterCounters;
  readonly onDigest: (sums: Uint32Array) => void;
  /**
   * What came while this node had no lease, in order: clean sessions may have moved on, and get it only when that is
   * known. QoS 0 flows.
   */
  #later: Later[] = [];
  #laterBytes = 0;
  #suspended = false;
  #lookedUpTo = 0;
  #notHere: number[] = [];

  constructor(parts: {
    readonly node: Node;
    readonly replica: FactReplica;
    readonly peer: Peer;
    readonly source: PeerSource;
    readonly counters: ClusterCounters;
    readonly onDigest: (sums: Uint32Array) => void;
  }) {
    this.onDigest = parts.onDigest;
    this.#node = parts.node;
    this.#replica = parts.replica;
    this.#peer = parts.peer;
    this.#source = parts.source;
    this.#counters = parts.counters;
  }

  /** Items that came together follow. */
  onBegin(): void {
    const { peers } = this.#node.parts;
    if (this.#suspended || peers.valid) return;
    this.#suspended = true;
    void peers.whenValid().then(() => {
      this.#deliverLater();
    });
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

  onForward(message: Message, plain: boolean, groups: readonly string[], uid: string): void {
    this.#counters.forwardsReceived += 1;
    if (!this.#suspended || message.qos === 0) {
      const wanted = this.#node.router.deliverForwarded(message, plain, groups, uid);
      if (!wanted) this.#counters.forwardsUnwanted += 1;
      return;
    }
    this.#later.push({ message: message.owned(), plain, groups, uid });
    this.#laterBytes += message.payloadBytes;
    if (this.#laterBytes > LATER_BYTES_MAX) this.#source.hold();
  }

  onHint(number: number, session: SessionRef, sequence: number, queued: QueuedMessage): void {
    const here = this.#node.onHint(session, sequence, queued);
    this.#counters.hintsReceived += 1;
    if (!here) this.#counters.hintsNotHere += 1;
    this.#looked(number, here);
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

  #deliverLater(): void {
    this.#suspended = false;
    const later = this.#later;
    this.#later = [];
    this.#laterBytes = 0;
    const { router } = this.#node;
    for (const { message, plain, groups, uid } of later) {
      router.deliverForwarded(message, plain, groups, uid);
    }
    router.flush();
    this.#source.release();
  }

  onSettled(uid: string): void {
    this.#node.router.settleForwarded(uid);
  }

  #looked(number: number, here: boolean): void {
    this.#lookedUpTo = number;
    if (!here) this.#notHere.push(number);
  }
}
