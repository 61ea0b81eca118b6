import type { RunningBroker } from './brokers/broker-driver.ts';
import { readMetric } from './load/node-metrics.ts';
import type { Measurement } from './measurement.ts';
import { readProcessUsage, readResidentBytes } from './process-usage.ts';

/** Bytes that a node uses which joins a cluster without routes. */
export async function measureEmptyNode({ join }: RunningBroker): Promise<number> {
  if (join === undefined) throw new Error('no node can join this broker');
  const node = await join();
  try {
    return await node.usedBytes();
  } finally {
    await node.stop();
  }
}

/**
 * Has a node join a cluster that has been filled, and adds what that took to `measurement`.
 *
 * @throws Error when the node is ready without having all routes.
 */
export async function measureJoin(
  { join, redis }: RunningBroker,
  filled: {
    readonly routes: number;
    readonly emptyBytes: number;
    readonly measurement: Measurement;
  },
): Promise<Measurement> {
  if (join === undefined) throw new Error('no node can join this broker');
  const { routes, emptyBytes, measurement } = filled;
  const redisBeforeUs = redis === undefined ? 0 : cpuUs(redis.pid);
  const node = await join();
  const joinCpuMs = cpuUs(node.pid) / 1000;
  const joinRedisMs = redis === undefined ? 0 : (cpuUs(redis.pid) - redisBeforeUs) / 1000;
  try {
    const known = await readMetric(node.httpPort, 'shoal_routes');
    if (known < routes) throw new Error(`the node is ready with ${String(known)} routes only`);
    const residentBytes = readResidentBytes(node.pid);
    const routeBytes = ((await node.usedBytes()) - emptyBytes) / routes;
    const times = { joinMs: node.readyMs, joinCpuMs, joinRedisMs };
    const figures = { ...measurement.figures, ...times, routeBytes };
    return { ...measurement, residentBytes, figures };
  } finally {
    await node.stop();
  }
}

function cpuUs(pid: number): number {
  const { userUs, systemUs } = readProcessUsage(pid);
  return userUs + systemUs;
}
