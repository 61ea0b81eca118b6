import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { startProcess } from '../child-processes.ts';
import type { BrokerDriver } from './broker-driver.ts';
import { accepting, freePort } from './ports.ts';

/** Aedes from npm in a process of its own; see `aedes-server.ts` for its settings. */
export function aedes(): BrokerDriver {
  return {
    name: 'aedes',
    missing: () => (manifest() === undefined ? 'the package aedes is not installed' : undefined),
    version: describeVersion,
    async start() {
      const port = await freePort();
      const script = fileURLToPath(new URL('./aedes-server.js', import.meta.url));
      const started = await startProcess(process.execPath, [script, String(port)]);
      try {
        await accepting(port, started);
      } catch (error) {
        await started.stop();
        throw error;
      }
      return { port, pid: started.pid, stop: started.stop };
    },
  };
}

async function describeVersion(): Promise<string> {
  const path = manifest();
  if (path === undefined) return 'unknown version';
  const { version } = JSON.parse(await readFile(path, 'utf8')) as { version: string };
  return version;
}

function manifest(): URL | undefined {
  try {
    return new URL('package.json', import.meta.resolve('aedes'));
  } catch {
    return undefined;
  }
}
