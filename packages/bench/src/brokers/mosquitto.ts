import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { startProcess } from '../child-processes.ts';
import { onExit } from '../exit-cleanup.ts';
import { IN_MEMORY } from './broker-driver.ts';
import type { BrokerDriver } from './broker-driver.ts';
import { accepting, freePort } from './ports.ts';

const BINARY = '/usr/sbin/mosquitto';

/**
 * Eclipse Mosquitto of the distribution, with settings in its favour.
 *
 * - No log, no persistence, no `$SYS` topics.
 * - `max_queued_messages 0`: queues are unbounded, so that it never has to drop.
 * - `max_inflight_messages`, `inflight` here, is to be the generator's window. With the default of 20
 *   it resets publishers that have more than 20 QoS 2 messages in flight, and fan-in at QoS 1 cost it
 *   a tenth more; in the other cases there was no difference.
 * - `set_tcp_nodelay true`: no difference in CPU, and it spares it delays when it has little to send.
 */
export function mosquitto(options: { readonly inflight: number }): BrokerDriver {
  return {
    name: 'mosquitto',
    durability: IN_MEMORY,
    missing: () =>
      existsSync(BINARY) ? undefined : `${BINARY} is missing: apt-get install mosquitto`,
    version: describeVersion,
    async start() {
      const port = await freePort();
      const directory = mkdtempSync(join(tmpdir(), 'bench-mosquitto-'));
      const remove = (): void => {
        rmSync(directory, { recursive: true, force: true });
      };
      const forget = onExit(remove);
      try {
        const file = join(directory, 'mosquitto.conf');
        writeFileSync(file, settings(port, options.inflight));
        const started = await startProcess(BINARY, ['-c', file]);
        try {
          await accepting(port, started);
        } catch (error) {
          await started.stop();
          throw error;
        }
        return {
          nodes: [{ port, pid: started.pid }],
          stop: async () => {
            await started.stop();
            remove();
            forget();
          },
        };
      } catch (error) {
        remove();
        forget();
        throw error;
      }
    },
  };
}

function settings(port: number, inflight: number): string {
  return [
    `listener ${String(port)} 127.0.0.1`,
    'allow_anonymous true',
    'persistence false',
    'log_type none',
    'sys_interval 0',
    'set_tcp_nodelay true',
    'max_queued_messages 0',
    `max_inflight_messages ${String(inflight)}`,
    '',
  ].join('\n');
}

async function describeVersion(): Promise<string> {
  // `mosquitto -h` prints the version and exits with 3.
  const printed = await promisify(execFile)(BINARY, ['-h']).catch(
    (error: unknown) => error as { stdout?: string },
  );
  return /version (\S+)/.exec(printed.stdout ?? '')?.[1] ?? 'unknown version';
}
