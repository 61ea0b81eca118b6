import { spawn } from 'node:child_process';
import type { ChildProcessByStdio } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { freePort } from './free-port.ts';

/** A node that is told to stop need not wait until balancers have noticed. */
const NO_BALANCER = { SHOAL_DRAIN__BALANCER_DELAY_SECONDS: '0' };

/** The `shoal` command as `tsc -b` leaves it. */
export const SHOAL_MAIN = fileURLToPath(new URL('../../broker/dist/main.js', import.meta.url));

const STOP_MS_MAX = 10_000;

export interface ShoalProcessOptions {
  /** TCP port for MQTT, so that a process started later can have it again; any free one unless told. */
  readonly port?: number;
  /** TCP port of the operations; any free one unless told. */
  readonly httpPort?: number;
  /** Arguments of `shoal start`, after those for the ports. */
  readonly args?: readonly string[];
  /** Over the environment of this process. */
  readonly env?: Readonly<Record<string, string>>;
}

/**
 * `shoal start` as a process of its own, on free ports of 127.0.0.1. Disposing of it stops it.
 *
 * ```ts
 * await using shoal = await ShoalProcess.start({ args: ['--set', 'sys.intervalSeconds=1'] });
 * ```
 */
export class ShoalProcess implements AsyncDisposable {
  readonly port: number;
  readonly httpPort: number;
  /** What it has printed on standard output: the log, a JSON object per line. */
  readonly lines: readonly string[];
  readonly #child: ChildProcessByStdio<null, Readable, Readable>;

  private constructor(
    child: ChildProcessByStdio<null, Readable, Readable>,
    lines: readonly string[],
    { port, httpPort }: { readonly port: number; readonly httpPort: number },
  ) {
    this.#child = child;
    this.lines = lines;
    this.port = port;
    this.httpPort = httpPort;
  }

  /**
   * Resolves when it listens.
   *
   * @throws Error with everything it printed, when it ends before.
   */
  static async start({
    port: wanted = 0,
    httpPort: wantedHttp,
    args = [],
    env = {},
  }: ShoalProcessOptions = {}): Promise<ShoalProcess> {
    const httpPort = wantedHttp ?? (await freePort());
    const child = spawn(
      process.execPath,
      [SHOAL_MAIN, 'start', '--port', String(wanted), '--http-port', String(httpPort), ...args],
      // Options of this process, such as those of a test runner, are not meant for the broker.
      {
        stdio: ['ignore', 'pipe', 'pipe'],
        env: { ...process.env, NODE_OPTIONS: '', ...NO_BALANCER, ...env },
      },
    );
    const lines: string[] = [];
    let errors = '';
    child.stderr.on('data', (chunk: Buffer) => {
      errors += chunk.toString();
    });
    const port = await new Promise<number>((resolve, reject) => {
      createInterface({ input: child.stdout }).on('line', (line) => {
        lines.push(line);
        const listening = listeningPort(line);
        if (listening !== undefined) resolve(listening);
      });
      child.once('error', reject);
      child.once('close', () => {
        reject(new Error(`shoal did not start: ${[...lines, errors].join('\n')}`));
      });
    });
    return new ShoalProcess(child, lines, { port, httpPort });
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** It was not ended by anybody yet. */
  get running(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /**
   * Ends it with SIGTERM, after `msMax` (ten seconds) with SIGKILL; resolves with its exit code, `null` when it was
   * killed.
   */
  async stop(msMax: number = STOP_MS_MAX): Promise<number | null> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), msMax);
    try {
      return await this.#end('SIGTERM');
    } finally {
      clearTimeout(timer);
    }
  }

  /** Ends it with SIGKILL, as a crash does. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGSTOP: it does nothing until `resume`, and its sockets stay open. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  /** SIGCONT. */
  resume(): void {
    this.#child.kill('SIGCONT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #end(signal: NodeJS.Signals): Promise<number | null> {
    const child = this.#child;
    if (this.running) {
      child.kill(signal);
      await once(child, 'exit');
    }
    return child.exitCode;
  }
}

/** The port in the log line that says where the broker listens. */
function listeningPort(line: string): number | undefined {
  if (!line.startsWith('{')) return undefined;
  const { event, mqtt } = JSON.parse(line) as { event?: unknown; mqtt?: unknown };
  if (event !== 'broker.listening' || typeof mqtt !== 'string') return undefined;
  return Number(mqtt.slice(mqtt.lastIndexOf(':') + 1));
}
