import type { NodeDescriptor, NodeIdentity } from '@shoalmq/core';
import type { LinkCounters, LinkState } from './link/peer-link.ts';

/** The cluster as one of its nodes sees it. */
export interface ClusterStatus {
  /** Nodes with a lease, this one first. What the others say of themselves is at most a renewal old. */
  readonly nodes: readonly ClusterNodeStatus[];
  /** Nodes without a lease that are not buried yet. */
  readonly dead: readonly NodeIdentity[];
  /** This node may acknowledge: it has its lease, and knows the routes. */
  readonly valid: boolean;
  /** Names the contents of the store; another name is another store. */
  readonly generation: string | undefined;
  /** Milliseconds since the route table here was last known to be complete; -1: never yet. */
  readonly routeLagMs: number;
}

export interface ClusterNodeStatus extends NodeDescriptor {
  /** `undefined`: this node itself. */
  readonly link: PeerStatus | undefined;
}

/** The links between this node and another one. */
export interface PeerStatus {
  /** Of the link from here. */
  readonly state: LinkState;
  /** The other node's link to here is up. */
  readonly heard: boolean;
  /** Bytes kept for the other node because it has not acknowledged them. */
  readonly bufferedBytes: number;
  /** Messages and questions that wait for its acknowledgement. */
  readonly waiting: number;
  readonly counters: Readonly<LinkCounters>;
}
