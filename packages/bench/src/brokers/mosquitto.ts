import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { startProcess } from '../child-processes.ts';
import type { BrokerDriver } from './broker-driver.ts';
import { accepting, freePort } from './ports.ts';

const BINARY = '/usr/sbin/mosquitto';

/**
 * Eclipse Mosquitto of the distribution, with settings in its favour.
 *
 * No log, no persistence, no `$SYS` topics; queues unbounded, so that it never has to drop. The
 * inflight window per subscriber stays at its default of 20 unless given (0 is unlimited).
 */
export function mosquitto(options: {
  readonly inflight?: number;
  readonly noDelay?: boolean;
}): BrokerDriver {
  return {
    name: 'mosquitto',
    missing: () =>
      existsSync(BINARY) ? undefined : `${BINARY} is missing: apt-get install mosquitto`,
    version: describeVersion,
    async start() {
      const port = await freePort();
      const directory = await mkdtemp(join(tmpdir(), 'bench-mosquitto-'));
      const removeDirectory = (): Promise<void> => rm(directory, { recursive: true, force: true });
      try {
        const file = join(directory, 'mosquitto.conf');
        await writeFile(file, settings(port, options));
        const started = await startProcess(BINARY, ['-c', file]);
        try {
          await accepting(port, started);
        } catch (error) {
          await started.stop();
          throw error;
        }
        return {
          port,
          pid: started.pid,
          stop: async () => {
            await started.stop();
            await removeDirectory();
          },
        };
      } catch (error) {
        await removeDirectory();
        throw error;
      }
    },
  };
}

function settings(
  port: number,
  options: { readonly inflight?: number; readonly noDelay?: boolean },
): string {
  const lines = [
    `listener ${String(port)} 127.0.0.1`,
    'allow_anonymous true',
    'persistence false',
    'log_type none',
    'sys_interval 0',
    'max_queued_messages 0',
  ];
  if (options.noDelay !== false) lines.push('set_tcp_nodelay true');
  if (options.inflight !== undefined) {
    lines.push(`max_inflight_messages ${String(options.inflight)}`);
  }
  return `${lines.join('\n')}\n`;
}

async function describeVersion(): Promise<string> {
  // `mosquitto -h` prints the version and exits with 3.
  const printed = await promisify(execFile)(BINARY, ['-h']).catch(
    (error: unknown) => error as { stdout?: string },
  );
  return /version (\S+)/.exec(printed.stdout ?? '')?.[1] ?? 'unknown version';
}
