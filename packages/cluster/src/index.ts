export { Cluster, DEFAULT_CLUSTER_TIMES } from './cluster.ts';
export type { ClusterHealth, ClusterOptions, ClusterTimes } from './cluster.ts';
export { ClusterCounters } from './cluster-counters.ts';
export type { ClusterNodeStatus, ClusterStatus, PeerStatus } from './cluster-status.ts';
export type { ClusterReport } from './report.ts';
export type { LinkSecurity, LinkTls } from './link/security.ts';
export type { Refusal } from './link/messages.ts';
export { DEFAULT_LINK_LIMITS, PeerLink } from './link/peer-link.ts';
export type {
  LinkCounters,
  LinkEvents,
  LinkLimits,
  LinkState,
  PeerLinkOptions,
} from './link/peer-link.ts';
export { DEFAULT_PEER_SERVER_LIMITS, PeerServer } from './link/peer-server.ts';
export type {
  Gap,
  PeerServerEvents,
  PeerServerLimits,
  PeerServerOptions,
  PeerSource,
  ServerRefusal,
} from './link/peer-server.ts';
export type { Outcome, Settleable } from './link/settle-queue.ts';
export type {
  Destination,
  IncomingCall,
  LinkListener,
  LinkTransport,
  ListenOptions,
  ListenerLimits,
  OutgoingCall,
} from './link/transport.ts';
export { decodeReply, decodeRequest } from './link/messages.ts';
export type { Reply, Request } from './link/messages.ts';
