import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import type { SubscriptionsCase } from '../cases.ts';
import { onExit } from '../exit-cleanup.ts';
import type { SubscriptionFigures } from './subscription-figures.ts';

const TIMEOUT_MS = 300_000;

/**
 * Measures in a process of its own, whose heap holds nothing else.
 *
 * @throws Error when the process fails or takes too long.
 */
export async function runSubscriptions(each: SubscriptionsCase): Promise<SubscriptionFigures> {
  const script = fileURLToPath(new URL('./measure.js', import.meta.url));
  const args = ['--expose-gc', '--max-old-space-size=4096', script];
  const running = promisify(execFile)(
    process.execPath,
    [...args, String(each.subscriptions), ...each.otherFilters.map(String)],
    { timeout: TIMEOUT_MS },
  );
  const settled = onExit(() => running.child.kill('SIGKILL'));
  try {
    return JSON.parse((await running).stdout) as SubscriptionFigures;
  } finally {
    settled();
  }
}
