import { connect, createServer } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

import type { StartedProcess } from '../child-processes.ts';

const START_MS_MAX = 15_000;
const RETRY_MS = 50;

/** A port of 127.0.0.1 that was free a moment ago. */
export function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once('error', reject);
    server.listen(0, '127.0.0.1', () => {
      const address = server.address();
      server.close(() => {
        if (address === null || typeof address === 'string') reject(new Error('no port'));
        else resolve(address.port);
      });
    });
  });
}

/** Resolves when the port accepts connections; rejects when the process ends or is too slow. */
export async function accepting(
  port: number,
  started: StartedProcess,
  startMsMax = START_MS_MAX,
): Promise<void> {
  const deadlineMs = performance.now() + startMsMax;
  while (performance.now() < deadlineMs) {
    if (await Promise.race([accepts(port), started.ended])) return;
    await Promise.race([delay(RETRY_MS), started.ended]);
  }
  throw new Error(`nothing listens on port ${String(port)}\n${started.output()}`);
}

function accepts(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port });
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => {
      resolve(false);
    });
  });
}
