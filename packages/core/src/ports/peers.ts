import type { Message } from '../message.ts';
import type { NodeTarget } from '../route/node-route.ts';
import type { OwnerToken, QueuedMessage, SessionRef } from './state-store.ts';

/** A change of this node's own subscriptions that every node must know. */
export interface SubscriptionChange {
  readonly change: 'add' | 'remove';
  /** The persistent session; `undefined`: a clean session of this node. */
  readonly session: SessionRef | undefined;
  /** As the client wrote it, `$share/...` included. */
  readonly filter: string;
  /** Of a persistent session's subscription, opaque to the peers; '' otherwise. */
  readonly options: string;
}

/** Told once when something has been dealt with. `failed`: it is not known whether it was kept. */
export interface Settleable {
  settle(outcome?: string): void;
}

/**
 * The other nodes. On a single node nobody is there and everything resolves at once (`noPeers`).
 *
 * What is sent to one node (`forward`, `hint`, `deliverAt`, `takeOver`) arrives in the order of the calls.
 */
export interface Peers {
  /** There is no other node and never will be. */
  readonly alone: boolean;
  /**
   * This node has its lease and knows the routes: it may acknowledge. Asked before acting on what came from a client,
   * because a process that was paused finds out in no other way that it was taken for dead (P5, P9).
   */
  readonly valid: boolean;
  /** Rises when the lease had lapsed: what was found out before may not hold any more. */
  readonly term: number;
  /** Resolves when `valid` is true and connections whose sessions moved on meanwhile have ended. */
  whenValid(): Promise<void>;
  /**
   * Resolves when each serving node has applied the changes or has lost its lease: SUBACK or UNSUBACK may go out (P4).
   * Changes of clean sessions are counted per filter: only the first and the last cost traffic.
   */
  announceSubscriptions(changes: readonly SubscriptionChange[]): Promise<void>;
  /** Resolves when every serving node knows that the topic has (or no longer has) a retained message. */
  announceRetained(topic: string, exists: boolean): Promise<void>;
  /**
   * A persistent session is connected here now. Resolves when every serving node knows where to send hints: what was
   * appended before that may have come without one.
   */
  announceConnected(session: SessionRef): Promise<void>;
  /**
   * Hands a message to the clean sessions of another node: to those with matching subscriptions when `plain`, and to
   * one member of each of `groups` (full filters). `pending` is settled when that node has accepted the message, or
   * is dead; without it nobody waits (QoS 0). `uid`, unless it is '': that node gives the message to the same ones
   * only once, until `settleUid`. The message is borrowed: it is encoded before this returns.
   */
  forward(
    node: NodeTarget,
    message: Message,
    plain: boolean,
    groups: readonly string[],
    uid: string,
    pending: Settleable | undefined,
  ): void;
  /** A message that was forwarded under this uid will not be forwarded again. Best effort. */
  settleUid(node: NodeTarget, uid: string): void;
  /**
   * Tells a node that the queue of a session has a new entry, with a copy of it. `notHere` is called when the session
   * is not connected there, or the node cannot be told.
   */
  hint(
    nodeId: string,
    session: SessionRef,
    sequence: number,
    queued: QueuedMessage,
    notHere: () => void,
  ): void;
  /** Hands a QoS 0 message to a persistent session that is connected to another node. Best effort. */
  deliverAt(
    nodeId: string,
    session: SessionRef,
    message: Message,
    retain: boolean,
    subscriptionIds: readonly number[],
    notHere: () => void,
  ): void;
  /** Tells the node of `token` that its connection lost the session: it closes it with 0x8E. */
  takeOver(clientId: string, token: OwnerToken): void;
}

/** The only node of its cluster. */
export const noPeers: Peers = {
  alone: true,
  valid: true,
  term: 0,
  whenValid: () => Promise.resolve(),
  announceSubscriptions: () => Promise.resolve(),
  announceRetained: () => Promise.resolve(),
  announceConnected: () => Promise.resolve(),
  forward: (_node, _message, _plain, _groups, _uid, pending) => {
    pending?.settle();
  },
  settleUid: () => undefined,
  hint: () => undefined,
  deliverAt: () => undefined,
  takeOver: () => undefined,
};

/** The node that a token names: tokens are `<node>#<node incarnation>#<connection>`. */
export function nodeOfToken(token: OwnerToken): string {
  const end = token.indexOf('#');
  return end < 0 ? '' : token.slice(0, end);
}
