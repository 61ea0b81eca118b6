import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';

import { startProcess } from '../child-processes.ts';
import type { BrokerDriver } from './broker-driver.ts';
import { accepting, freePort } from './ports.ts';

/** Shoal as built in the checkout at `root`, with its defaults and quiet logs. */
export function shoal(options: { readonly name: string; readonly root: string }): BrokerDriver {
  const main = join(options.root, 'packages/broker/dist/main.js');
  return {
    name: options.name,
    missing: () => (existsSync(main) ? undefined : 'packages/broker/dist/main.js is not built'),
    version: () => describeCommit(options.root),
    async start() {
      const port = await freePort();
      const started = await startProcess(process.execPath, [
        main,
        'start',
        '--port',
        String(port),
        '--http-port',
        '0',
        '--log-level',
        'warn',
      ]);
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

async function describeCommit(root: string): Promise<string> {
  const git = promisify(execFile);
  try {
    const head = await git('git', ['-C', root, 'rev-parse', '--short', 'HEAD']);
    const status = await git('git', [
      '-C',
      root,
      'status',
      '--porcelain',
      '--untracked-files=no',
      '--',
      'packages',
    ]);
    return head.stdout.trim() + (status.stdout === '' ? '' : ' with local changes');
  } catch {
    return 'unknown commit';
  }
}
