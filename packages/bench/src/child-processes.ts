import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';

import { onExit } from './exit-cleanup.ts';

const STOP_MS_MAX = 3_000;
const OUTPUT_CHARS_MAX = 4_000;

/** A process that was started here and is stopped here. */
export interface StartedProcess {
  readonly pid: number;
  /** The end of what it printed, for error messages. */
  readonly output: () => string;
  /** Rejects when the process ends by itself; never resolves. */
  readonly ended: Promise<never>;
  /** Asks it to end, and makes it after three seconds. */
  readonly stop: () => Promise<void>;
}

/** Starts a process, collects its output, and registers it to be stopped with this one. */
export async function startProcess(
  command: string,
  args: readonly string[],
): Promise<StartedProcess> {
  // Settings of Shoal in the environment are not meant for a broker that is measured.
  const env = Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !name.startsWith('SHOAL_')),
  );
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], env });
  let output = '';
  const collect = (chunk: Buffer): void => {
    output = (output + chunk.toString()).slice(-OUTPUT_CHARS_MAX);
  };
  child.stdout.on('data', collect);
  child.stderr.on('data', collect);
  const ended = new Promise<never>((_resolve, reject) => {
    child.once('error', reject);
    child.once('exit', (code, signal) => {
      reject(new Error(`${command} ended (${String(signal ?? code)})\n${output}`));
    });
  });
  ended.catch(() => undefined);
  track(child);
  await Promise.race([new Promise((resolve) => child.once('spawn', resolve)), ended]);
  return {
    pid: child.pid ?? 0,
    output: () => output,
    ended,
    stop: () => stopChild(child),
  };
}

/** Registers a child to be killed when this process ends. */
export function track(child: ChildProcess): void {
  child.once(
    'exit',
    onExit(() => child.kill('SIGKILL')),
  );
}

/** Ends a child with SIGTERM, then SIGKILL; resolves when it is gone. */
export async function stopChild(child: ChildProcess): Promise<void> {
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  const gone = new Promise((resolve) => child.once('exit', resolve));
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
  await gone;
  clearTimeout(timer);
}
