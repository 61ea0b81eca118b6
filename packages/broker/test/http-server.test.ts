import { connect } from 'node:net';
import { afterEach, expect, test } from '@jest/globals';
import { startOpsServer } from '../src/ops/http-server.ts';
import type { Health, HealthSource, OpsServer, OpsServerOptions } from '../src/ops/http-server.ts';

const yes: Health = { ok: true, reason: 'fine' };
const no: Health = { ok: false, reason: 'waiting for the store' };

const servers: OpsServer[] = [];
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()));
});

async function start(health: Partial<HealthSource> = {}, options: Partial<OpsServerOptions> = {}) {
  const server = await startOpsServer({
    host: '127.0.0.1',
    port: 0,
    health: {
      isLive: () => yes,
      isReady: () => yes,
      isStarted: () => yes,
      isDraining: () => false,
      ...health,
    },
    metrics: { contentType: 'text/plain; version=0.0.4', text: () => Promise.resolve('a 1\n') },
    ...options,
  });
  servers.push(server);
  return server;
}

async function get({ port }: OpsServer, path: string, init: RequestInit = {}) {
  const response = await fetch(`http://127.0.0.1:${port}${path}`, init);
  return { status: response.status, body: await response.text(), headers: response.headers };
}

test.each([
  ['/livez', { isLive: () => no }],
  ['/readyz', { isReady: () => no }],
  ['/startupz', { isStarted: () => no }],
  ['/lb', { isReady: () => no }],
])('%s is 200 or 503, with the reason', async (path, bad) => {
  const well = await get(await start(), path);
  expect([well.status, JSON.parse(well.body)]).toEqual([200, { status: 'ok', reason: 'fine' }]);
  const ill = await get(await start(bad), path);
  expect([ill.status, JSON.parse(ill.body)]).toEqual([
    503,
    { status: 'unavailable', reason: 'waiting for the store' },
  ]);
});

test('/lb is 404 while draining, whatever readiness says, and liveness is untouched', async () => {
  const server = await start({ isReady: () => no, isDraining: () => true });
  expect((await get(server, '/lb')).status).toBe(404);
  expect((await get(server, '/livez')).status).toBe(200);
});

test('/metrics is the text of the registry', async () => {
  const { status, body, headers } = await get(await start(), '/metrics?x=y');
  expect([status, body]).toEqual([200, 'a 1\n']);
  expect(headers.get('content-type')).toBe('text/plain; version=0.0.4');
});

test('scrapes that overlap cost one', async () => {
  let scrapes = 0;
  const text = async () => {
    scrapes++;
    await new Promise(setImmediate);
    return 'b 2\n';
  };
  const server = await start({}, { metrics: { contentType: 'text/plain', text } });
  // Both requests are in one read: the second comes before the first can be answered.
  const request = 'GET /metrics HTTP/1.1\r\nHost: x\r\n';
  const answer = await raw(server, `${request}\r\n${request}Connection: close\r\n\r\n`);
  expect(answer.match(/b 2/g)).toHaveLength(2);
  expect(scrapes).toBe(1);
});

test('a scrape that fails is 500 and reported', async () => {
  const errors: unknown[] = [];
  const text = () => Promise.reject(new Error('secret detail'));
  const server = await start(
    {},
    { metrics: { contentType: 'text/plain', text }, onError: (error) => errors.push(error) },
  );
  const { status, body } = await get(server, '/metrics');
  expect([status, body]).toEqual([500, 'there is no answer\n']);
  expect(errors).toHaveLength(1);
  expect((await get(server, '/livez')).status).toBe(200);
});

test('HEAD is GET without a body', async () => {
  const { status, body } = await get(await start(), '/readyz', { method: 'HEAD' });
  expect([status, body]).toEqual([200, '']);
});

test('other methods, bodies and paths are refused', async () => {
  const server = await start();
  const post = await get(server, '/livez', { method: 'POST' });
  expect([post.status, post.headers.get('allow')]).toEqual([405, 'GET, HEAD']);
  expect((await get(server, '/')).status).toBe(404);
  expect((await get(server, '/metrics/../secrets')).status).toBe(404);
});

/** Sends bytes and resolves with everything that comes back until the server closes. */
function raw({ port }: OpsServer, bytes: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => socket.write(bytes));
    let answer = '';
    socket.setEncoding('latin1');
    socket.on('data', (chunk: string) => (answer += chunk));
    socket.on('error', reject);
    socket.on('close', () => {
      resolve(answer);
    });
  });
}

test('a GET that announces a body is refused and the connection closed', async () => {
  const server = await start();
  const get = 'GET /livez HTTP/1.1\r\nHost: x\r\n';
  expect(await raw(server, `${get}Content-Length: 5\r\n\r\nhello`)).toMatch(/^HTTP\/1.1 413 /);
  expect(await raw(server, `${get}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n`)).toMatch(
    /^HTTP\/1.1 413 /,
  );
});

test('what is not HTTP, or has too large a head, is answered 400 and closed', async () => {
  const server = await start();
  expect(await raw(server, '\x10\x0c\x00\x04MQTT\x04\x02\r\n\r\n')).toMatch(/^HTTP\/1.1 400 /);
  const huge = `GET / HTTP/1.1\r\nHost: x\r\nA: ${'a'.repeat(20_000)}\r\n\r\n`;
  expect(await raw(server, huge)).toMatch(/^HTTP\/1.1 4/);
});

test('a port that is taken is an error with its code', async () => {
  const { port } = await start();
  await expect(start({}, { port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
});

test('close ends connections that are open', async () => {
  const server = await start();
  const idle = raw(server, 'GET /livez HTTP/1.1\r\nHost: x\r\n\r\n');
  await get(server, '/livez');
  await server.close();
  expect(await idle.catch(() => 'reset')).toMatch(/^HTTP\/1.1 200|^reset$|^$/);
});
