import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import type { BrokerDriver } from './broker-driver.ts';
import { shoal } from './shoal.ts';

const WORKSPACE_SCOPE = '@shoalmq';

/**
 * Builds another commit of Shoal in a temporary worktree, for a comparison before and after.
 *
 * It uses the dependencies installed in this checkout, linked one by one, and its own packages.
 * `remove` deletes the worktree.
 */
export function prepareCommit(
  root: string,
  ref: string,
): { readonly driver: BrokerDriver; readonly remove: () => void } {
  const directory = mkdtempSync(join(tmpdir(), 'bench-shoal-'));
  const worktree = join(directory, 'shoal');
  const remove = (): void => {
    try {
      execFileSync('git', ['-C', root, 'worktree', 'remove', '--force', worktree]);
    } finally {
      rmSync(directory, { recursive: true, force: true });
    }
  };
  process.once('exit', () => {
    rmSync(directory, { recursive: true, force: true });
  });
  execFileSync('git', ['-C', root, 'worktree', 'add', '--detach', worktree, ref]);
  try {
    linkDependencies(root, worktree);
    execFileSync(process.execPath, [join(root, 'node_modules/.bin/tsc'), '-b', 'packages/broker'], {
      cwd: worktree,
      stdio: 'inherit',
    });
  } catch (error) {
    remove();
    throw error;
  }
  return { driver: shoal({ name: `shoal-${ref.replaceAll('/', '-')}`, root: worktree }), remove };
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
