import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createConnection } from 'node:net';
import { expect, test } from '@jest/globals';
import { ByteClient, SHOAL_MAIN, freePort } from '@shoalmq/testkit';

/** More log lines than a pipe of 64 KiB holds. */
const CLIENTS = 600;

test('a broker whose log nobody reads goes on, and ends on SIGTERM', async () => {
  const port = await freePort();
  const child = spawn(
    process.execPath,
    [SHOAL_MAIN, 'start', '--port', String(port), '--http-port', '0', '--log-level', 'debug'],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  );
  try {
    await accepting(port);
    for (let i = 0; i < CLIENTS; i++) {
      await using client = await ByteClient.connect(port, { clientId: `client ${String(i)}` });
      client.disconnect();
      await client.expectClose();
    }
    const exited = once(child, 'exit');
    child.kill('SIGTERM');
    expect(await exited).toEqual([0, null]);
  } finally {
    child.kill('SIGKILL');
  }
});

/** Resolves when something listens: what the broker says about it is not read here. */
async function accepting(port: number): Promise<void> {
  for (;;) {
    const socket = createConnection({ port, host: '127.0.0.1' });
    try {
      await once(socket, 'connect');
      return;
    } catch {
      await new Promise((resolve) => setImmediate(resolve));
    } finally {
      socket.destroy();
    }
  }
}
