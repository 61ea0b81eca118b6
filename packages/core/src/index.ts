export { ProtocolError } from './errors.ts';
export { DEFAULT_LIMITS } from './limits.ts';
export type { Limits } from './limits.ts';
export type { Eviction, Farewell } from './connection/eviction.ts';
export { Node } from './node.ts';
export { DIGEST_PARTS, FactDigest } from './route/fact-digest.ts';
export type { ClientInfo, NodeEvents, NodeParts, NodeReport } from './node.ts';
export { Connection } from './connection/connection.ts';
export type { SharedStrategy } from './delivery/shared-choice.ts';
export type { Scheduler } from './ports/scheduler.ts';
export { Message } from './message.ts';
export { AckType } from './packet.ts';
export type {
  AuthPacket,
  ConnackProperties,
  ConnectPacket,
  ConnectProperties,
  DisconnectPacket,
  OutgoingPacket,
  PacketHandler,
  ProtocolVersion,
  QoS,
  SubscribePacket,
  SubscribeRequest,
  UnsubscribePacket,
  UserProperties,
  Will,
} from './packet.ts';
export type {
  Access,
  AuthenticateResult,
  AuthorizeRequest,
  ConnectionFacts,
  EnhancedAuthentication,
  Principal,
} from './ports/access.ts';
export type {
  ByteSink,
  Channel,
  ChannelHandler,
  CloseReason,
  PacketEncoder,
  PublishForm,
} from './ports/channel.ts';
export type { Clock } from './ports/clock.ts';
export { FACT_BUCKETS } from './ports/cluster-state.ts';
export type {
  ClusterState,
  FactChange,
  LogPosition,
  Membership,
  NodeDescriptor,
  NodeIdentity,
  NodeState,
  SharedFact,
} from './ports/cluster-state.ts';
export { noPeers, nodeOfToken } from './ports/peers.ts';
export type { Peers, Settleable, SubscriptionChange } from './ports/peers.ts';
export { explainRoute } from './route/explanation.ts';
export type {
  ExplainedMessage,
  MatchedGroup,
  MatchedRoute,
  Recipient,
  RouteExplanation,
} from './route/explanation.ts';
export { NodeTarget } from './route/node-route.ts';
export { SharedFacts } from './route/shared-facts.ts';
export type { Random } from './ports/random.ts';
export type {
  AppendResult,
  ClaimRequest,
  ClaimedSession,
  DueEvents,
  DueWill,
  FencedResult,
  IncomingMessage,
  OwnerToken,
  QueueEntry,
  QueuedMessage,
  ReleaseRequest,
  RestoreRequest,
  SessionIncarnation,
  SessionRef,
  StateStore,
  StoredSubscription,
} from './ports/state-store.ts';
export { NOBODY } from './ports/state-store.ts';
export { retainedNameWeight } from './topic/name.ts';
export { ReasonCode, connackReturnCode } from './reason-code.ts';
export {
  AUTH_RESULTS,
  CLOSE_REASONS,
  Counters,
  DROP_REASONS,
  DURATION_BOUNDS_MS,
  Histogram,
  ListenerCounters,
  SESSION_EVENTS,
  STORE_OPERATIONS,
  WILL_CAUSES,
} from './telemetry/counters.ts';
export type {
  AuthResult,
  DropReason,
  SessionEvent,
  StoreOperation,
  WillCause,
} from './telemetry/counters.ts';
export { topicFilterProblem, matches as filterMatches } from './topic/filter.ts';
export { containsFilter, filtersOverlap } from './topic/filter-relation.ts';
export { Topic, TopicTable } from './topic/topic.ts';
