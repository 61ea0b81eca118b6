import { get } from 'node:http';
import { RedisProcess } from '../redis-process.ts';
import type { RedisProcessOptions } from '../redis-process.ts';
import { ShoalProcess } from '../shoal-process.ts';
import { BalancerProcess } from './balancer-process.ts';
import { pollUntil } from './poll-until.ts';
import { reservedPorts } from './reserved-ports.ts';

/** What a cluster is made of. */
export interface ShoalClusterOptions {
  /** Nodes that are started: `n1`, `n2`, ...; three unless told. */
  readonly nodes?: number;
  /** Nodes that the balancer knows too and that `add` starts: `n4`, ...; none unless told. */
  readonly spareNodes?: number;
  /** HAProxy in front, with the settings of `deploy/haproxy/haproxy.cfg`. */
  readonly balancer?: boolean;
  /** A Redis of somebody else, as `--redis` takes it. Unless told the cluster starts and stops one of its own. */
  readonly redisUrl?: string;
  readonly redis?: RedisProcessOptions;
  /** More arguments of `shoal start`; a function when they differ from node to node. */
  readonly args?: readonly string[] | ((id: string) => readonly string[]);
}

interface Member {
  readonly id: string;
  readonly port: number;
  readonly httpPort: number;
  process: ShoalProcess | undefined;
}

/**
 * Shoal nodes as processes of their own, their Redis, and a balancer. A node keeps its ports when it is started again.
 * Disposing of the cluster kills everything that it started, paused or not.
 *
 * ```ts
 * await using cluster = await ShoalCluster.start({ nodes: 3, balancer: true });
 * await cluster.kill('n2');
 * await cluster.restart('n2');
 * ```
 */
export class ShoalCluster implements AsyncDisposable {
  /** The Redis of this cluster; `undefined` with `redisUrl`. */
  readonly redis: RedisProcess | undefined;
  readonly redisUrl: string;
  readonly #members: ReadonlyMap<string, Member>;
  readonly #argsOf: (id: string) => readonly string[];
  #balancer: BalancerProcess | undefined;

  private constructor(
    members: ReadonlyMap<string, Member>,
    redis: RedisProcess | undefined,
    redisUrl: string,
    argsOf: (id: string) => readonly string[],
  ) {
    this.#members = members;
    this.redis = redis;
    this.redisUrl = redisUrl;
    this.#argsOf = argsOf;
  }

  /** Resolves when every node is ready. */
  static async start(options: ShoalClusterOptions = {}): Promise<ShoalCluster> {
    const { nodes = 3, spareNodes = 0, balancer = false, args = [] } = options;
    const count = nodes + spareNodes;
    const ports = await reservedPorts(2 * count + 1);
    const members = new Map<string, Member>();
    for (let i = 0; i < count; i++) {
      const id = `n${String(i + 1)}`;
      members.set(id, {
        ...{ id, port: ports[2 * i]!, httpPort: ports[2 * i + 1]! },
        process: undefined,
      });
    }
    const redis =
      options.redisUrl === undefined ? await RedisProcess.start(options.redis) : undefined;
    const cluster = new ShoalCluster(
      members,
      redis,
      options.redisUrl ?? redis!.url,
      typeof args === 'function' ? args : () => args,
    );
    try {
      // All of them, so that none still starts after the others were ended.
      const ids = [...members.keys()].slice(0, nodes);
      const starts = await Promise.allSettled(ids.map((id) => cluster.add(id)));
      for (const start of starts) if (start.status === 'rejected') throw start.reason;
      if (balancer) {
        cluster.#balancer = await BalancerProcess.start(ports[2 * count]!, [...members.values()]);
      }
    } catch (error) {
      await cluster[Symbol.asyncDispose]();
      throw error;
    }
    return cluster;
  }

  /** Where clients connect: the balancer's port or, without one, the first running node's. */
  get port(): number {
    const port = this.#balancer?.port ?? this.ports[0];
    if (port === undefined) throw new Error('no node is running');
    return port;
  }

  /** The ids of the nodes that run, paused ones included. */
  get running(): readonly string[] {
    return [...this.#members.values()]
      .filter((member) => member.process?.running)
      .map(({ id }) => id);
  }

  /** The MQTT ports of the nodes that run. */
  get ports(): readonly number[] {
    return this.running.map((id) => this.portOf(id));
  }

  /** The MQTT port of a node, whether it runs or not. */
  portOf(id: string): number {
    return this.#member(id).port;
  }

  /** The process of a node: its ports, its pid, its log. The last one when it does not run any more. */
  node(id: string): ShoalProcess {
    const { process } = this.#member(id);
    if (process === undefined) throw new Error(`${id} was never started`);
    return process;
  }

  /** SIGKILL, and waits until it is gone. */
  async kill(id: string): Promise<void> {
    await this.node(id).kill();
  }

  /** SIGTERM, and waits until it is gone; SIGKILL after `msMax`. Resolves with the exit code, `null` when killed. */
  async stop(id: string, msMax = 60_000): Promise<number | null> {
    return this.node(id).stop(msMax);
  }

  /** SIGSTOP. */
  pause(id: string): void {
    this.node(id).pause();
  }

  /** SIGCONT. */
  resume(id: string): void {
    this.node(id).resume();
  }

  /** Starts a node that ended, with the ports it had, and waits until it is ready. */
  async restart(id: string): Promise<void> {
    await this.add(id);
  }

  /** Starts a node that does not run and waits until it is ready. */
  async add(id: string): Promise<ShoalProcess> {
    const member = this.#member(id);
    if (member.process?.running) throw new Error(`${id} runs`);
    const process = await ShoalProcess.start({
      port: member.port,
      httpPort: member.httpPort,
      args: ['--node-id', id, '--redis', this.redisUrl, '--peer-port', '0', ...this.#argsOf(id)],
    });
    member.process = process;
    await this.ready(id);
    return process;
  }

  /** Takes a node out as an operator does: SIGTERM. */
  async remove(id: string): Promise<void> {
    await this.stop(id);
  }

  /** Resolves when the node says on `/readyz` that it serves. */
  async ready(id: string): Promise<void> {
    const node = this.node(id);
    await pollUntil(
      `${id} is ready`,
      async () => {
        if (!node.running) throw new Error(`${id} ended:\n${node.lines.slice(-20).join('\n')}`);
        return (await statusOf(node.httpPort, '/readyz')) === 200;
      },
      { state: () => node.lines.slice(-20).join('\n') },
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#balancer?.stop();
    await Promise.all([...this.#members.values()].map(async ({ process }) => process?.kill()));
    await this.redis?.stop();
  }

  #member(id: string): Member {
    const member = this.#members.get(id);
    if (member === undefined) throw new Error(`the cluster has no node ${id}`);
    return member;
  }
}

/** The status of a GET, `undefined` when nobody answers. */
function statusOf(port: number, path: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const request = get({ host: '127.0.0.1', port, path, agent: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.on('error', () => resolve(undefined));
  });
}
