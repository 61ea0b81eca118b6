import { readdir } from 'node:fs/promises';
import {
  AUTH_RESULTS,
  CLOSE_REASONS,
  DROP_REASONS,
  SESSION_EVENTS,
  STORE_OPERATIONS,
  WILL_CAUSES,
} from '@shoalmq/core';
import type { Counters } from '@shoalmq/core';
import { Gauge, Registry, collectDefaultMetrics } from 'prom-client';
import type { Metric } from 'prom-client';
import { CLUSTER_DECLARATIONS } from './cluster-metrics.ts';
import type { ClusterMetrics } from './cluster-metrics.ts';
import { histogram, perName, single } from './declaration.ts';
import type { Declaration, Sample } from './declaration.ts';

/**
 * Every metric of a node. The broker counts in plain numbers (`Counters` of the core); they are read here when
 * somebody scrapes, at a cost that depends on the number of series and never on the number of clients. Labels come
 * from closed sets, so the number of series is bounded too.
 */

/** Levels of a node, asked for at each scrape: every field must be at hand without counting anything. */
export interface NodeLevels {
  readonly sessionsConnected: number;
  /** Persistent sessions without a connection; `undefined` in a cluster: nobody counts them. */
  readonly sessionsOffline: number | undefined;
  readonly subscriptions: number;
  readonly sharedGroups: number;
  readonly retainedMessages: number;
  /** `undefined`: not known yet. */
  readonly retainedBytes: number | undefined;
  /** QoS 1 and 2 messages sent to clients and not yet acknowledged. */
  readonly inflightMessages: number;
  /** Messages in queues of sessions, sent or not; `undefined` in a cluster: nobody counts them. */
  readonly queuedMessages: number | undefined;
  /** Bytes of their payloads. */
  readonly queuedBytes: number | undefined;
  /** Entries of the route table: to clean sessions here, to other nodes for theirs, and to persistent sessions. */
  readonly routes: {
    readonly clean: number;
    readonly elsewhere: number;
    readonly persistent: number;
  };
  readonly state: NodeState;
  /** Nodes of the cluster by state, this one included. */
  readonly nodes: Readonly<Record<NodeState, number>>;
  /** While the node drains, connections that are not gone yet; 0 otherwise. */
  readonly drainRemaining: number;
  /** The store answers. */
  readonly storeUp: boolean;
}

export const NODE_STATES = ['joining', 'serving', 'draining'] as const;
export type NodeState = (typeof NODE_STATES)[number];

export interface MetricsSource {
  readonly counters: Counters;
  levels(): NodeLevels;
  /** Of a node in a cluster. */
  cluster?(): ClusterMetrics | undefined;
  readonly version: string;
  /** Commit that the build was made from; '' when unknown. */
  readonly commit: string;
  /** Changes whenever the configuration does; tells nodes apart that should be equal. */
  readonly configHash: string;
}

/** The metrics of one node in the form that Prometheus scrapes. */
export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
}

/** Makes the metrics of one node, those of its process included. */
export function createMetrics(source: MetricsSource): Metrics {
  const registry = createRegistry(source);
  return { contentType: registry.contentType, text: () => registry.metrics() };
}

const PACKET_TYPES = [
  'connect',
  'connack',
  'publish',
  'puback',
  'pubrec',
  'pubrel',
  'pubcomp',
  'subscribe',
  'suback',
  'unsubscribe',
  'unsuback',
  'pingreq',
  'pingresp',
  'disconnect',
  'auth',
] as const;

/** Label values of protocol versions by protocol level; 0 is a CONNECT with a level that we do not know. */
const VERSIONS: Readonly<Record<number, string>> = { 0: 'unknown', 3: '3.1', 4: '3.1.1', 5: '5.0' };

const DECLARATIONS: readonly Declaration[] = [
  {
    name: 'mqtt_connections',
    help: 'Connections with a successful CONNECT.',
    type: 'gauge',
    labels: ['listener', 'protocol_version'],
    read: ({ counters }) =>
      [...counters.listeners].flatMap(([listener, { connected }]) =>
        [3, 4, 5].map((version) => ({
          labels: { listener, protocol_version: VERSIONS[version]! },
          value: connected[version]!,
        })),
      ),
  },
  {
    name: 'mqtt_connections_accepted_total',
    help: 'Connections accepted by a listener, before any CONNECT.',
    type: 'counter',
    labels: ['listener'],
    read: ({ counters }) => perListener(counters, (of) => of.connectionsAccepted),
  },
  {
    name: 'mqtt_connections_closed_total',
    help: 'Connections that ended, by the reason why.',
    type: 'counter',
    labels: ['reason'],
    read: ({ counters }) => perName('reason', CLOSE_REASONS, counters.connectionsClosed),
  },
  {
    name: 'mqtt_connect_total',
    help: 'CONNECT packets answered, by MQTT 5.0 reason code; only combinations that occurred.',
    type: 'counter',
    labels: ['protocol_version', 'code'],
    read: ({ counters }) =>
      counters.connects().map(({ version, reasonCode, count }) => ({
        labels: {
          protocol_version: VERSIONS[version]!,
          code: `0x${reasonCode.toString(16).padStart(2, '0')}`,
        },
        value: count,
      })),
  },
  {
    name: 'mqtt_packets_received_total',
    help: 'Packets received from clients.',
    type: 'counter',
    labels: ['type'],
    read: ({ counters }) => perPacketType(counters.packetsReceived),
  },
  {
    name: 'mqtt_packets_sent_total',
    help: 'Packets sent to clients.',
    type: 'counter',
    labels: ['type'],
    read: ({ counters }) => perPacketType(counters.packetsSent),
  },
  {
    name: 'mqtt_bytes_received_total',
    help: 'Bytes read from connections.',
    type: 'counter',
    labels: ['listener'],
    read: ({ counters }) => perListener(counters, (of) => of.bytesReceived),
  },
  {
    name: 'mqtt_bytes_sent_total',
    help: 'Bytes written to connections.',
    type: 'counter',
    labels: ['listener'],
    read: ({ counters }) => perListener(counters, (of) => of.bytesSent),
  },
  {
    name: 'mqtt_publish_received_total',
    help: 'PUBLISH packets received.',
    type: 'counter',
    labels: ['qos'],
    read: ({ counters }) => perQos(counters.publishReceived),
  },
  {
    name: 'mqtt_publish_sent_total',
    help: 'PUBLISH packets sent.',
    type: 'counter',
    labels: ['qos'],
    read: ({ counters }) => perQos(counters.publishSent),
  },
  {
    name: 'mqtt_publish_received_bytes_total',
    help: 'Bytes of payload in PUBLISH packets received.',
    type: 'counter',
    labels: [],
    read: ({ counters }) => single(counters.publishBytesReceived),
  },
  {
    name: 'mqtt_publish_sent_bytes_total',
    help: 'Bytes of payload in PUBLISH packets sent.',
    type: 'counter',
    labels: [],
    read: ({ counters }) => single(counters.publishBytesSent),
  },
  {
    name: 'mqtt_messages_dropped_total',
    help: 'Messages not delivered to somebody they were meant for, by the reason why.',
    type: 'counter',
    labels: ['reason'],
    read: ({ counters }) => perName('reason', DROP_REASONS, counters.messagesDropped),
  },
  {
    name: 'mqtt_publish_ack_duration_seconds',
    help: 'Time from a PUBLISH being read to its PUBACK or PUBREC being written.',
    type: 'histogram',
    labels: ['qos'],
    read: ({ counters: { publishAckDuration } }) => [
      ...histogram({ qos: 1 }, publishAckDuration.qos1),
      ...histogram({ qos: 2 }, publishAckDuration.qos2),
    ],
  },
  {
    name: 'mqtt_delivery_duration_seconds',
    help: "Time from a PUBLISH being read to its being written to a subscriber; queued: by way of a session's queue.",
    type: 'histogram',
    labels: ['path'],
    read: ({ counters: { deliveryDuration } }) => [
      ...histogram({ path: 'local' }, deliveryDuration.local),
      ...histogram({ path: 'queued' }, deliveryDuration.queued),
    ],
  },
  {
    name: 'mqtt_auth_duration_seconds',
    help: 'Time that authentication took; backend: simple (CONNECT alone) or enhanced (AUTH).',
    type: 'histogram',
    labels: ['backend'],
    read: ({ counters: { authDuration } }) => [
      ...histogram({ backend: 'simple' }, authDuration.simple),
      ...histogram({ backend: 'enhanced' }, authDuration.enhanced),
    ],
  },
  {
    name: 'mqtt_auth_total',
    help: 'Authentications by their result; failed: the backend could not answer, which counts as "no".',
    type: 'counter',
    labels: ['backend', 'result'],
    read: ({ counters: { authResults } }) =>
      (['simple', 'enhanced'] as const).flatMap((backend) =>
        AUTH_RESULTS.map((result) => ({
          labels: { backend, result },
          value: authResults[backend][result],
        })),
      ),
  },
  {
    name: 'mqtt_sessions',
    help: 'Sessions of clients connected to this node, and (not in a cluster, where no node counts them) persistent sessions without a connection.',
    type: 'gauge',
    labels: ['state'],
    read: (source) => {
      const { sessionsConnected, sessionsOffline } = source.levels();
      return [
        { labels: { state: 'connected' }, value: sessionsConnected },
        ...(sessionsOffline === undefined
          ? []
          : [{ labels: { state: 'offline' }, value: sessionsOffline }]),
      ];
    },
  },
  {
    name: 'mqtt_session_events_total',
    help: 'What happened to sessions.',
    type: 'counter',
    labels: ['event'],
    read: ({ counters }) => perName('event', SESSION_EVENTS, counters.sessionEvents),
  },
  level(
    'mqtt_subscriptions',
    'Subscriptions of clean sessions of this node, and of all persistent sessions.',
    (of) => of.subscriptions,
  ),
  level(
    'mqtt_shared_groups',
    'Groups of shared subscriptions, in a cluster of all nodes.',
    (of) => of.sharedGroups,
  ),
  level(
    'mqtt_retained_messages',
    'Retained messages, without those of $SYS; in a cluster of all nodes.',
    (of) => of.retainedMessages,
  ),
  level(
    'mqtt_retained_bytes',
    'Bytes of all retained messages; in a cluster as Redis told some seconds ago.',
    (of) => of.retainedBytes,
  ),
  level(
    'mqtt_inflight_messages',
    'QoS 1 and 2 messages sent to clients and not yet acknowledged.',
    (of) => of.inflightMessages,
  ),
  level(
    'mqtt_queued_messages',
    'Messages in the queues of sessions; not in a cluster, where no node counts them.',
    (of) => of.queuedMessages,
  ),
  level(
    'mqtt_queued_bytes',
    'Bytes of payload in the queues of sessions; not in a cluster.',
    (of) => of.queuedBytes,
  ),
  {
    name: 'mqtt_wills_published_total',
    help: 'Wills published, by what made them due.',
    type: 'counter',
    labels: ['cause'],
    read: ({ counters }) => perName('cause', WILL_CAUSES, counters.willsPublished),
  },
  {
    name: 'shoal_cluster_nodes',
    help: 'Nodes of the cluster that this node knows, itself included, by state.',
    type: 'gauge',
    labels: ['state'],
    read: (source) => {
      const { nodes } = source.levels();
      return NODE_STATES.map((state) => ({ labels: { state }, value: nodes[state] }));
    },
  },
  level('shoal_drain_state', '1 while this node drains, otherwise 0.', (of) =>
    Number(of.state === 'draining'),
  ),
  level(
    'shoal_drain_remaining_connections',
    'Connections that a drain has still to send away; 0 when this node does not drain.',
    (of) => of.drainRemaining,
  ),
  {
    name: 'shoal_drain_evicted_total',
    help: 'Connections that a drain has sent away.',
    type: 'counter',
    labels: [],
    read: ({ counters }) => [{ labels: {}, value: counters.connectionsClosed.drain }],
  },
  {
    name: 'shoal_routes',
    help: 'Entries of the route table: to clean sessions here, to other nodes for their clean sessions, to persistent sessions.',
    type: 'gauge',
    labels: ['kind'],
    read: (source) => {
      const { clean, elsewhere, persistent } = source.levels().routes;
      return [
        { labels: { kind: 'clean' }, value: clean },
        { labels: { kind: 'elsewhere' }, value: elsewhere },
        { labels: { kind: 'persistent' }, value: persistent },
      ];
    },
  },
  level('shoal_store_up', '1 while the store answers, otherwise 0.', (of) => Number(of.storeUp)),
  {
    name: 'shoal_store_errors_total',
    help: 'Calls of the store that failed or whose outcome is unknown.',
    type: 'counter',
    labels: ['operation'],
    read: ({ counters }) => perName('operation', STORE_OPERATIONS, counters.storeErrors),
  },
  ...CLUSTER_DECLARATIONS,
  {
    name: 'shoal_retained_lost_total',
    help: 'Retained messages that were lost with what Redis held, as this node noticed.',
    type: 'counter',
    labels: [],
    read: ({ counters }) => [{ labels: {}, value: counters.retainedLost }],
  },
  {
    name: 'shoal_build_info',
    help: 'Always 1; what is running.',
    type: 'gauge',
    labels: ['version', 'commit', 'node_version'],
    read: ({ version, commit }) => [
      { labels: { version, commit, node_version: process.version }, value: 1 },
    ],
  },
  {
    name: 'shoal_config_hash_info',
    help: 'Always 1; the hash of the configuration in effect, without node id and secrets.',
    type: 'gauge',
    labels: ['hash'],
    read: ({ configHash }) => [{ labels: { hash: configHash }, value: 1 }],
  },
];

/**
 * Those of prom-client's process metrics that cost the same however many clients there are: listing handles and
 * resources would not. `process_open_fds` is ours for the same reason (read off the event loop).
 */
const PROCESS_METRICS = [
  'process_cpu_user_seconds_total',
  'process_cpu_system_seconds_total',
  'process_cpu_seconds_total',
  'process_start_time_seconds',
  'process_resident_memory_bytes',
  'process_max_fds',
  'nodejs_eventloop_lag_seconds',
  'nodejs_eventloop_lag_max_seconds',
  'nodejs_eventloop_lag_mean_seconds',
  'nodejs_eventloop_lag_p50_seconds',
  'nodejs_eventloop_lag_p90_seconds',
  'nodejs_eventloop_lag_p99_seconds',
  'nodejs_heap_size_total_bytes',
  'nodejs_heap_size_used_bytes',
  'nodejs_external_memory_bytes',
  'nodejs_heap_space_size_total_bytes',
  'nodejs_heap_space_size_used_bytes',
  'nodejs_gc_duration_seconds',
  'nodejs_version_info',
] as const;

/** The registry behind `createMetrics`, for the generated documentation and its test. */
export function createRegistry(source: MetricsSource): Registry {
  const registry = new Registry();
  for (const declaration of DECLARATIONS) {
    // prom-client only asks a metric for its name and its values; its own classes would copy each number twice.
    registry.registerMetric(new PlainMetric(declaration, source) as unknown as Metric);
  }
  for (const metric of processMetrics()) registry.registerMetric(metric);
  return registry;
}

class PlainMetric {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  readonly labelNames: readonly string[];
  readonly aggregator = 'sum';
  readonly #declaration: Declaration;
  readonly #source: MetricsSource;

  constructor(declaration: Declaration, source: MetricsSource) {
    this.name = declaration.name;
    this.help = declaration.help;
    this.type = declaration.type;
    this.labelNames = declaration.labels;
    this.#declaration = declaration;
    this.#source = source;
  }

  get(): Promise<object> {
    const { name, help, type, aggregator } = this;
    const values = this.#declaration
      .read(this.#source)
      .map(({ labels, value, suffix = '' }) => ({ labels, value, metricName: name + suffix }));
    return Promise.resolve({ name, help, type, aggregator, values });
  }
}

let metricsOfProcess: readonly Metric[] | undefined;

/** One set for the whole process, however many brokers it embeds: each set would watch the event loop by itself. */
function processMetrics(): readonly Metric[] {
  if (metricsOfProcess === undefined) {
    const all = new Registry();
    collectDefaultMetrics({ register: all, eventLoopMonitoringPrecision: 20 });
    const wanted = PROCESS_METRICS.map((name) => all.getSingleMetric(name));
    const openFds = new Gauge({
      name: 'process_open_fds',
      help: 'Number of open file descriptors.',
      registers: [],
      async collect() {
        try {
          this.set((await readdir('/proc/self/fd')).length);
        } catch {
          this.reset(); // no /proc on this system
        }
      },
    });
    metricsOfProcess = [openFds, ...wanted.filter((metric) => metric !== undefined)];
  }
  return metricsOfProcess;
}

function level(
  name: string,
  help: string,
  read: (levels: NodeLevels) => number | undefined,
): Declaration {
  return {
    ...{ name, help, type: 'gauge', labels: [] },
    read: (source) => {
      const value = read(source.levels());
      return value === undefined ? [] : single(value);
    },
  };
}

function perListener(
  counters: Counters,
  read: (of: ReturnType<Counters['listener']>) => number,
): Sample[] {
  return [...counters.listeners].map(([listener, of]) => ({
    labels: { listener },
    value: read(of),
  }));
}

function perPacketType(counts: readonly number[]): Sample[] {
  return PACKET_TYPES.map((type, index) => ({ labels: { type }, value: counts[index + 1]! }));
}

function perQos(counts: readonly number[]): Sample[] {
  return [0, 1, 2].map((qos) => ({ labels: { qos }, value: counts[qos]! }));
}
