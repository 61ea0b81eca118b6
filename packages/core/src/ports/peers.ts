import type { Message } from '../message.ts';
import type { QueuedMessage, SessionRef } from './state-store.ts';

/** A change of the route table that every node must know. */
export interface RouteChange {
  readonly kind: 'add' | 'remove';
  readonly filter: string;
  /** Node that has a clean session with this filter, or the persistent session. */
  readonly target: { readonly node: string } | { readonly session: SessionRef };
}

/**
 * The other nodes. On a single node nothing is here and everything resolves at once (`noPeers`).
 */
export interface Peers {
  /** Resolves when each serving node has applied the changes or lost its lease: SUBACK may go out. */
  announceRoutes(changes: readonly RouteChange[]): Promise<void>;
  /**
   * Hands a message to the clean sessions of another node. `done(true)`: that node accepted it, or is dead.
   * Frames of one call order stay in order.
   */
  forward(node: string, message: Message, done: (accepted: boolean) => void): void;
  /** Tells the node where the session was last seen that its queue has a new entry. */
  hint(session: SessionRef, sequence: number, message: QueuedMessage): void;
  /** Tells the node of `token` that its connection lost the session: it closes it with 0x8E. */
  takeOver(clientId: string, token: string): void;
  /** Resolves when every node knows that the topic has (or no longer has) a retained message. */
  announceRetained(topic: string, exists: boolean): Promise<void>;
}

/** The only node of its cluster. */
export const noPeers: Peers = {
  announceRoutes: () => Promise.resolve(),
  forward: (_node, _message, done) => {
    done(true);
  },
  hint: () => undefined,
  takeOver: () => undefined,
  announceRetained: () => Promise.resolve(),
};
