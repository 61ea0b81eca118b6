import { readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';

import { startProcess } from '../child-processes.ts';
import type { StartedProcess } from '../child-processes.ts';
import { IN_MEMORY, ON_PRIMARY } from './broker-driver.ts';
import type { BrokerDriver, RunningNode } from './broker-driver.ts';
import { accepting, freePort } from './ports.ts';
import { missingRedis, startRedis } from './redis.ts';

/** Aedes from npm in a process of its own; see `aedes-server.ts` for its settings. */
export function aedes(): BrokerDriver {
  return {
    name: 'aedes',
    durability: IN_MEMORY,
    missing: () => missingPackage(['aedes']),
    version: () => describeVersion('aedes'),
    async start() {
      const { started, ...node } = await startNode([]);
      return { nodes: [node], stop: started.stop };
    },
  };
}

/** Nodes of aedes with `aedes-persistence-redis` and `mqemitter-redis`, which share a Redis of their own. */
export function aedesRedis(options: {
  readonly name: string;
  readonly nodes: number;
}): BrokerDriver {
  return {
    name: options.name,
    durability: ON_PRIMARY,
    missing: () =>
      missingPackage(['aedes', 'aedes-persistence-redis', 'mqemitter-redis']) ?? missingRedis(),
    version: async () => {
      const [broker, store] = await Promise.all(
        ['aedes', 'aedes-persistence-redis'].map(describeVersion),
      );
      return `${broker ?? ''} on aedes-persistence-redis ${store ?? ''}`;
    },
    async start() {
      const redis = await startRedis();
      const processes: StartedProcess[] = [];
      const stop = async (): Promise<void> => {
        await Promise.all(processes.map((each) => each.stop()));
        await redis.stop();
      };
      const add = async (): Promise<RunningNode> => {
        const { started, ...node } = await startNode([String(redis.port)]);
        processes.push(started);
        return node;
      };
      try {
        const first = await add();
        const others: RunningNode[] = [];
        while (others.length + 1 < options.nodes) others.push(await add());
        return { nodes: [first, ...others], redis, stop };
      } catch (error) {
        await stop();
        throw error;
      }
    },
  };
}

async function startNode(
  args: readonly string[],
): Promise<RunningNode & { readonly started: StartedProcess }> {
  const port = await freePort();
  const script = fileURLToPath(new URL('./aedes-server.js', import.meta.url));
  const started = await startProcess(process.execPath, [script, String(port), ...args]);
  try {
    await accepting(port, started);
  } catch (error) {
    await started.stop();
    throw error;
  }
  return { port, pid: started.pid, started };
}

function missingPackage(names: readonly string[]): string | undefined {
  const missing = names.find((name) => manifest(name) === undefined);
  return missing === undefined ? undefined : `the package ${missing} is not installed`;
}

async function describeVersion(name: string): Promise<string> {
  const path = manifest(name);
  if (path === undefined) return 'unknown version';
  const { version } = JSON.parse(await readFile(path, 'utf8')) as { version: string };
  return version;
}

function manifest(name: string): URL | undefined {
  try {
    return new URL('package.json', import.meta.resolve(name));
  } catch {
    return undefined;
  }
}
