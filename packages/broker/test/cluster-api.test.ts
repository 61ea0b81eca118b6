import { request } from 'node:http';
import { networkInterfaces } from 'node:os';
import { afterEach, expect, test } from '@jest/globals';
import type { ClusterOverview, RouteOverview } from '../src/cluster-overview.ts';
import { mainCommand } from '../src/cli/main-command.ts';
import { startOpsServer } from '../src/ops/http-server.ts';
import type { OpsServer, OpsServerOptions } from '../src/ops/http-server.ts';
import { FakeTerminal } from './fake-terminal.ts';

const overview: ClusterOverview = {
  node: {
    id: 'n1',
    version: '0.1.0',
    ready: false,
    problems: ['node n2 cannot be reached at h:1'],
  },
  store: {
    ...{ mode: 'standalone', durability: 'replicated', replicas: 2, up: true },
    servers: [
      {
        ...{ version: '7.0.15', connectedReplicas: 2, memoryBytes: 1, memoryBytesMax: 0 },
        ...{ evictionPolicy: 'allkeys-lru', appendOnly: true, appendFsync: 'everysec' },
        ...{ snapshots: false, minReplicas: 1, unknown: [] },
      },
    ],
  },
  nodes: [
    {
      ...{ id: 'n1', incarnation: 'i', state: 'serving', version: '0.1.0', address: 'h:7883' },
      ...{ connections: 12, routeLagMs: 120, link: undefined },
    },
    {
      ...{ id: 'n2', incarnation: 'j', state: 'joining', version: '0.0.9', address: 'h:1' },
      ...{ connections: undefined, routeLagMs: -1 },
      link: { state: 'incoming', unacknowledgedBytes: 0, waiting: 0 },
    },
  ],
  nodeCount: 3,
  dead: ['n0'],
  warnings: ['maxmemory-policy is allkeys-lru: \u001b[2Jgone'],
};

const route: RouteOverview = {
  ...{ topic: 'a/b', qos: 1, publisher: '', node: 'n1', retained: true },
  routeCount: 4,
  routes: [
    { filter: 'a/+', clientId: 'c', persistent: false, qos: 1, node: 'n1' },
    { filter: 'a/#', clientId: 'p', persistent: true, qos: 2, node: '' },
    { filter: '+/b', node: 'n2' },
  ],
  strategy: 'round-robin',
  groupCount: 1,
  groups: [
    {
      filter: '$share/g/a/b',
      memberCount: 1,
      chosen: { node: 'n2' },
      members: [{ node: 'n2' }],
    },
  ],
};

const servers: OpsServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function start(options: Partial<OpsServerOptions> = {}) {
  const fine = { ok: true, reason: 'fine' };
  const asked: unknown[] = [];
  const server = await startOpsServer({
    host: '127.0.0.1',
    port: 0,
    health: {
      isLive: () => fine,
      isReady: () => fine,
      isStarted: () => fine,
      isDraining: () => false,
    },
    metrics: { contentType: 'text/plain', text: () => Promise.resolve('') },
    cluster: () => ({
      status: () => Promise.resolve(overview),
      explain: (message, listMax) => {
        asked.push({ ...message, listMax });
        return Promise.resolve(route);
      },
    }),
    ...options,
  });
  servers.push(server);
  return { asked, url: `http://127.0.0.1:${String(server.port)}`, port: server.port };
}

async function run(...argv: string[]) {
  const terminal = new FakeTerminal();
  const code = await mainCommand(['cluster', ...argv], terminal);
  return { code, out: terminal.stdout.text, error: terminal.stderr.text };
}

test('shoal cluster status shows nodes, the store and warnings, and nothing that moves the cursor', async () => {
  const { url } = await start();
  const { code, out } = await run('status', '--url', url);
  expect(code).toBe(0);
  expect(out.split('\n')).toEqual([
    'node n1, version 0.1.0: not ready',
    '  node n2 cannot be reached at h:1',
    'state: in Redis 7.0.15 (standalone), durability replicated by 2, up',
    '',
    'NODE  STATE    VERSION  CONNECTIONS  ROUTE LAG  LINK       ADDRESS',
    'n1    serving  0.1.0    12           0.1 s      this node  h:7883',
    'n2    joining  0.0.9    ?            loading    incoming   h:1',
    '  ... and 1 more',
    '',
    'dead, not buried yet: n0',
    '',
    'warnings:',
    '  maxmemory-policy is allkeys-lru: \\u001b[2Jgone',
    '',
  ]);
});

test('shoal cluster explain shows who gets a message and whose turn it is', async () => {
  const { url, asked } = await start();
  const options = ['--qos', '2', '--client', 'c&d', '--limit', '5'];
  const { code, out } = await run('explain', 'a/b+c', '--url', url, ...options);
  expect(code).toBe(1);
  expect(out).toBe('');
  const plain = await run('explain', 'a/b', '--url', url, ...options);
  expect(asked).toEqual([{ topic: 'a/b', qos: 2, publisher: 'c&d', listMax: 5 }]);
  expect(plain.out.split('\n')).toEqual([
    'a/b at QoS 1, published on node n1: 4 subscriptions, 1 shared subscriptions; there is a retained message',
    '',
    'FILTER  WHO',
    'a/+     clean session c, QoS 1, on node n1',
    'a/#     persistent session p, QoS 2, not connected',
    '+/b     clean sessions of node n2',
    '  ... and 1 more',
    '',
    '$share/g/a/b: 1 members, round-robin',
    '  next: clean sessions of node n2',
    '  member: clean sessions of node n2',
    '',
  ]);
});

test('--json prints the answer as it is', async () => {
  const { url } = await start();
  expect(JSON.parse((await run('status', '--json', '--url', url)).out)).toEqual(
    JSON.parse(JSON.stringify(overview)),
  );
  expect(JSON.parse((await run('explain', 'a', '--json', '--url', url)).out)).toEqual(route);
});

test.each([
  [['explain', 'a/#'], 1, /says: topic: .*wildcard/],
  [['explain', 'a', '--qos', '3'], 1, /says: qos must be 0, 1 or 2/],
  [['explain', 'a', '--limit', '1001'], 1, /says: limit must be an integer from 1 to 1000/],
  [['explain'], 2, /usage is/],
  [['explain', 'a', 'b'], 2, /usage is/],
  [['status', 'a'], 2, /usage is/],
  [['bury'], 2, /usage is/],
  [['status', '--nope'], 2, /--nope/],
  [['status', '--url', 'nowhere'], 2, /--url: is not a URL/],
  [
    ['status', '--url', 'http://127.0.0.1:49151'],
    1,
    /no answer from http:\/\/127\.0\.0\.1:49151: ECONNREFUSED/,
  ],
])('shoal cluster %j says what is wrong', async (argv, code, error) => {
  const { url } = await start();
  const result = await run(...argv, ...(argv.includes('--url') ? [] : ['--url', url]));
  expect(result).toMatchObject({ code, out: '', error: expect.stringMatching(error) });
});

test('a node that has not joined its cluster says so', async () => {
  const { url } = await start({ cluster: () => undefined });
  expect((await run('status', '--url', url)).error).toMatch(/has not joined its cluster yet/);
});

/** A request with a Host header that `fetch` would not send. */
function statusWithHost(port: number, host: string, address = '127.0.0.1') {
  return new Promise<number | undefined>((resolve, reject) => {
    request(
      { host: address, port, path: '/api/v1/cluster/status', headers: { host } },
      (response) => {
        response.resume();
        resolve(response.statusCode);
      },
    )
      .on('error', reject)
      .end();
  });
}

test('a web page that has made this machine its server may not ask', async () => {
  const { port } = await start();
  for (const host of ['127.0.0.1', 'localhost:9883', '[::1]:1', '10.0.0.1']) {
    expect(await statusWithHost(port, host)).toBe(200);
  }
  for (const host of ['evil.example', 'localhost.evil.example:9883', '127.0.0.1.evil.example']) {
    expect(await statusWithHost(port, host)).toBe(403);
  }
});

test('other machines may ask only when http.remoteAdmin is set', async () => {
  const own = Object.values(networkInterfaces())
    .flatMap((addresses) => addresses ?? [])
    .find(({ family, internal }) => family === 'IPv4' && !internal)?.address;
  if (own === undefined) return; // a machine that has only itself
  const { port } = await start({ host: '0.0.0.0' });
  expect(await statusWithHost(port, own, own)).toBe(403);
  const open = await start({ host: '0.0.0.0', remoteAdmin: true });
  expect(await statusWithHost(open.port, 'shoal.example', own)).toBe(200);
});
