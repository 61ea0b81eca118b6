import { execFileSync, spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { ByteClient, RedisProcess, SHOAL_MAIN, ShoalProcess, freePort } from '@shoalmq/testkit';

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'shoal-tls-'));
  makeAuthority('right');
  makeAuthority('wrong');
  issue('right', 'shoal');
  issue('wrong', 'stranger');
});
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const file = (name: string) => join(directory, name);
const openssl = (...args: string[]) => execFileSync('openssl', args, { stdio: 'ignore' });
const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];

function makeAuthority(name: string): void {
  const out = ['-keyout', file(`${name}.key`), '-out', file(`${name}.pem`)];
  openssl('req', '-x509', ...NEW_KEY, '-subj', `/CN=${name}`, '-days', '2', ...out);
}

function issue(authority: string, name: string): void {
  const request = file(`${name}.csr`);
  openssl(
    'req',
    ...NEW_KEY,
    '-subj',
    `/CN=${name}`,
    '-keyout',
    file(`${name}.key`),
    '-out',
    request,
  );
  writeFileSync(file(`${name}.ext`), 'subjectAltName=DNS:localhost,IP:127.0.0.1\n');
  openssl(
    ...['x509', '-req', '-in', request, '-CA', file(`${authority}.pem`), '-days', '2'],
    ...['-CAkey', file(`${authority}.key`), '-CAcreateserial'],
    ...['-extfile', file(`${name}.ext`), '-out', file(`${name}.pem`)],
  );
}

const peerTls = (authority: string, name: string) => [
  ...['--peer-tls-ca', file(`${authority}.pem`)],
  ...['--peer-tls-cert', file(`${name}.pem`), '--peer-tls-key', file(`${name}.key`)],
];

const clusterArgs = (id: string, url: string) => [
  ...['--node-id', id, '--redis', url, '--peer-port', '0'],
];

interface LogLine {
  readonly event: string;
  readonly [field: string]: unknown;
}

const linesOf = ({ lines }: { readonly lines: readonly string[] }) =>
  lines.map((line) => JSON.parse(line) as LogLine);

/** A node that is not let in: it never listens for clients. Resolves with its line about the link to node n1, when `seen`. */
async function refusedNode(
  args: readonly string[],
  seen: () => boolean = () => true,
): Promise<LogLine> {
  const ports = ['--port', '0', '--http-port', '0'];
  const child = spawn(process.execPath, [SHOAL_MAIN, 'start', ...ports, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: { ...process.env, NODE_OPTIONS: '' },
  });
  try {
    for await (const text of createInterface({ input: child.stdout })) {
      const line = JSON.parse(text) as LogLine;
      if (line.event === 'broker.listening') throw new Error('the node was let in');
      if (line.event === 'cluster.peer_down' && line['peerId'] === 'n1') {
        await until(seen);
        return line;
      }
    }
    throw new Error('the node ended');
  } finally {
    child.kill('SIGKILL');
  }
}

async function until(holds: () => boolean): Promise<void> {
  const giveUpMs = performance.now() + 20_000;
  while (!holds()) {
    if (performance.now() > giveUpMs) throw new Error('it did not happen in time');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('nodes with certificates of one authority form a cluster; others are refused, and both say so in one line', async () => {
  await using redis = await RedisProcess.start();
  const start = (id: string) =>
    ShoalProcess.start({ args: [...clusterArgs(id, redis.url), ...peerTls('right', 'shoal')] });
  await using one = await start('n1');
  await using two = await start('n2');
  await using subscriber = await ByteClient.connect(two.port);
  await using publisher = await ByteClient.connect(one.port);
  await subscriber.subscribe('a', { qos: 1 });
  publisher.publish({ topic: 'a', payload: 'over TLS', qos: 1 });
  await publisher.expectPacket('puback');
  await subscriber.expectPublish({ topic: 'a', payload: Buffer.from('over TLS') });

  const none = await refusedNode(clusterArgs('none', redis.url));
  expect(none['message']).toBeDefined();
  const wrong = await refusedNode([
    ...clusterArgs('wrong', redis.url),
    ...peerTls('wrong', 'stranger'),
  ]);
  expect(wrong['message']).toMatch(/certificate/);
  // It trusts the nodes, and they do not trust it.
  const stranger = await refusedNode([
    ...clusterArgs('stranger', redis.url),
    ...['--peer-tls-ca', file('right.pem')],
    ...['--peer-tls-cert', file('stranger.pem'), '--peer-tls-key', file('stranger.key')],
  ]);
  expect(stranger['message']).toBeDefined();

  const refusals = () =>
    linesOf(one).filter(({ event, level }) => event === 'cluster.refused' && level === 'warn');
  await until(() => refusals().length > 0);
  // All three come from one host, for one reason.
  expect(refusals()).toMatchObject([{ reason: 'handshake_failed', level: 'warn' }]);
  expect(refusals()[0]?.['msg']).toMatch(/no certificate, or not one of the authority/);
}, 60_000);

test('a certificate that stands for one node only is refused for another one', async () => {
  issue('right', 'n1');
  await using redis = await RedisProcess.start();
  const strict = ['--set', 'cluster.peerTlsIdentity=node'];
  const args = (id: string) => [
    ...clusterArgs(id, redis.url),
    ...peerTls('right', 'n1'),
    ...strict,
  ];
  await using one = await ShoalProcess.start({ args: args('n1') });
  const down = () => linesOf(one).find(({ event }) => event === 'cluster.peer_down');
  await refusedNode(args('n2'), () => down() !== undefined);
  expect(down()?.['message']).toMatch(/is not that of node n2/);
}, 60_000);

test('Redis over TLS with an ACL user and a key prefix', async () => {
  const tlsPort = await freePort();
  await using redis = await RedisProcess.start({
    args: [
      ...['--tls-port', String(tlsPort), '--tls-ca-cert-file', file('right.pem')],
      ...['--tls-cert-file', file('shoal.pem'), '--tls-key-file', file('shoal.key')],
    ],
  });
  await redis.command(
    'ACL',
    'SETUSER',
    'shoal',
    'on',
    '>s3cret',
    '~mine:*',
    '+@all',
    '-@admin',
    '-@dangerous',
    '+info',
  );
  const url = `rediss://shoal:s3cret@localhost:${String(tlsPort)}`;
  const tls = ['Ca=right.pem', 'Cert=shoal.pem', 'Key=shoal.key'].flatMap((each) => {
    const [name = '', path = ''] = each.split('=');
    return ['--set', `cluster.redisTls${name}=${file(path)}`];
  });
  const start = (id: string) =>
    ShoalProcess.start({
      args: [...clusterArgs(id, url), ...tls, '--set', 'cluster.keyPrefix=mine:'],
    });
  await using one = await start('n1');
  await using two = await start('n2');
  const persistent = { clientId: 'p', clean: false, properties: { sessionExpiryInterval: 60 } };
  await using before = await ByteClient.connect(one.port, persistent);
  await before.subscribe('a', { qos: 1 });
  await using publisher = await ByteClient.connect(one.port);
  publisher.publish({ topic: 'a', payload: 'kept', qos: 1, retain: true });
  await publisher.expectPacket('puback');
  await using after = await ByteClient.connect(two.port, persistent);
  expect(after.connack.sessionPresent).toBe(true);
  await after.expectPublish({ topic: 'a', payload: Buffer.from('kept') });

  const keys = (await redis.command('KEYS', '*'))
    .split('\r\n')
    .filter((line) => /[a-z]/.test(line));
  expect(keys.length).toBeGreaterThan(3);
  expect(keys.filter((key) => !key.startsWith('mine:'))).toEqual([]);
}, 60_000);
