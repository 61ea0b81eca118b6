import type { NodeDescriptor } from '@shoalmq/core';
import type { Reporter } from './report.ts';

/** What of a peer decides whether it and this node reach each other. */
export interface ReachablePeer {
  readonly descriptor: NodeDescriptor;
  /** This node's link to the peer is up. */
  readonly up: boolean;
  /** The peer's link to this node is up. */
  readonly heard: boolean;
}

/** Milliseconds without a link after which somebody has to look at the settings. */
const TOLERATED_MS = 3_000;

/**
 * Says, once for each time, which nodes and this one do not reach each other, and what to look at. Between nodes that
 * came and went that is over in a moment; where a port is closed or an address wrong it stays so, and a node that joins
 * waits for ever.
 */
export class Reachability {
  readonly #ownAddress: () => string;
  readonly #report: Reporter;
  /** Since when, by name of the node; `Infinity` when it was said. */
  readonly #sinceMs = new Map<string, number>();

  /** `ownAddress`: where peers are told to connect to. */
  constructor(ownAddress: () => string, report: Reporter) {
    this.#ownAddress = ownAddress;
    this.#report = report;
  }

  /** To be called now and then with the peers by name. */
  see(peers: ReadonlyMap<string, ReachablePeer>, nowMs: number): void {
    for (const name of this.#sinceMs.keys()) {
      const peer = peers.get(name);
      if (peer === undefined || (peer.up && peer.heard)) this.#sinceMs.delete(name);
    }
    for (const [name, peer] of peers) {
      if (peer.up && peer.heard) continue;
      const sinceMs = this.#sinceMs.get(name);
      if (sinceMs === undefined) this.#sinceMs.set(name, nowMs);
      else if (nowMs - sinceMs >= TOLERATED_MS) {
        this.#sinceMs.set(name, Infinity);
        const peerId = peer.descriptor.id;
        const message = this.problem(peer)!;
        this.#report({ event: 'cluster.unreachable', peerId, message });
      }
    }
  }

  /** What is wrong between a peer and this node, for people. */
  problem({ descriptor: { id, address }, up, heard }: ReachablePeer): string | undefined {
    const settings = 'cluster.peerHost, cluster.peerPort and cluster.peerAddress';
    const problems = [
      ...(up ? [] : [`node ${id} cannot be reached at ${address}: look at its ${settings}`]),
      ...(heard
        ? []
        : [`node ${id} has not reached this node at ${this.#ownAddress()}, its ${settings}`]),
    ];
    return problems.length === 0 ? undefined : problems.join('; ');
  }
}
