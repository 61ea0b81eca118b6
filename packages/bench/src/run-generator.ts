import { fork } from 'node:child_process';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

import { stopChild, track } from './child-processes.ts';
import type { GeneratorReply } from './generator.ts';
import type { Measurement, Plan } from './measurement.ts';

/** Beyond warm-up and measuring: connecting, subscribing, storing, filling, draining. */
const OTHER_MS_MAX = 300_000;
const OWN_END_MS_MAX = 2_000;

/**
 * Carries out a plan in a generator process of its own.
 *
 * A fresh process per run: neither compiled code nor garbage of an earlier case is in its way.
 * @throws Error when the run fails or takes too long.
 */
export async function runGenerator(plan: Plan): Promise<Measurement> {
  const script = fileURLToPath(new URL('./generator.js', import.meta.url));
  // SHOAL_BENCH_NODE_ARGS lets one profile the generator: `--cpu-prof --cpu-prof-dir=...`.
  const execArgv = (process.env['SHOAL_BENCH_NODE_ARGS'] ?? '').split(' ').filter(Boolean);
  const child = fork(script, { execArgv, stdio: ['ignore', 'inherit', 'inherit', 'ipc'] });
  track(child);
  const ended = new Promise((resolve) => child.once('exit', resolve));
  let timer: NodeJS.Timeout | undefined;
  try {
    return await new Promise<Measurement>((resolve, reject) => {
      timer = setTimeout(
        () => {
          reject(new Error('the run took too long'));
        },
        plan.warmUpMs + plan.measureMs + OTHER_MS_MAX,
      );
      child.once('message', (reply: GeneratorReply) => {
        if ('measurement' in reply) resolve(restoreNaN(reply.measurement));
        else reject(new Error(reply.failure));
      });
      child.once('error', reject);
      child.once('exit', (code) => {
        reject(new Error(`the generator ended early (${String(code)})`));
      });
      child.send(plan);
    });
  } finally {
    clearTimeout(timer);
    // It ends by itself after its reply; in its own time, because it may have a profile to write.
    await Promise.race([ended, delay(OWN_END_MS_MAX)]);
    await stopChild(child);
  }
}

/** JSON, which the channel speaks, turns NaN into null. */
function restoreNaN(measurement: Measurement): Measurement {
  const entries = Object.entries(measurement as unknown as Record<string, unknown>);
  return Object.fromEntries(
    entries.map(([key, value]) => [key, value ?? Number.NaN]),
  ) as unknown as Measurement;
}
