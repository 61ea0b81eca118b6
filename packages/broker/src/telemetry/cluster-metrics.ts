import type { ClusterCounters, ClusterStatus } from '@shoalmq/cluster';
import type { RedisMetrics } from '@shoalmq/store-redis';
import { histogram, single } from './declaration.ts';
import type { Declaration, Sample } from './declaration.ts';

/** What a node of a cluster has beside what every node has. */
export interface ClusterMetrics {
  readonly status: ClusterStatus;
  readonly counters: ClusterCounters;
  readonly store: RedisMetrics;
  /** When the certificate ends that this node shows to the others, in seconds since 1970; `undefined`: it has none. */
  readonly certificateExpirySeconds: number | undefined;
}

/** Other nodes that have series of their own; those of more are left out. */
const PEERS_MAX = 32;

type Peer = ClusterStatus['nodes'][number] & {
  readonly link: NonNullable<ClusterStatus['nodes'][number]['link']>;
};

/** The metrics of nodes in a cluster; of a node that is alone they have no series. */
export const CLUSTER_DECLARATIONS: readonly Declaration[] = [
  {
    name: 'shoal_suspended',
    help: '1 while this node has no valid lease or does not know the routes, and acknowledges nothing; otherwise 0.',
    type: 'gauge',
    labels: [],
    read: inCluster(({ status }) => single(status.valid ? 0 : 1)),
  },
  counter('shoal_suspensions_total', 'Times that the lease of this node lapsed.', (counters) =>
    single(counters.suspensions),
  ),
  {
    name: 'shoal_route_lag_seconds',
    help: 'Seconds since the route table of this node was last known to be complete.',
    type: 'gauge',
    labels: [],
    read: inCluster(({ status }) =>
      status.routeLagMs < 0 ? [] : single(status.routeLagMs / 1_000),
    ),
  },
  counter(
    'shoal_route_changes_total',
    'Changes of shared routes and of names of retained topics: written by this node, and applied here. Clients that connect, disconnect and move cause none.',
    ({ factsWritten, factsApplied }) => [
      { labels: { direction: 'written' }, value: factsWritten },
      { labels: { direction: 'applied' }, value: factsApplied },
    ],
    ['direction'],
  ),
  counter(
    'shoal_forwarded_messages_total',
    'Messages between nodes for clean sessions, one for each node that has some. sent, dropped: by this node at QoS 0, because the link was down or full; received; unwanted: those received that nobody was subscribed to, as when the last one has just left.',
    ({ forwardsSent, forwardsDropped, forwardsReceived, forwardsUnwanted }) => [
      { labels: { direction: 'sent', result: 'sent' }, value: forwardsSent },
      { labels: { direction: 'sent', result: 'dropped' }, value: forwardsDropped },
      {
        labels: { direction: 'received', result: 'wanted' },
        value: forwardsReceived - forwardsUnwanted,
      },
      { labels: { direction: 'received', result: 'unwanted' }, value: forwardsUnwanted },
    ],
    ['direction', 'result'],
  ),
  counter(
    'shoal_hints_total',
    'Entries of queues that nodes told each other of; not_here: the session was not connected to this node.',
    ({ hintsSent, hintsReceived, hintsNotHere }) => [
      { labels: { direction: 'sent', result: 'sent' }, value: hintsSent },
      { labels: { direction: 'received', result: 'here' }, value: hintsReceived - hintsNotHere },
      { labels: { direction: 'received', result: 'not_here' }, value: hintsNotHere },
    ],
    ['direction', 'result'],
  ),
  counter('shoal_burials_total', 'Dead nodes that this node finished burying.', (counters) =>
    single(counters.burials),
  ),
  counter(
    'shoal_peer_refused_total',
    'Connections to the port for nodes that were turned away, by the reason why; only reasons that occurred.',
    ({ refusals }) => Array.from(refusals, ([reason, value]) => ({ labels: { reason }, value })),
    ['reason'],
  ),
  peerGauge(
    'shoal_peer_connected',
    'Links with another node that are up: 2 is both ways.',
    ({ link }) => Number(link.state === 'up') + Number(link.heard),
  ),
  peerGauge(
    'shoal_peer_unacknowledged_bytes',
    'Bytes kept for another node because it has not acknowledged them.',
    ({ link }) => link.bufferedBytes,
  ),
  peerGauge(
    'shoal_peer_unacknowledged_items',
    'Messages and questions that wait until another node acknowledges them.',
    ({ link }) => link.waiting,
  ),
  peerCounter(
    'shoal_peer_frames_total',
    'Frames sent to another node, one for each turn of the event loop.',
    ({ link }) => link.counters.framesSent,
  ),
  peerCounter(
    'shoal_peer_items_total',
    'Items sent to another node in those frames.',
    ({ link }) => link.counters.itemsSent,
  ),
  peerCounter(
    'shoal_peer_sent_bytes_total',
    'Bytes of those frames.',
    ({ link }) => link.counters.bytesSent,
  ),
  peerCounter(
    'shoal_peer_resets_total',
    'Links to another node that were up and broke.',
    ({ link }) => link.counters.resets,
  ),
  {
    name: 'shoal_peer_ack_duration_seconds',
    help: 'Time from a message for another node, that a publisher waits for, to its acknowledgement; once for each frame.',
    type: 'histogram',
    labels: [],
    read: inCluster(({ counters }) => histogram({}, counters.acknowledged)),
  },
  {
    name: 'shoal_peer_lost_items_total',
    help: 'Items for another node that did not arrive in time. dropped: nobody was promised them; late: nobody waits any longer, they may still arrive; missed: given up, and the other node was told.',
    type: 'counter',
    labels: ['peer', 'reason'],
    read: inCluster(({ status }) =>
      peersOf(status).flatMap(({ id: peer, link: { counters } }) => [
        { labels: { peer, reason: 'dropped' }, value: counters.itemsDropped },
        { labels: { peer, reason: 'late' }, value: counters.itemsLate },
        { labels: { peer, reason: 'missed' }, value: counters.itemsMissed },
      ]),
    ),
  },
  {
    name: 'shoal_store_operation_duration_seconds',
    help: 'Time from a call being handed to the connection to Redis to its answer, by script or command.',
    type: 'histogram',
    labels: ['operation'],
    read: inCluster(({ store }) =>
      [...store.durations].flatMap(([operation, durations]) => histogram({ operation }, durations)),
    ),
  },
  {
    name: 'shoal_store_failed_calls_total',
    help: 'Calls that Redis answered with an error or not in time, by script or command; only those that occurred.',
    type: 'counter',
    labels: ['operation'],
    read: inCluster(({ store }) =>
      Array.from(store.failures, ([operation, value]) => ({ labels: { operation }, value })),
    ),
  },
  counter(
    'shoal_route_mismatch_total',
    'Times that the routes of this node and of another one were not the same for good, and were loaded again.',
    (counters) => single(counters.mismatches),
  ),
  counter(
    'shoal_store_failovers_total',
    'Times that Redis was found to be another one: after a failover or a restart, or empty.',
    (counters) => single(counters.storeReplacements),
  ),
  {
    name: 'shoal_tls_certificate_expiry_timestamp_seconds',
    help: 'When a certificate of this node ends; listener peer: the one for the other nodes.',
    type: 'gauge',
    labels: ['listener'],
    read: inCluster(({ certificateExpirySeconds }) =>
      certificateExpirySeconds === undefined
        ? []
        : [{ labels: { listener: 'peer' }, value: certificateExpirySeconds }],
    ),
  },
];

function inCluster(read: (cluster: ClusterMetrics) => Sample[]): Declaration['read'] {
  return (source) => {
    const cluster = source.cluster?.();
    return cluster === undefined ? [] : read(cluster);
  };
}

function counter(
  name: string,
  help: string,
  read: (counters: ClusterCounters) => Sample[],
  labels: readonly string[] = [],
): Declaration {
  const ofCluster = inCluster(({ counters }) => read(counters));
  return { name, help, type: 'counter', labels, read: ofCluster };
}

function peerGauge(name: string, help: string, read: (peer: Peer) => number): Declaration {
  return { name, help, type: 'gauge', labels: ['peer'], read: perPeer(read) };
}

function peerCounter(name: string, help: string, read: (peer: Peer) => number): Declaration {
  return { name, help, type: 'counter', labels: ['peer'], read: perPeer(read) };
}

function perPeer(read: (peer: Peer) => number): Declaration['read'] {
  return inCluster(({ status }) =>
    peersOf(status).map((peer) => ({ labels: { peer: peer.id }, value: read(peer) })),
  );
}

/** The other nodes, always the same ones while there are more than have room. */
function peersOf({ nodes }: ClusterStatus): Peer[] {
  return nodes
    .filter((node): node is Peer => node.link !== undefined)
    .sort((one, other) => (one.id < other.id ? -1 : 1))
    .slice(0, PEERS_MAX);
}
