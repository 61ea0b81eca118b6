import type {
  Clock,
  ClusterState,
  DueEvents,
  FactChange,
  NodeIdentity,
  StateStore,
} from '@shoalmq/core';
import { nodeName } from './node-name.ts';
import { chosenNode } from './rendezvous.ts';
import type { Reporter } from './report.ts';

/** Connections of a dead node that are ended together. */
const PAGE_CONNECTIONS = 100;

export interface BurialParts {
  readonly state: ClusterState;
  readonly store: StateStore;
  readonly clock: Clock;
  readonly self: NodeIdentity;
  /** Milliseconds for which a node must have been without a lease. */
  readonly graceMs: number;
  /** Likewise, after leases may have ended because nobody could renew any. */
  readonly outageGraceMs: number;
  readonly report: Reporter;
  carryOut(due: DueEvents): void;
  /** The filters that a node is known to have subscribers for. */
  filtersOf(node: NodeIdentity): readonly string[];
  write(changes: readonly FactChange[]): Promise<void>;
}

/**
 * Does for dead nodes what they can no longer do: ends their connections, so that wills are published and sessions
 * begin to expire, and takes their routes out of the table. Each survivor takes a share of the connections; who dies
 * meanwhile leaves its share to the others, because all is looked at again until nothing is left.
 */
export class Burial {
  readonly #parts: BurialParts;
  /** Nobody is buried before. */
  #notBeforeMs = -Infinity;
  /** Since when a node is known to be dead. */
  readonly #sinceMs = new Map<string, number>();
  #burying: Promise<void> | undefined;
  #closed = false;

  constructor(parts: BurialParts) {
    this.#parts = parts;
  }

  /** What the last renewal of the lease told. `survivors`: the names of all nodes that take a share. */
  see(dead: readonly NodeIdentity[], survivors: readonly string[]): void {
    const nowMs = this.#parts.clock.monotonicMs();
    const names = new Set(dead.map(nodeName));
    for (const name of this.#sinceMs.keys()) if (!names.has(name)) this.#sinceMs.delete(name);
    for (const name of names) if (!this.#sinceMs.has(name)) this.#sinceMs.set(name, nowMs);
    const due = dead.filter(
      (node) => nowMs - this.#sinceMs.get(nodeName(node))! >= this.#parts.graceMs,
    );
    if (due.length === 0 || nowMs < this.#notBeforeMs || this.#burying !== undefined) return;
    this.#burying = this.#buryAll(due, survivors).finally(() => {
      this.#burying = undefined;
    });
  }

  /** Nobody could renew a lease: those that ended may be renewed by nodes that live. */
  wait(): void {
    this.#sinceMs.clear();
    this.#notBeforeMs = this.#parts.clock.monotonicMs() + this.#parts.outageGraceMs;
  }

  async close(): Promise<void> {
    this.#closed = true;
    await this.#burying;
  }

  async #buryAll(dead: readonly NodeIdentity[], survivors: readonly string[]): Promise<void> {
    try {
      for (const node of dead) await this.#bury(node, survivors);
    } catch (error) {
      // All of it is done again from the start with the next renewal.
      this.#parts.report({
        event: 'cluster.state_failed',
        operation: 'bury',
        message: String(error),
      });
    }
  }

  async #bury(node: NodeIdentity, survivors: readonly string[]): Promise<void> {
    const { state, self, report } = this.#parts;
    const isMine = (key: string): boolean => chosenNode(survivors, key) === nodeName(self);
    let left = 0;
    let cursor = '';
    do {
      if (this.#closed) return;
      const page = await state.orphans(node, cursor, PAGE_CONNECTIONS);
      left += page.connections.length;
      await Promise.all(
        page.connections
          .filter(({ clientId }) => isMine(clientId))
          .map((connection) => this.#release(connection)),
      );
      cursor = page.next;
    } while (cursor !== '');
    if (left > 0 || !isMine(nodeName(node))) return;
    await this.#parts.write(
      this.#parts.filtersOf(node).map((filter) => ({
        change: 'remove',
        fact: { kind: 'node', node, filter, weight: 0 },
      })),
    );
    await state.bury(node);
    report({ event: 'cluster.buried', peerId: node.id });
  }

  /** As the node itself would have done it. Whoever has come back elsewhere is not touched. */
  async #release({ clientId, token }: { clientId: string; token: string }): Promise<void> {
    const released = await this.#parts.store.release({
      clientId,
      token,
      discardWill: false,
      expiryInterval: undefined,
      sentBelow: Number.MAX_SAFE_INTEGER,
    });
    if (released.outcome === 'ok') this.#parts.carryOut(released);
  }
}
