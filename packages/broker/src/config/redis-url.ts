import type { RedisOptions } from '@shoalmq/store-redis';

const MODES: Readonly<Record<string, { mode: RedisOptions['mode']; tls: boolean }>> = {
  redis: { mode: 'standalone', tls: false },
  rediss: { mode: 'standalone', tls: true },
  'redis+sentinel': { mode: 'sentinel', tls: false },
  'rediss+sentinel': { mode: 'sentinel', tls: true },
  'redis+cluster': { mode: 'cluster', tls: false },
  'rediss+cluster': { mode: 'cluster', tls: true },
};
const URL_FORM = /^([a-z+]+):\/\/(?:([^:@/]*)(?::([^@/]*))?@)?([^@/?#]+)(?:\/([^/?#]*))?$/;
const PORTS = { standalone: 6379, sentinel: 26_379, cluster: 6379 } as const;

/**
 * Reads where Redis is: `redis://[user[:password]@]host[:port][/database]`, `redis+sentinel://host[:port],.../name` and
 * `redis+cluster://host[:port],...`; with `rediss` instead of `redis` over TLS. `undefined` when it is none of these.
 */
export function parseRedisUrl(url: string): RedisOptions | undefined {
  const [, scheme = '', username = '', password = '', hosts = '', path = ''] =
    URL_FORM.exec(url) ?? [];
  const form = MODES[scheme];
  if (form === undefined) return undefined;
  const { mode, tls } = form;
  const nodes = hosts.split(',').map((host) => parseAddress(host, PORTS[mode]));
  if (nodes.some((node) => node === undefined)) return undefined;
  if (mode === 'standalone' && (nodes.length !== 1 || !/^\d*$/.test(path))) return undefined;
  if (mode === 'sentinel' && path === '') return undefined;
  if (mode === 'cluster' && path !== '') return undefined;
  try {
    return {
      mode,
      nodes: nodes.filter((node) => node !== undefined),
      ...(tls ? { tls: {} } : {}),
      ...(username === '' ? {} : { username: decodeURIComponent(username) }),
      ...(password === '' ? {} : { password: decodeURIComponent(password) }),
      ...(mode === 'sentinel' ? { sentinelName: decodeURIComponent(path) } : {}),
      ...(mode === 'standalone' && path !== '' ? { db: Number(path) } : {}),
    };
  } catch {
    // What follows a `%` is no byte.
    return undefined;
  }
}

function parseAddress(
  text: string,
  defaultPort: number,
): { host: string; port: number } | undefined {
  const [, host = '', port] = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]]+)(?::(\d{1,5}))?$/.exec(text) ?? [];
  if (host === '') return undefined;
  const number = port === undefined ? defaultPort : Number(port);
  if (number < 1 || number > 65_535) return undefined;
  return { host: host.replace(/^\[|\]$/g, ''), port: number };
}
