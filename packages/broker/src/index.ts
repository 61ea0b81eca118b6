export { createBroker } from './create-broker.ts';
export type {
  Broker,
  BrokerHooks,
  BrokerOptions,
  BrokerPublish,
  PublishedMessage,
} from './create-broker.ts';
export type { ClusterOverview, NodeOverview, RouteOverview } from './cluster-overview.ts';
export type { ClusterMetrics } from './telemetry/cluster-metrics.ts';
export type { StoreFacts } from './store-facts.ts';
