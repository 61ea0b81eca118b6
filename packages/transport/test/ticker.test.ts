import { afterEach, expect, test } from '@jest/globals';
import { connect, createServer } from 'node:net';
import { once } from 'node:events';
import { type Ticker, startTicker } from '@shoalmq/transport';

let ticker: Ticker | undefined;
afterEach(() => ticker?.stop());

/** Blocks the event loop. */
function stall(durationMs: number): void {
  const untilMs = performance.now() + durationMs;
  while (performance.now() < untilMs);
}

test('ticks with a time that only grows, and stops', async () => {
  const times: number[] = [];
  await new Promise<void>((resolve) => {
    ticker = startTicker(1, (nowMs) => {
      times.push(nowMs);
      if (times.length === 5) resolve();
    });
  });
  ticker!.stop();
  expect(times).toEqual([...times].sort((a, b) => a - b));
  await new Promise((resolve) => setTimeout(resolve, 5));
  expect(times.length).toBe(5);
});

test('stops from within a tick', async () => {
  let ticks = 0;
  await new Promise<void>((resolve) => {
    ticker = startTicker(1, () => {
      ticks++;
      ticker!.stop();
      setTimeout(resolve, 5);
    });
  });
  expect(ticks).toBe(1);
});

test('after a stall the sockets are read before the tick, which says how late it is', async () => {
  const order: string[] = [];
  const server = createServer((socket) => socket.on('data', () => order.push('read')));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = connect((server.address() as { port: number }).port, '127.0.0.1');
  const [accepted] = await Promise.all([once(server, 'connection'), once(client, 'connect')]);
  const stalledMs = await new Promise<number>((resolve) => {
    ticker = startTicker(1, (_nowMs, late) => {
      if (late === 0) return;
      order.push('tick');
      resolve(late);
    });
    client.write('x');
    stall(250);
  });
  expect(order).toEqual(['read', 'tick']);
  expect(stalledMs).toBeGreaterThan(100);
  client.destroy();
  (accepted[0] as { destroy(): void }).destroy();
  server.close();
});
