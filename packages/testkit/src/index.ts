export { TestBroker } from './test-broker.ts';
export type { TestBrokerOptions } from './test-broker.ts';
export { ByteClient } from './byte-client.ts';
export type {
  AcknowledgementProperties,
  ByteClientOptions,
  ConnectFields,
  HowClosed,
  PublishFields,
  SubscribeFields,
} from './byte-client.ts';
export { BalancerProcess, hasHaproxy } from './cluster/balancer-process.ts';
export type { BalancedNode } from './cluster/balancer-process.ts';
export { Device } from './cluster/device.ts';
export type { DeviceOptions } from './cluster/device.ts';
export {
  DISCONNECT_NORMALLY,
  DevicePacketReader,
  PINGREQ,
  encodeAcknowledgement,
  encodeConnect,
  encodePublish,
  encodeSubscribe,
} from './cluster/device-wire.ts';
export type { DeviceLevel, DevicePacket, DeviceWill } from './cluster/device-wire.ts';
export { checkHistory, violationSummary } from './cluster/history/check-history.ts';
export type {
  CheckHistoryOptions,
  HistoryRule,
  Violation,
} from './cluster/history/check-history.ts';
export { History } from './cluster/history/history.ts';
export type {
  HistoryFields,
  HistoryOp,
  HistoryPhase,
  HistoryRecord,
} from './cluster/history/history.ts';
export { messagePayload, messageStamp, payloadHash } from './cluster/history/message-payload.ts';
export type { MessageStamp } from './cluster/history/message-payload.ts';
export { pollUntil } from './cluster/poll-until.ts';
export { ShoalCluster } from './cluster/shoal-cluster.ts';
export type { ShoalClusterOptions } from './cluster/shoal-cluster.ts';
export { describeClusterState } from './contract/cluster-state-contract.ts';
export type {
  ClusterStateContractOptions,
  ClusterStateHarness,
} from './contract/cluster-state-contract.ts';
export { FactReader } from './contract/fact-reader.ts';
export { repeatingWrites } from './contract/repeated-writes.ts';
export { describeStateStore } from './contract/state-store-contract.ts';
export type {
  StateStoreContractOptions,
  StateStoreHarness,
} from './contract/state-store-contract.ts';
export type { StateStoreLimits } from './contract/state-store-model.ts';
export { FakeClock } from './fake-clock.ts';
export { FlakyProxy } from './flaky-proxy.ts';
export type { Mischief } from './flaky-proxy.ts';
export { MemoryChannel } from './memory-channel.ts';
export type { ByteReceiver } from './memory-channel.ts';
export { MemoryClusterState } from './memory-cluster-state.ts';
export type { ClusterSnapshot, MemoryClusterStateOptions } from './memory-cluster-state.ts';
export { hasRedisServer, RedisCluster, RedisProcess, RedisSentinels } from './redis-process.ts';
export type { RedisProcessOptions } from './redis-process.ts';
export { recordingOwners } from './recording-owners.ts';
export { SeededRandom } from './seeded-random.ts';
export { freePort } from './free-port.ts';
export { SHOAL_MAIN, ShoalProcess } from './shoal-process.ts';
export type { ShoalProcessOptions } from './shoal-process.ts';
export { MemoryClient, TestNode } from './test-node.ts';
export type { BatchedPublish, TestNodeOptions } from './test-node.ts';
export { topicOf } from './topic.ts';
export { encodePacket, userPropertiesOf } from './wire-packet.ts';
export type {
  ReceivedPacket,
  Unreadable,
  WirePacket,
  WirePacketType,
  WireUserProperties,
  WireVersion,
} from './wire-packet.ts';
