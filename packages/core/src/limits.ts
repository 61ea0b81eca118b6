/** Every bound the core enforces, with the policy at the bound. Set by the operator; see docs/configuration.md. */
export interface Limits {
  /** Bytes of the largest packet from a client; larger ones end the connection with 0x95 [MQTT-3.2.2-15]. */
  readonly packetBytesMax: number;
  /** Bytes of the largest CONNECT, the will included; enforced before anything is buffered. */
  readonly connectBytesMax: number;
  /** Milliseconds from accept until CONNECT is complete (authentication included: twice that). Not reset by bytes. */
  readonly connectTimeoutMs: number;
  /** Milliseconds in which a packet must be complete once its first byte came. */
  readonly packetTimeoutMs: number;
  /**
   * Seconds; the longest keep alive granted. 5.0 clients that ask for more (or for none) get Server Keep Alive; 3.x
   * clients that do are refused. 0: no limit.
   */
  readonly keepAliveMax: number;
  /** Seconds; longer session expiry intervals are cut to this and said so in CONNACK [MQTT-3.2.2-21]. */
  readonly sessionExpiryMax: number;
  /** Receive Maximum announced to clients: QoS 1 and 2 messages under way from one client [MQTT-3.3.4-7]. */
  readonly receiveMaximum: number;
  /** Topic Alias Maximum announced to clients. */
  readonly topicAliasMaximum: number;
  /** QoS 1 and 2 messages under way to one client, when it does not ask for fewer. At most 65,535. */
  readonly inflightMax: number;
  /** Topic aliases used towards one client, when it does not allow fewer. */
  readonly outboundTopicAliasMax: number;
  /** Messages that wait for the in-flight window of one connected clean session; beyond it, the publisher waits. */
  readonly waitingMessagesMax: number;
  /** Bytes of payload that wait for the in-flight window of one connected clean session. */
  readonly waitingBytesMax: number;
  /**
   * Milliseconds a connected client may make no progress, with its window full or with output that its socket does not
   * take, before it is closed.
   */
  readonly stallTimeoutMs: number;
  /** Bytes of output waiting for one socket beyond which QoS 0 messages to it are dropped and counted. */
  readonly outboundBytesMax: number;
  /** Messages, and bytes of payload, queued for one persistent session. */
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  /** At the queue's bound: `drop-oldest`, or `reject-new` (the publisher gets 0x97 at QoS > 0). */
  readonly queuePolicy: 'drop-oldest' | 'reject-new';
  /** Subscriptions of one client; more get 0x97 in SUBACK. */
  readonly subscriptionsMax: number;
  /** Topic levels of a name or filter. */
  readonly topicLevelsMax: number;
  /** Retained messages and their bytes in the whole cluster, 64 for each topic level included; more get 0x97. */
  readonly retainedMessagesMax: number;
  readonly retainedBytesMax: number;
  /** Connections of this node; more are not accepted until one ends. */
  readonly connectionsMax: number;
}

/** What a broker has when its operator says nothing. */
export const DEFAULT_LIMITS: Limits = {
  packetBytesMax: 1_048_576,
  connectBytesMax: 65_536,
  connectTimeoutMs: 10_000,
  packetTimeoutMs: 30_000,
  keepAliveMax: 0,
  sessionExpiryMax: 604_800,
  receiveMaximum: 1_024,
  topicAliasMaximum: 10,
  inflightMax: 1_024,
  outboundTopicAliasMax: 64,
  waitingMessagesMax: 100_000,
  waitingBytesMax: 67_108_864,
  stallTimeoutMs: 30_000,
  outboundBytesMax: 16_777_216,
  queueMessagesMax: 100_000,
  queueBytesMax: 67_108_864,
  queuePolicy: 'drop-oldest',
  subscriptionsMax: 10_000,
  topicLevelsMax: 200,
  retainedMessagesMax: 1_000_000,
  retainedBytesMax: 1_073_741_824,
  connectionsMax: 100_000,
};
