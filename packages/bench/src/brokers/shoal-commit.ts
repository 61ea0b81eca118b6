import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { BrokerDriver } from './broker-driver.ts';
import { onExit } from '../exit-cleanup.ts';
import { shoal } from './shoal.ts';

const WORKSPACE_SCOPE = '@shoalmq';

/**
 * Builds another commit of Shoal in a temporary worktree, for a comparison before and after.
 *
 * It uses the dependencies installed in this checkout, linked one by one, and its own packages.
 * The worktree is removed when this process ends.
 */
export function shoalCommit(root: string, ref: string): BrokerDriver {
  const directory = mkdtempSync(join(tmpdir(), 'bench-shoal-'));
  const worktree = join(directory, 'shoal');
  onExit(() => {
    rmSync(directory, { recursive: true, force: true });
    execFileSync('git', ['-C', root, 'worktree', 'prune']);
  });
  execFileSync('git', ['-C', root, 'worktree', 'add', '--quiet', '--detach', worktree, ref]);
  linkDependencies(root, worktree);
  execFileSync(process.execPath, [join(root, 'node_modules/.bin/tsc'), '-b', 'packages/broker'], {
    cwd: worktree,
    stdio: 'inherit',
  });
  return shoal({ name: `shoal-${ref.replaceAll('/', '-')}`, root: worktree });
}

function linkDependencies(root: string, worktree: string): void {
  const modules = join(worktree, 'node_modules');
  mkdirSync(join(modules, WORKSPACE_SCOPE), { recursive: true });
  for (const name of readdirSync(join(root, 'node_modules'))) {
    if (name === WORKSPACE_SCOPE) continue;
    symlinkSync(join(root, 'node_modules', name), join(modules, name));
  }
  for (const name of readdirSync(join(worktree, 'packages'))) {
    symlinkSync(join(worktree, 'packages', name), join(modules, WORKSPACE_SCOPE, name));
  }
}
