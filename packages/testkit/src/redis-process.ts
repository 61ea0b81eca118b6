import { spawn, spawnSync } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const START_TIMEOUT_MS = 10_000;
const POLL_MS = 10;
const SLOTS = 16_384;
const PRIMARIES = 3;

/** Whether this machine has `redis-server`; tests that need it are skipped where it is absent. */
export function hasRedisServer(): boolean {
  return spawnSync('redis-server', ['--version'], { stdio: 'ignore' }).status === 0;
}

/** How a Redis is started. */
export interface RedisProcessOptions {
  /** More arguments, such as `['--appendonly', 'yes']`. Without any nothing is written to disk. */
  readonly args?: readonly string[];
  /** Lines of a configuration: then it is a Sentinel. */
  readonly sentinel?: readonly string[];
}

/** A `redis-server` of a test's own on 127.0.0.1, in a directory that goes with it. */
export class RedisProcess implements AsyncDisposable {
  readonly host = '127.0.0.1';
  readonly port: number;
  readonly #directory: string;
  readonly #args: readonly string[];
  readonly #isSentinel: boolean;
  #child: ChildProcess;

  private constructor(
    port: number,
    directory: string,
    { args = [], sentinel }: RedisProcessOptions,
  ) {
    this.port = port;
    this.#directory = directory;
    this.#args = args;
    this.#isSentinel = sentinel !== undefined;
    if (sentinel !== undefined) {
      const lines = [`port ${String(port)}`, `bind ${this.host}`, `dir ${directory}`, ...sentinel];
      writeFileSync(join(directory, 'sentinel.conf'), `${lines.join('\n')}\n`);
    }
    this.#child = this.#spawn();
  }

  /** Starts a server and waits until it answers. */
  static async start(options: RedisProcessOptions = {}): Promise<RedisProcess> {
    // A port that was free may be taken by somebody else before the server has it.
    for (let attempt = 1; ; attempt++) {
      const directory = mkdtempSync(join(tmpdir(), 'shoal-redis-'));
      const redis = new RedisProcess(await freePort(), directory, options);
      try {
        await redis.#answers();
        return redis;
      } catch (error) {
        await redis.stop();
        if (attempt === 3) throw error;
      }
    }
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get url(): string {
    return `redis://${this.host}:${String(this.port)}`;
  }

  /** Sends one command, with arguments that have no space in them, and resolves with the reply as it is on the wire. */
  async command(...args: readonly (string | number)[]): Promise<string> {
    return ask(this.port, args.map(String));
  }

  /** SIGKILL, and waits until the process is gone. What was on disk stays. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** SIGTERM, and waits until the process is gone: it writes to disk what it has to. */
  async terminate(): Promise<void> {
    await this.#end('SIGTERM');
  }

  /** SIGSTOP: the server answers nothing until `resume`. */
  pause(): void {
    this.#child.kill('SIGSTOP');
  }

  resume(): void {
    this.#child.kill('SIGCONT');
  }

  /** Starts the server again, on the same port and in the same directory, and waits until it answers. */
  async restart(): Promise<void> {
    await this.kill();
    this.#child = this.#spawn();
    await this.#answers();
  }

  /** Kills the server and removes its directory. */
  async stop(): Promise<void> {
    await this.kill();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const gone = new Promise((resolve) => this.#child.once('exit', resolve));
    this.#child.kill(signal);
    await gone;
  }

  #spawn(): ChildProcess {
    if (this.#isSentinel) {
      const sentinel = [join(this.#directory, 'sentinel.conf'), '--sentinel'];
      return spawn('redis-server', sentinel, { stdio: 'ignore' });
    }
    const args = [
      ...['--port', String(this.port), '--bind', this.host, '--dir', this.#directory],
      ...['--save', '', '--appendonly', 'no', '--maxmemory-policy', 'noeviction'],
      ...['--loglevel', 'warning', ...this.#args],
    ];
    return spawn('redis-server', args, { stdio: 'ignore' });
  }

  async #answers(): Promise<void> {
    await until(`redis-server on port ${String(this.port)} answers`, async () => {
      if (this.#child.exitCode !== null) throw new Error('redis-server ended');
      return (await this.command('PING').catch(() => '')) === '+PONG';
    });
  }
}

/** A primary with replicas that three Sentinels watch; its name is `main`. */
export class RedisSentinels implements AsyncDisposable {
  readonly servers: readonly RedisProcess[];
  readonly sentinels: readonly RedisProcess[];

  private constructor(servers: readonly RedisProcess[], sentinels: readonly RedisProcess[]) {
    this.servers = servers;
    this.sentinels = sentinels;
  }

  /** Starts everything and waits until the replicas have caught up and the Sentinels know each other. */
  static async start({
    args = [],
    replicas = 2,
  }: RedisProcessOptions & { readonly replicas?: number } = {}): Promise<RedisSentinels> {
    const primary = await RedisProcess.start({ args });
    const replicaArgs = ['--replicaof', `${primary.host} ${String(primary.port)}`, ...args];
    const copies = Array.from({ length: replicas }, () =>
      RedisProcess.start({ args: [...replicaArgs, '--repl-diskless-sync-delay', '0'] }),
    );
    const servers = [primary, ...(await Promise.all(copies))];
    const sentinel = [
      `sentinel monitor main ${primary.host} ${String(primary.port)} 2`,
      'sentinel down-after-milliseconds main 1000',
      'sentinel failover-timeout main 5000',
    ];
    const sentinels = await Promise.all([0, 1, 2].map(() => RedisProcess.start({ sentinel })));
    const group = new RedisSentinels(servers, sentinels);
    await until('the Sentinels know everybody', async () => {
      const infos = await Promise.all(sentinels.map((each) => each.command('INFO', 'sentinel')));
      return infos.every((info) => info.includes(`slaves=${String(replicas)},sentinels=3`));
    });
    await until('the replicas are in sync', async () => {
      const info = await primary.command('INFO', 'replication');
      return info.split('state=online').length - 1 === replicas;
    });
    return group;
  }

  get url(): string {
    const nodes = this.sentinels.map(({ host, port }) => `${host}:${String(port)}`);
    return `redis+sentinel://${nodes.join(',')}/main`;
  }

  /** The primary that the Sentinels name. */
  async primary(): Promise<RedisProcess> {
    const [sentinel] = this.sentinels as [RedisProcess];
    const reply = await sentinel.command('INFO', 'sentinel');
    const port = Number(/address=[^:]+:(\d+)/.exec(reply)?.[1]);
    return this.servers.find((server) => server.port === port) as RedisProcess;
  }

  async stop(): Promise<void> {
    await Promise.all([...this.sentinels, ...this.servers].map((each) => each.stop()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}

/** A Redis Cluster of three primaries, each with as many replicas. */
export class RedisCluster implements AsyncDisposable {
  readonly nodes: readonly RedisProcess[];

  private constructor(nodes: readonly RedisProcess[]) {
    this.nodes = nodes;
  }

  /**
   * Starts three servers and their replicas, shares the slots among the three and waits until each says that the cluster
   * works. The primaries are the first three of `nodes`; the replica of `nodes[i]` is `nodes[i + 3]`.
   */
  static async start({
    args = [],
    replicas = 0,
  }: RedisProcessOptions & { readonly replicas?: number } = {}): Promise<RedisCluster> {
    const clusterArgs = ['--cluster-enabled', 'yes', '--cluster-node-timeout', '2000', ...args];
    const count = PRIMARIES * (1 + replicas);
    const nodes = await Promise.all(
      Array.from({ length: count }, () => RedisProcess.start({ args: clusterArgs })),
    );
    const cluster = new RedisCluster(nodes);
    try {
      await cluster.#join();
    } catch (error) {
      await cluster.stop();
      throw error;
    }
    return cluster;
  }

  async stop(): Promise<void> {
    await Promise.all(this.nodes.map((node) => node.stop()));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  async #join(): Promise<void> {
    const [first] = this.nodes as [RedisProcess];
    const share = Math.ceil(SLOTS / PRIMARIES);
    for (const [index, node] of this.nodes.entries()) {
      const from = index * share;
      const to = Math.min(from + share, SLOTS) - 1;
      if (index < PRIMARIES) await node.command('CLUSTER', 'ADDSLOTSRANGE', from, to);
      await node.command('CLUSTER', 'SET-CONFIG-EPOCH', index + 1);
      if (node !== first) await node.command('CLUSTER', 'MEET', first.host, first.port);
    }
    await until('the cluster is complete', async () => {
      const infos = await Promise.all(this.nodes.map((node) => node.command('CLUSTER', 'INFO')));
      return infos.every(
        (info) =>
          info.includes('cluster_state:ok') &&
          info.includes(`cluster_known_nodes:${String(this.nodes.length)}`),
      );
    });
    for (const [index, replica] of this.nodes.entries()) {
      if (index < PRIMARIES) continue;
      const primary = this.nodes[index % PRIMARIES] as RedisProcess;
      const id = (await primary.command('CLUSTER', 'MYID')).split('\r\n')[1] ?? '';
      await until('the replica knows its primary', async () =>
        (await replica.command('CLUSTER', 'REPLICATE', id)).startsWith('+OK'),
      );
      await until('the replica is in sync', async () =>
        (await replica.command('INFO', 'replication')).includes('master_link_status:up'),
      );
    }
  }
}

/** Sends one command to a Redis on this machine and resolves with the reply, without its last line end. */
function ask(port: number, args: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port });
    let reply = '';
    const end = (error?: Error) => {
      socket.destroy();
      if (error === undefined) resolve(reply.slice(0, -2));
      else reject(error);
    };
    socket.setTimeout(START_TIMEOUT_MS, () => end(new Error('Redis did not answer')));
    socket.on('error', end);
    socket.on('close', () => end(new Error('Redis closed the connection')));
    socket.on('data', (data) => {
      reply += data.toString('latin1');
      if (isComplete(reply)) end();
    });
    const bytes = args.map((arg) => `$${String(Buffer.byteLength(arg))}\r\n${arg}\r\n`).join('');
    socket.write(`*${String(args.length)}\r\n${bytes}`);
  });
}

/** Whether the reply ended; arrays are taken to be complete when they end with a line. */
function isComplete(reply: string): boolean {
  if (!reply.endsWith('\r\n')) return false;
  if (!reply.startsWith('$')) return true;
  const head = reply.indexOf('\r\n') + 2;
  const bytes = Number(reply.slice(1, head - 2));
  return bytes < 0 || reply.length >= head + bytes + 2;
}

async function until(what: string, holds: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + START_TIMEOUT_MS;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

/** A port that nobody has, low enough that the cluster's second port (10,000 higher) exists. */
async function freePort(): Promise<number> {
  for (;;) {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const { port } = server.address() as AddressInfo;
    await new Promise((resolve) => server.close(resolve));
    if (port + 10_000 <= 65_535) return port;
  }
}
