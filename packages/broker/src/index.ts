export { createBroker } from './create-broker.ts';
export type {
  Broker,
  BrokerHooks,
  BrokerOptions,
  BrokerPublish,
  PublishedMessage,
} from './create-broker.ts';
export type { StoreFacts } from './store-facts.ts';
