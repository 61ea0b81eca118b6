import { spawnSync } from 'node:child_process';

import { startProcess } from '../child-processes.ts';
import type { RunningRedis } from './broker-driver.ts';
import { accepting, freePort } from './ports.ts';

const BINARY = 'redis-server';

/** Why there can be no Redis here; undefined when there can. */
export function missingRedis(): string | undefined {
  const found = spawnSync(BINARY, ['--version'], { stdio: 'ignore' }).status === 0;
  return found ? undefined : `${BINARY} is missing: apt-get install redis-server`;
}

/** Starts a Redis of its own that writes nothing to disk. */
export async function startRedis(): Promise<RunningRedis & { readonly stop: () => Promise<void> }> {
  const port = await freePort();
  const started = await startProcess(BINARY, [
    ...['--port', String(port), '--bind', '127.0.0.1'],
    ...['--save', '', '--appendonly', 'no', '--maxmemory-policy', 'noeviction'],
    ...['--loglevel', 'warning'],
  ]);
  try {
    await accepting(port, started);
  } catch (error) {
    await started.stop();
    throw error;
  }
  return { port, pid: started.pid, stop: started.stop };
}
