import { readFileSync } from 'node:fs';
import { expect, test } from '@jest/globals';
import { CLOSE_REASONS, Counters } from '@shoalmq/core';
import { ClusterCounters } from '@shoalmq/cluster';
import { RedisMetrics } from '@shoalmq/store-redis';
import type { ClusterMetrics } from '../src/telemetry/cluster-metrics.ts';
import { createMetrics } from '../src/telemetry/metrics.ts';
import type { NodeLevels } from '../src/telemetry/metrics.ts';
import { metricsDocument } from '../src/telemetry/metrics-document.ts';

const levels: NodeLevels = {
  sessionsConnected: 3,
  sessionsOffline: 4,
  subscriptions: 5,
  sharedGroups: 6,
  retainedMessages: 7,
  retainedBytes: 8,
  inflightMessages: 9,
  queuedMessages: 10,
  queuedBytes: 11,
  routes: { clean: 11, elsewhere: 13, persistent: 12 },
  state: 'serving',
  nodes: { joining: 0, serving: 1, draining: 0 },
  drainRemaining: 2,
  storeUp: true,
};

async function scrape(counters: Counters): Promise<string[]> {
  const metrics = createMetrics({
    counters,
    levels: () => levels,
    version: '0.1.0',
    commit: 'abc',
    configHash: '1234',
  });
  return (await metrics.text()).split('\n');
}

test('docs/metrics.md is what the registry has (npm run docs -w @shoalmq/broker)', () => {
  const path = new URL('../../../docs/metrics.md', import.meta.url);
  expect(readFileSync(path, 'utf8')).toBe(metricsDocument());
});

test('counters are read at the scrape', async () => {
  const counters = new Counters();
  counters.packetsReceived[3] = 5;
  counters.countPublishReceived(1, 100);
  counters.messagesDropped.queue_full = 2;
  counters.connect(5, 0x87);
  counters.connect(0, 0x84);
  counters.listener('mqtt').bytesSent = 77;
  counters.listener('mqtt').connected[4] = 2;
  counters.authResults.simple.rejected = 1;
  const lines = await scrape(counters);
  for (const line of [
    'mqtt_packets_received_total{type="publish"} 5',
    'mqtt_packets_received_total{type="connect"} 0',
    'mqtt_packets_sent_total{type="auth"} 0',
    'mqtt_publish_received_total{qos="1"} 1',
    'mqtt_publish_received_bytes_total 100',
    'mqtt_messages_dropped_total{reason="queue_full"} 2',
    'mqtt_connect_total{protocol_version="5.0",code="0x87"} 1',
    'mqtt_connect_total{protocol_version="unknown",code="0x84"} 1',
    'mqtt_bytes_sent_total{listener="mqtt"} 77',
    'mqtt_connections{listener="mqtt",protocol_version="3.1.1"} 2',
    'mqtt_auth_total{backend="simple",result="rejected"} 1',
    'mqtt_sessions{state="offline"} 4',
    'mqtt_subscriptions 5',
    'shoal_routes{kind="persistent"} 12',
    'shoal_cluster_nodes{state="serving"} 1',
    'shoal_drain_remaining_connections 2',
    'shoal_store_up 1',
    `shoal_build_info{version="0.1.0",commit="abc",node_version="${process.version}"} 1`,
    'shoal_config_hash_info{hash="1234"} 1',
  ]) {
    expect(lines).toContain(line);
  }
});

test('histograms are cumulative and in seconds', async () => {
  const counters = new Counters();
  for (const ms of [0.4, 3, 9_000]) counters.publishAckDuration.qos1.observe(ms);
  const lines = await scrape(counters);
  for (const line of [
    'mqtt_publish_ack_duration_seconds_bucket{qos="1",le="0.0005"} 1',
    'mqtt_publish_ack_duration_seconds_bucket{qos="1",le="0.0025"} 1',
    'mqtt_publish_ack_duration_seconds_bucket{qos="1",le="0.005"} 2',
    'mqtt_publish_ack_duration_seconds_bucket{qos="1",le="5"} 2',
    'mqtt_publish_ack_duration_seconds_bucket{qos="1",le="+Inf"} 3',
    'mqtt_publish_ack_duration_seconds_count{qos="1"} 3',
  ]) {
    expect(lines).toContain(line);
  }
  const [, sum] = lines
    .find((l) => l.startsWith('mqtt_publish_ack_duration_seconds_sum'))!
    .split(' ');
  expect(Number(sum)).toBeCloseTo(9.0034);
});

test('every metric has HELP and TYPE, and a counter ends in _total', async () => {
  const lines = await scrape(new Counters());
  const types = lines.filter((line) => line.startsWith('# TYPE'));
  expect(types.length).toBeGreaterThan(30);
  expect(lines.filter((line) => /^# HELP \S+ \S/.test(line))).toHaveLength(types.length);
  for (const line of types.filter((type) => type.endsWith(' counter'))) {
    expect(line).toMatch(/_total counter$/);
  }
});

test('a node has fewer than 1,500 series, whatever happened on it', async () => {
  const counters = new Counters();
  for (let listener = 0; listener < 16; listener++) counters.listener(`listener-${listener}`);
  for (const version of [0, 3, 4, 5] as const) {
    for (let code = 0x80; code <= 0xff; code++) counters.connect(version, code);
    counters.connect(version, 0);
  }
  const lines = await scrape(counters);
  expect(lines.filter((line) => line !== '' && !line.startsWith('#')).length).toBeLessThan(1_500);
});

test('every reason for which a connection ends has its series from the start', async () => {
  const lines = await scrape(new Counters());
  for (const reason of CLOSE_REASONS) {
    expect(lines).toContain(`mqtt_connections_closed_total{reason="${reason}"} 0`);
  }
});

function clusterOf(peers: number): ClusterMetrics {
  const counters = new ClusterCounters();
  counters.forwardsReceived = 5;
  counters.forwardsUnwanted = 1;
  counters.factsApplied = 7;
  counters.acknowledged.observe(2);
  counters.refused('handshake_failed');
  const store = new RedisMetrics();
  store.observe('claim-session', 1.5);
  store.failed('claim-session');
  const node = { incarnation: 'i', address: 'h:1', version: '0.1.0', state: 'serving' } as const;
  const links = Array.from({ length: peers }, (_, index) => ({
    ...{ ...node, id: `n${String(index + 2)}` },
    link: {
      state: 'up' as const,
      ...{ heard: true, bufferedBytes: 9, waiting: 8 },
      counters: {
        ...{ itemsSent: 1, framesSent: 2, bytesSent: 3, itemsDropped: 4, itemsLate: 5 },
        ...{ itemsMissed: 6, resets: 7 },
      },
    },
  }));
  const self = { ...node, id: 'n1', link: undefined };
  return {
    status: {
      ...{ nodes: [self, ...links], dead: [], valid: true, generation: 'g', routeLagMs: 250 },
    },
    counters,
    store,
    certificateExpirySeconds: 1_800_000_000,
  };
}

async function scrapeCluster(cluster: ClusterMetrics, over: Partial<NodeLevels> = {}) {
  const metrics = createMetrics({
    ...{ counters: new Counters(), version: '0.1.0', commit: '', configHash: '' },
    levels: () => ({ ...levels, ...over }),
    cluster: () => cluster,
  });
  return (await metrics.text()).split('\n');
}

test('a node of a cluster tells of its links, of what it forwards, of routes and of Redis', async () => {
  const lines = await scrapeCluster(clusterOf(1));
  for (const line of [
    'shoal_suspended 0',
    'shoal_route_lag_seconds 0.25',
    'shoal_routes{kind="elsewhere"} 13',
    'shoal_route_changes_total{direction="applied"} 7',
    'shoal_forwarded_messages_total{direction="received",result="wanted"} 4',
    'shoal_forwarded_messages_total{direction="received",result="unwanted"} 1',
    'shoal_peer_refused_total{reason="handshake_failed"} 1',
    'shoal_peer_connected{peer="n2"} 2',
    'shoal_peer_unacknowledged_bytes{peer="n2"} 9',
    'shoal_peer_unacknowledged_items{peer="n2"} 8',
    'shoal_peer_ack_duration_seconds_bucket{le="0.0025"} 1',
    'shoal_peer_lost_items_total{peer="n2",reason="late"} 5',
    'shoal_store_operation_duration_seconds_bucket{operation="claim-session",le="0.0025"} 1',
    'shoal_store_failed_calls_total{operation="claim-session"} 1',
    'shoal_tls_certificate_expiry_timestamp_seconds{listener="peer"} 1800000000',
  ]) {
    expect(lines).toContain(line);
  }
});

test('what no node of a cluster counts has no series, rather than 0', async () => {
  const lines = await scrapeCluster(clusterOf(0), {
    ...{ sessionsOffline: undefined, queuedMessages: undefined, queuedBytes: undefined },
    retainedBytes: undefined,
  });
  const series = lines.filter((line) => /^(mqtt_sessions|mqtt_queued|mqtt_retained)/.test(line));
  expect(series).toEqual(['mqtt_sessions{state="connected"} 3', 'mqtt_retained_messages 7']);
});

test('a node of a large cluster has fewer than 1,500 series', async () => {
  const cluster = clusterOf(256);
  for (let index = 0; index < 32; index++) {
    cluster.store.observe(`operation-${String(index)}`, 1);
    cluster.store.failed(`operation-${String(index)}`);
  }
  const lines = await scrapeCluster(cluster);
  expect(lines.filter((line) => line !== '' && !line.startsWith('#')).length).toBeLessThan(1_500);
});
