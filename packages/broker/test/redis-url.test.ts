import { expect, test } from '@jest/globals';
import { ConfigError } from '../src/config/config-error.ts';
import { parseConfig } from '../src/config/load-config.ts';
import { parseRedisUrl } from '../src/config/redis-url.ts';

test.each([
  ['redis://here', { mode: 'standalone', nodes: [{ host: 'here', port: 6379 }] }],
  ['redis://[::1]:7000/3', { mode: 'standalone', nodes: [{ host: '::1', port: 7000 }], db: 3 }],
  [
    'rediss://shoal:p%40ss@here:1',
    {
      mode: 'standalone',
      nodes: [{ host: 'here', port: 1 }],
      tls: {},
      username: 'shoal',
      password: 'p@ss',
    },
  ],
  [
    'redis+sentinel://a,b:2/main',
    {
      mode: 'sentinel',
      nodes: [
        { host: 'a', port: 26_379 },
        { host: 'b', port: 2 },
      ],
      sentinelName: 'main',
    },
  ],
  [
    'redis+cluster://:secret@a,b',
    {
      mode: 'cluster',
      nodes: [
        { host: 'a', port: 6379 },
        { host: 'b', port: 6379 },
      ],
      password: 'secret',
    },
  ],
])('%s says where Redis is', (url, options) => {
  expect(parseRedisUrl(url)).toEqual(options);
});

test.each([
  '',
  'here:6379',
  'http://here',
  'redis://',
  'redis://a,b',
  'redis://a/name',
  'redis://a:99999',
  'redis://a:%zz@b',
  'redis+sentinel://a',
  'redis+cluster://a/1',
])('"%s" is not the URL of a Redis', (url) => {
  expect(parseRedisUrl(url)).toBeUndefined();
});

test('nodes that other machines can reach need a secret or TLS', () => {
  const cluster = { redis: 'redis://here', peerHost: '192.0.2.1' };
  expect(() => parseConfig({ cluster })).toThrow(ConfigError);
  expect(parseConfig({ cluster: { ...cluster, secret: 's' } }).cluster.secret).toBe('s');
  const tls = { peerTlsCert: 'c', peerTlsKey: 'k', peerTlsCa: 'a' };
  expect(parseConfig({ cluster: { ...cluster, ...tls } }).cluster.secret).toBe('');
});
