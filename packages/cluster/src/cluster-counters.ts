import { Histogram } from '@shoalmq/core';
import type { ServerRefusal } from './link/peer-server.ts';
import type { ClusterReport } from './report.ts';

/** What happened between this node and the others since it started, as plain numbers that only grow. */
export class ClusterCounters {
  /** Messages for clean sessions of another node, one for each node that has some, handed to its link. */
  forwardsSent = 0;
  /** Of those that should have been: dropped at QoS 0 because the link was down or full. */
  forwardsDropped = 0;
  /** Times from what somebody waits for being written to a link to its acknowledgement, once for each frame. */
  readonly acknowledged = new Histogram();
  forwardsReceived = 0;
  /** Of those received: nobody here was subscribed, or no longer. */
  forwardsUnwanted = 0;
  /** Entries of queues that other nodes were told about, and were told of by them. */
  hintsSent = 0;
  hintsReceived = 0;
  /** Of those received: the session was not connected here. */
  hintsNotHere = 0;
  /** Changes of the shared routes and of names of retained topics that this node wrote, and that it applied. */
  factsWritten = 0;
  factsApplied = 0;
  /** Times that the routes of this node and of another one were not the same for good, and were loaded again. */
  mismatches = 0;
  suspensions = 0;
  /** Times that the store was replaced or rolled back: a failover, or a Redis that came back empty. */
  storeReplacements = 0;
  burials = 0;
  /** Those turned away at the port for nodes. */
  readonly refusals = new Map<ServerRefusal, number>();

  refused(reason: ServerRefusal): void {
    this.refusals.set(reason, (this.refusals.get(reason) ?? 0) + 1);
  }

  /** Counts what is told anyway. */
  count({ event }: ClusterReport): void {
    if (event === 'cluster.suspended') this.suspensions += 1;
    else if (event === 'cluster.mismatch') this.mismatches += 1;
    else if (event === 'cluster.state_replaced') this.storeReplacements += 1;
    else if (event === 'cluster.buried') this.burials += 1;
  }
}
