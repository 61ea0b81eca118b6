import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { expect, test } from '@jest/globals';
import { ByteClient, RedisProcess, SHOAL_MAIN } from '@shoalmq/testkit';
import type { ShoalProcess } from '@shoalmq/testkit';
import { startNodes } from './nodes.ts';

/** What `shoal cluster` prints about the cluster when that node is asked. */
async function shoalCluster(node: ShoalProcess, ...args: readonly string[]): Promise<string> {
  const url = `http://127.0.0.1:${String(node.httpPort)}`;
  const argv = [SHOAL_MAIN, 'cluster', ...args, '--url', url];
  const env = { ...process.env, NODE_OPTIONS: '' };
  const { stdout } = await promisify(execFile)(process.execPath, argv, { env });
  return stdout;
}

/** Asks again until it is so: what other nodes say of themselves comes with the next renewal of their leases. */
async function until(holds: () => Promise<boolean>): Promise<void> {
  const giveUpMs = performance.now() + 20_000;
  while (!(await holds())) {
    if (performance.now() > giveUpMs) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

const linesOf = ({ lines }: ShoalProcess) =>
  lines.map((line) => JSON.parse(line) as { event: string; [field: string]: unknown });

test('shoal cluster status and explain, on any node of a cluster', async () => {
  await using redis = await RedisProcess.start({ args: ['--maxmemory-policy', 'allkeys-lru'] });
  await using nodes = await startNodes(2, redis.url);
  const [one, two] = nodes.all as [ShoalProcess, ShoalProcess];
  const kept = { clientId: 'kept', clean: false, properties: { sessionExpiryInterval: 60 } };
  await using before = await ByteClient.connect(one.port, kept);
  await before.subscribe('a/#', { qos: 1 });
  await using member = await ByteClient.connect(one.port, { clientId: 'member' });
  await member.subscribe('$share/g/a/b', { qos: 1 });
  await using clean = await ByteClient.connect(two.port, { clientId: 'clean' });
  await clean.subscribe('+/b', { qos: 1 });

  for (const node of [one, two]) {
    const warnings = linesOf(node).filter(({ event }) => event === 'store.warning');
    expect(warnings).toMatchObject([
      { level: 'warn', msg: expect.stringContaining('maxmemory-policy is allkeys-lru') },
      { level: 'warn', msg: expect.stringContaining('appendonly is no and save is empty') },
    ]);
    expect(linesOf(node).find(({ event }) => event === 'store.ready')).toMatchObject({
      ...{ mode: 'standalone', durability: 'primary', redisVersion: expect.any(String) },
    });
  }

  await until(async () =>
    /^n1 +serving +\S+ +2 +\d\.\d s +up /m.test(await shoalCluster(two, 'status')),
  );
  const status = await shoalCluster(two, 'status');
  expect(status).toMatch(/^node n2, version \S+: ready$/m);
  expect(status).toMatch(/^state: in Redis \S+ \(standalone\), durability primary, up$/m);
  expect(status).toMatch(/^n2 +serving +\S+ +1 +\d\.\d s +this node /m);
  expect(status).toMatch(/^ {2}maxmemory-policy is allkeys-lru, not noeviction: /m);

  // Node n2 has not met this session yet: it asks Redis where it is.
  const explained = JSON.parse(await shoalCluster(two, 'explain', 'a/b', '--json')) as object;
  expect(explained).toMatchObject({
    ...{ node: 'n2', routeCount: 2, groupCount: 1, strategy: 'round-robin' },
    routes: expect.arrayContaining([
      expect.objectContaining({ filter: '+/b', clientId: 'clean', node: 'n2' }),
      expect.objectContaining({ filter: 'a/#', clientId: 'kept', persistent: true, node: 'n1' }),
    ]),
    groups: [{ filter: '$share/g/a/b', memberCount: 1, chosen: { node: 'n1' } }],
  });
  expect(await shoalCluster(one, 'explain', 'a/b')).toMatch(
    /^ {2}next: clean session member, QoS 1, on node n1$/m,
  );

  redis.pause();
  await until(async () => /^state: .* DOWN$/m.test(await shoalCluster(one, 'status')));
  expect(await shoalCluster(one, 'explain', 'a/b')).toMatch(/^a\/# +persistent session kept/m);
  redis.resume();
  await until(async () => /^state: .* up$/m.test(await shoalCluster(one, 'status')));

  await two.kill();
  await until(async () => !(await shoalCluster(one, 'status')).includes('n2'));
}, 60_000);

test('durability replicated: named in the log and in the status, with what is missing for it', async () => {
  await using redis = await RedisProcess.start();
  const { host, port } = redis;
  await using replica = await RedisProcess.start({
    args: ['--replicaof', host, String(port), '--appendonly', 'yes'],
  });
  await using nodes = await startNodes(1, redis.url, ['cluster.durability=replicated']);
  const [one] = nodes.all as [ShoalProcess];
  expect(linesOf(one).find(({ event }) => event === 'store.ready')).toMatchObject({
    ...{ durability: 'replicated', replicas: 1, level: 'info' },
  });
  const status = await shoalCluster(one, 'status');
  expect(status).toMatch(/^state: .*, durability replicated by 1, up$/m);
  expect(status).toMatch(/^ {2}min-replicas-to-write is 0: /m);

  const kept = { clientId: 'kept', clean: false, properties: { sessionExpiryInterval: 60 } };
  await using subscriber = await ByteClient.connect(one.port, kept);
  await subscriber.subscribe('a', { qos: 1 });
  await using publisher = await ByteClient.connect(one.port);
  publisher.publish({ topic: 'a', payload: 'x', qos: 1 });
  await publisher.expectPacket('puback');

  await replica.stop();
  await until(async () =>
    /^ {2}0 replicas are connected and 1 must confirm each write/m.test(
      await shoalCluster(one, 'status'),
    ),
  );
}, 60_000);

test('$SYS is of the node that is asked: neither stored in Redis nor overwritten by others', async () => {
  await using redis = await RedisProcess.start();
  await using nodes = await startNodes(2, redis.url, ['sys.intervalSeconds=1']);
  const [one, two] = nodes.all as [ShoalProcess, ShoalProcess];
  await using crowd = await ByteClient.connect(one.port);
  const connected = '$SYS/broker/clients/connected';
  const read = async (node: ShoalProcess) => {
    await using client = await ByteClient.connect(node.port);
    await client.subscribe(connected);
    return Number((await client.expectPublish({ topic: connected })).payload.toString());
  };
  // Each value is that of its own node whoever published last; the reader itself may be counted or not.
  await until(async () => (await read(one)) >= 1);
  for (let round = 0; round < 5; round++) {
    expect(await read(two)).toBeLessThanOrEqual(1);
    expect(await read(one)).toBeGreaterThanOrEqual(1);
  }
  await using watcher = await ByteClient.connect(two.port);
  await watcher.subscribe('$SYS/broker/uptime');
  let last = -1;
  for (let update = 0; update < 3; update++) {
    const { payload } = await watcher.expectPublish({ topic: '$SYS/broker/uptime' });
    const seconds = Number.parseInt(payload.toString(), 10);
    expect(seconds).toBeGreaterThanOrEqual(last);
    last = seconds;
  }
  expect(await redis.command('KEYS', '*:retained')).toBe('*0');
  crowd.sendPacket({ cmd: 'pingreq' });
  await crowd.expectPacket('pingresp');
}, 60_000);

/** The series of a node whose names begin so. */
async function seriesOf({ httpPort }: ShoalProcess, prefix: string): Promise<Map<string, number>> {
  const response = await fetch(`http://127.0.0.1:${String(httpPort)}/metrics`);
  const lines = (await response.text()).split('\n').filter((line) => line.startsWith(prefix));
  return new Map(
    lines.map((line) => {
      const space = line.lastIndexOf(' ');
      return [line.slice(0, space), Number(line.slice(space + 1))];
    }),
  );
}

test('nothing is sent to a node without a matching subscriber, and reconnects change no route', async () => {
  await using redis = await RedisProcess.start();
  await using nodes = await startNodes(3, redis.url, ['sys.intervalSeconds=1']);
  const [one, two, three] = nodes.all as [ShoalProcess, ShoalProcess, ShoalProcess];
  await using subscriber = await ByteClient.connect(two.port);
  await subscriber.subscribe('wanted/#', { qos: 1 });
  await using publisher = await ByteClient.connect(one.port);
  for (let index = 0; index < 50; index++) {
    const topic = index % 2 === 0 ? `wanted/${String(index)}` : `unwanted/${String(index)}`;
    publisher.publish({ topic, payload: 'x', qos: 1, retain: index < 2 });
    await publisher.expectPacket('puback');
  }
  const received = async (node: ShoalProcess) => [
    ...(await seriesOf(node, 'shoal_forwarded_messages_total{direction="received"')).values(),
  ];
  expect(await received(two)).toEqual([25, 0]);
  expect(await received(three)).toEqual([0, 0]);

  const kept = { clientId: 'kept', clean: false, properties: { sessionExpiryInterval: 60 } };
  const first = await ByteClient.connect(one.port, kept);
  await first.subscribe('wanted/1', { qos: 1 });
  await first[Symbol.asyncDispose]();
  const changes = async () => [
    ...(await seriesOf(one, 'shoal_route_changes_total{direction="written"')).values(),
    ...(await seriesOf(three, 'shoal_route_changes_total{direction="written"')).values(),
  ];
  const before = await changes();
  for (const node of [two, three, one, two]) {
    const again = await ByteClient.connect(node.port, kept);
    expect(again.connack.sessionPresent).toBe(true);
    await again[Symbol.asyncDispose]();
  }
  expect(await changes()).toEqual(before);

  for (const node of nodes.all) {
    const series = await seriesOf(node, '');
    // The same on all nodes, and nothing that none of them knows.
    expect(series.get('mqtt_retained_messages')).toBe(2);
    expect(series.get('shoal_routes{kind="persistent"}')).toBe(1);
    expect(series.has('mqtt_sessions{state="offline"}')).toBe(false);
    expect(series.has('mqtt_queued_messages')).toBe(false);
    expect(series.get('shoal_cluster_nodes{state="serving"}')).toBe(3);
    expect(series.get('shoal_suspended')).toBe(0);
    expect(series.get('shoal_route_lag_seconds')).toBeLessThan(5);
    const peers = [...series].filter(([name]) => name.startsWith('shoal_peer_connected'));
    expect(peers.map(([, links]) => links)).toEqual([2, 2]);
    expect(
      series.get('shoal_store_operation_duration_seconds_count{operation="renew-lease"}'),
    ).toBeGreaterThan(0);
  }
  expect((await seriesOf(two, 'shoal_routes{')).get('shoal_routes{kind="clean"}')).toBe(1);
  expect((await seriesOf(three, 'shoal_routes{')).get('shoal_routes{kind="elsewhere"}')).toBe(1);
  await until(async () => ((await seriesOf(three, '')).get('mqtt_retained_bytes') ?? 0) > 0);
}, 60_000);
