import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

import { startProcess } from '../child-processes.ts';
import type { StartedProcess } from '../child-processes.ts';
import { IN_MEMORY, ON_PRIMARY } from './broker-driver.ts';
import type { BrokerDriver, JoinedNode, RunningNode } from './broker-driver.ts';
import { accepting, freePort } from './ports.ts';
import { missingRedis, startRedis } from './redis.ts';

const READY_MS_MAX = 120_000;
const READY_POLL_MS = 20;
const MEMORY_MS_MAX = 60_000;

interface StartedNode extends RunningNode {
  readonly httpPort: number;
  readonly started: StartedProcess;
}

/** Shoal as built in the checkout at `root`, with its defaults and quiet logs. */
export function shoal(options: { readonly name: string; readonly root: string }): BrokerDriver {
  return {
    name: options.name,
    durability: IN_MEMORY,
    missing: () => missingBuild(options.root),
    version: () => describeCommit(options.root),
    async start() {
      const node = await startNode(options.root, []);
      return { nodes: [node], stop: node.started.stop };
    },
  };
}

/** Nodes of Shoal that share a Redis of their own, at durability `primary`. */
export function shoalCluster(options: {
  readonly name: string;
  readonly root: string;
  readonly nodes: number;
}): BrokerDriver {
  const { name, root } = options;
  return {
    name,
    durability: ON_PRIMARY,
    missing: () => missingBuild(root) ?? missingRedis(),
    version: () => describeCommit(root),
    async start() {
      const redis = await startRedis();
      const nodes: StartedNode[] = [];
      const stop = async (): Promise<void> => {
        await Promise.all(nodes.map(({ started }) => started.stop()));
        await redis.stop();
      };
      const add = async (nodeArgs: readonly string[]): Promise<StartedNode> => {
        const peerPort = await freePort();
        const args = [
          ...['--redis', `redis://127.0.0.1:${String(redis.port)}`],
          ...['--peer-port', String(peerPort), '--node-id', `n${String(nodes.length + 1)}`],
        ];
        const node = { ...(await startNode(root, args, nodeArgs)), peerPort };
        nodes.push(node);
        await ready(node);
        return node;
      };
      try {
        const first = await add([]);
        while (nodes.length < options.nodes) await add([]);
        return { nodes: [first, ...nodes.slice(1)], redis, join: () => joinNode(add), stop };
      } catch (error) {
        await stop();
        throw error;
      }
    },
  };
}

async function joinNode(
  add: (nodeArgs: readonly string[]) => Promise<StartedNode>,
): Promise<JoinedNode> {
  const beforeMs = performance.now();
  const reporter = fileURLToPath(new URL('./memory-reporter.js', import.meta.url));
  const node = await add(['--expose-gc', '--import', reporter]);
  return {
    ...node,
    readyMs: performance.now() - beforeMs,
    usedBytes: () => usedBytes(node.started),
    stop: node.started.stop,
  };
}

/** Asks the memory reporter in the process. */
async function usedBytes(started: StartedProcess): Promise<number> {
  process.kill(started.pid, 'SIGUSR2');
  const deadlineMs = performance.now() + MEMORY_MS_MAX;
  while (performance.now() < deadlineMs) {
    const match = /^used bytes (\d+)$/m.exec(started.output());
    if (match !== null) return Number(match[1]);
    await Promise.race([delay(READY_POLL_MS), started.ended]);
  }
  throw new Error('the node does not say how much memory it uses');
}

async function startNode(
  root: string,
  args: readonly string[],
  nodeArgs: readonly string[] = [],
): Promise<StartedNode> {
  const port = await freePort();
  const httpPort = await freePort();
  // SHOAL_BENCH_BROKER_ARGS lets one profile the broker: `--cpu-prof --cpu-prof-dir=...`.
  const profiling = (process.env['SHOAL_BENCH_BROKER_ARGS'] ?? '').split(' ').filter(Boolean);
  const started = await startProcess(process.execPath, [
    ...profiling,
    ...nodeArgs,
    mainOf(root),
    'start',
    ...['--port', String(port), '--http-port', String(httpPort), '--log-level', 'warn'],
    ...args,
  ]);
  try {
    await accepting(port, started, READY_MS_MAX);
  } catch (error) {
    await started.stop();
    throw error;
  }
  return { port, httpPort, pid: started.pid, started };
}

/** Resolves when the node says that it serves. */
async function ready({ httpPort, started }: StartedNode): Promise<void> {
  const deadlineMs = performance.now() + READY_MS_MAX;
  while (performance.now() < deadlineMs) {
    const url = `http://127.0.0.1:${String(httpPort)}/readyz`;
    const status = await fetch(url).then(
      (response) => response.status,
      () => 0,
    );
    if (status === 200) return;
    await Promise.race([delay(READY_POLL_MS), started.ended]);
  }
  throw new Error(`the node is not ready\n${started.output()}`);
}

function mainOf(root: string): string {
  return join(root, 'packages/broker/dist/main.js');
}

function missingBuild(root: string): string | undefined {
  return existsSync(mainOf(root)) ? undefined : 'packages/broker/dist/main.js is not built';
}

async function describeCommit(root: string): Promise<string> {
  const git = promisify(execFile);
  try {
    const head = await git('git', ['-C', root, 'rev-parse', '--short', 'HEAD']);
    const status = await git('git', [
      '-C',
      root,
      'status',
      '--porcelain',
      '--untracked-files=no',
      '--',
      'packages',
    ]);
    return head.stdout.trim() + (status.stdout === '' ? '' : ' with local changes');
  } catch {
    return 'unknown commit';
  }
}
