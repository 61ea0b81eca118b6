import { spawn } from 'node:child_process';
import type { ChildProcessWithoutNullStreams } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

/** A child process that is read line by line. Disposing of it kills it. */
export class LineProcess implements AsyncDisposable {
  readonly #child: ChildProcessWithoutNullStreams;
  #errors = '';
  /** Resolves with the exit code, `null` after a signal, once all its output was read. */
  readonly ended: Promise<number | null>;

  /** `onLine` gets each line of standard output. */
  constructor(command: string, args: readonly string[], onLine: (line: string) => void) {
    // Options for the test runner are not meant for others.
    const child = spawn(command, args, { env: { ...process.env, NODE_OPTIONS: '' } });
    this.#child = child;
    createInterface({ input: child.stdout }).on('line', onLine);
    child.stderr.on('data', (chunk: Buffer) => {
      this.#errors += chunk.toString();
    });
    // What it did not read is its own affair.
    child.stdin.on('error', () => undefined);
    this.ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('close', resolve);
    });
    this.ended.catch(() => undefined);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** What it printed on standard error. */
  get errors(): string {
    return this.#errors;
  }

  write(line: string): void {
    this.#child.stdin.write(`${line}\n`);
  }

  async signal(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    if (child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'close');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.signal('SIGKILL');
  }
}

/** Runs a command to its end. @throws Error with what it printed when its exit code is not 0. */
export async function run(command: string, args: readonly string[], input = ''): Promise<string> {
  const lines: string[] = [];
  await using child = new LineProcess(command, args, (line) => lines.push(line));
  if (input !== '') child.write(input);
  const code = await child.ended;
  if (code !== 0) {
    throw new Error(`${command} ended with ${String(code)}: ${lines.join('\n')}${child.errors}`);
  }
  return lines.join('\n');
}
