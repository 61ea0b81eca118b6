import { execFile } from 'node:child_process';
import { cpus } from 'node:os';
import { promisify } from 'node:util';

/**
 * Gives the last core to the generator and the others to the broker.
 *
 * Without it the scheduler now and then puts both on one core, where they gather more per turn and
 * save the wake-ups across cores; a broker's figures then differ by a third from run to run.
 * @throws Error when `taskset` is missing.
 */
export async function pinProcess(pid: number, role: 'broker' | 'generator'): Promise<void> {
  const last = cpus().length - 1;
  if (last === 0) return;
  const cores = role === 'generator' ? String(last) : `0-${String(last - 1)}`;
  await promisify(execFile)('taskset', ['-a', '-c', '-p', cores, String(pid)]);
}
