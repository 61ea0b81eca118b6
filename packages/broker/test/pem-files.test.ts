import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from '@jest/globals';
import { redisOptions } from '../src/backing.ts';
import { parseConfig } from '../src/config/load-config.ts';
import type { ConfigInput } from '../src/config/schema.ts';
import { createBroker } from '../src/create-broker.ts';

const directory = mkdtempSync(join(tmpdir(), 'shoal-pem-'));
afterAll(() => {
  rmSync(directory, { recursive: true });
});

const tls = (cluster: ConfigInput['cluster']) =>
  redisOptions(parseConfig({ cluster: { redis: 'rediss://h', ...cluster } }).cluster);

test.each<[string, string, RegExp]>([
  ['absent', '', /^cluster\.redisTlsCa: .*absent cannot be read \(ENOENT\)$/],
  ['empty', '', /^cluster\.redisTlsCa: .*empty is no certificate in PEM$/],
  [
    'garbage',
    '-----BEGIN CERTIFICATE-----\nAA\n',
    /^cluster\.redisTlsCa: .*garbage is no certificate in PEM$/,
  ],
])('a file of authorities that is %s is named with its setting', (name, text, problem) => {
  const path = join(directory, name);
  if (name !== 'absent') writeFileSync(path, text);
  expect(() => tls({ redisTlsCa: path })).toThrow(
    expect.objectContaining({ problems: [expect.stringMatching(problem)] }),
  );
});

test('a node whose certificate between nodes cannot be read does not start', async () => {
  const path = join(directory, 'no-such-file');
  const cluster = { redis: 'redis://127.0.0.1:1', peerTlsCert: path, peerTlsKey: path };
  await expect(
    createBroker({ config: { cluster: { ...cluster, peerTlsCa: path } } }),
  ).rejects.toMatchObject({ code: 'SHOAL_CONFIG_INVALID' });
});

test('durability and key prefix get to the store', () => {
  expect(tls({})).toMatchObject({ replicas: 0, keyPrefix: 'shoal:', tls: {} });
  expect(tls({ durability: 'replicated', replicas: 2, keyPrefix: 'x:' })).toMatchObject({
    replicas: 2,
    keyPrefix: 'x:',
  });
});
