/** Something an operator may want to read about. The shell makes the log line from it. */
export type ClusterReport =
  | { readonly event: 'cluster.serving' }
  /** The lease could not be renewed in time: nothing may be acknowledged until `cluster.resumed`. */
  | { readonly event: 'cluster.suspended'; readonly message: string }
  | { readonly event: 'cluster.resumed' }
  /** A later process has this node's id: this one has to end. */
  | { readonly event: 'cluster.replaced'; readonly message: string }
  /** The shared state was replaced or rolled back, and is written again. */
  | { readonly event: 'cluster.state_replaced' }
  /** The shared state was lost, and these retained messages with it: only their names were known here. */
  | { readonly event: 'cluster.retained_lost'; readonly topics: number }
  | { readonly event: 'cluster.state_failed'; readonly operation: string; readonly message: string }
  | { readonly event: 'cluster.peer_up'; readonly peerId: string }
  | { readonly event: 'cluster.peer_down'; readonly peerId: string; readonly message: string }
  /** A peer that has a lease and this node have not been linked, in one direction or both, for seconds. */
  | { readonly event: 'cluster.unreachable'; readonly peerId: string; readonly message: string }
  /** The routes of this node and of a peer are not the same for good: they are written and loaded again. */
  | { readonly event: 'cluster.mismatch'; readonly peerId: string }
  | { readonly event: 'cluster.peer_gone'; readonly peerId: string; readonly dead: boolean }
  /** Messages for a peer that nobody waits for any longer. */
  | { readonly event: 'cluster.peer_late'; readonly peerId: string; readonly items: number }
  /** Messages for clean sessions of this node are lost on their way from a peer: connections that may miss some ended. */
  | { readonly event: 'cluster.missed'; readonly connections: number }
  /** Somebody at the port for peers was turned away. Told once a minute for each host and reason. */
  | {
      readonly event: 'cluster.refused';
      readonly reason: string;
      /** The node that it claimed to be; '' when it did not get that far. */
      readonly peerId: string;
      readonly remoteAddress: string;
      readonly message: string;
    }
  /** What a peer sent could not be read. */
  | { readonly event: 'cluster.malformed'; readonly peerId: string; readonly message: string }
  /** A message is too large for a link: that node's clean sessions do not get it. */
  | { readonly event: 'cluster.too_large'; readonly peerId: string; readonly message: string }
  /** A dead node's connections and routes have been dealt with. */
  | { readonly event: 'cluster.buried'; readonly peerId: string };

export type Reporter = (report: ClusterReport) => void;
