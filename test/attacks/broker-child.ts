import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ByteClient } from '@shoalmq/testkit';
import type { ByteClientOptions, ConnectFields } from '@shoalmq/testkit';

const MAIN = join(import.meta.dirname, '../../packages/broker/dist/main.js');

/** What the process says about itself. */
export interface Vitals {
  /** The longest time for which the event loop did not turn since the last look, in milliseconds. */
  readonly blockedMs: number;
  /** Bytes of heap and buffers in use after a collection. */
  readonly usedBytes: number;
}

/** Runs inside the broker's process: answers a line on SIGUSR2. */
const MONITOR = `
  import { monitorEventLoopDelay } from 'node:perf_hooks';
  const delay = monitorEventLoopDelay({ resolution: 1 });
  delay.enable();
  process.on('SIGUSR2', () => {
    const blockedMs = delay.max / 1e6;
    gc();
    gc();
    const { heapUsed, arrayBuffers } = process.memoryUsage();
    const line = JSON.stringify({ event: 'vitals', blockedMs, usedBytes: heapUsed + arrayBuffers });
    process.stdout.write(line + '\\n', () => setImmediate(() => delay.reset()));
  });
`;

interface LogLine {
  readonly event?: string;
  readonly [key: string]: unknown;
}

/** A real `shoal start` (needs a build), to be attacked where this process would get in the way. */
export class BrokerChild implements AsyncDisposable {
  /** Everything it printed, line by line, as it is. */
  readonly output: string[] = [];
  readonly #child: ChildProcess;
  readonly #waiting = new Set<{ event: string; resolve: (line: LogLine) => void }>();
  #port = 0;
  /** Of the operations port. */
  httpPort = 0;

  private constructor(child: ChildProcess) {
    this.#child = child;
    for (const stream of [child.stdout!, child.stderr!]) {
      createInterface({ input: stream }).on('line', (text) => {
        this.#onLine(text);
      });
    }
  }

  static async start(...settings: string[]): Promise<BrokerChild> {
    const monitor = `data:text/javascript,${encodeURIComponent(MONITOR)}`;
    const httpPort = await freePort();
    const argv = ['start', '--port', '0', '--http-port', String(httpPort), '--log-level', 'trace'];
    // Jest's options are not for the broker.
    const env = { ...process.env, NODE_OPTIONS: '' };
    const child = spawn(
      process.execPath,
      [
        '--expose-gc',
        '--import',
        monitor,
        MAIN,
        ...argv,
        ...settings.flatMap((each) => ['--set', each]),
      ],
      { stdio: ['ignore', 'pipe', 'pipe'], env },
    );
    const broker = new BrokerChild(child);
    const exited = once(child, 'exit').then(() => {
      throw new Error(`the broker did not start:\n${broker.output.join('\n')}`);
    });
    exited.catch(() => undefined);
    const { mqtt } = await Promise.race([broker.#line('broker.listening'), exited]);
    broker.#port = Number(String(mqtt).split(':').at(-1));
    broker.httpPort = httpPort;
    return broker;
  }

  get alive(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  client(fields: ConnectFields & ByteClientOptions = {}): Promise<ByteClient> {
    return ByteClient.connect(this.#port, { timeoutMs: 20_000, ...fields });
  }

  open(options: ByteClientOptions = {}): Promise<ByteClient> {
    return ByteClient.open(this.#port, { timeoutMs: 20_000, ...options });
  }

  /** Asks the process for its vitals; what is measured starts anew. */
  async vitals(): Promise<Vitals> {
    const answer = this.#line('vitals');
    this.#child.kill('SIGUSR2');
    return (await answer) as unknown as Vitals;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.alive) return;
    const exit = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await exit;
  }

  #line(event: string): Promise<LogLine> {
    return new Promise((resolve) => {
      this.#waiting.add({ event, resolve });
    });
  }

  #onLine(text: string): void {
    this.output.push(text);
    let line: LogLine;
    try {
      line = JSON.parse(text) as LogLine;
    } catch {
      return;
    }
    for (const waiting of this.#waiting) {
      if (waiting.event !== line.event) continue;
      this.#waiting.delete(waiting);
      waiting.resolve(line);
    }
  }
}

/** A port that nobody listens on now: 0 would turn the operations port off. */
async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}
