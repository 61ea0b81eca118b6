import { nowUs } from '../clock.ts';
import type { Measurement, Plan } from '../measurement.ts';
import { readMachineBusyUs, readProcessUsage } from '../process-usage.ts';
import { sum } from '../statistics.ts';

/** CPU time and wall time that passed since `startUsageWindow`. */
export interface UsageWindow {
  readonly elapsedUs: number;
  /** Of all nodes together. */
  readonly brokerUserUs: number;
  readonly brokerSystemUs: number;
  /** Of the broker's Redis; NaN without one. */
  readonly redisUs: number;
  readonly generatorUs: number;
  /** Of all processes of the machine, these included. */
  readonly machineUs: number;
}

/** Starts to measure the broker's processes and this one; the returned function tells what passed. */
export function startUsageWindow({
  nodes,
  redis,
}: Pick<Plan, 'nodes' | 'redis'>): () => UsageWindow {
  const read = () => {
    const brokers = nodes.map(({ pid }) => readProcessUsage(pid));
    const ofRedis = redis === undefined ? undefined : readProcessUsage(redis.pid);
    return {
      brokerUserUs: sum(brokers.map(({ userUs }) => userUs)),
      brokerSystemUs: sum(brokers.map(({ systemUs }) => systemUs)),
      redisUs: ofRedis === undefined ? Number.NaN : ofRedis.userUs + ofRedis.systemUs,
      machineUs: readMachineBusyUs(),
    };
  };
  const before = read();
  const own = process.cpuUsage();
  const startUs = nowUs();
  return () => {
    const now = read();
    const ownUsed = process.cpuUsage(own);
    return {
      elapsedUs: nowUs() - startUs,
      brokerUserUs: now.brokerUserUs - before.brokerUserUs,
      brokerSystemUs: now.brokerSystemUs - before.brokerSystemUs,
      redisUs: now.redisUs - before.redisUs,
      generatorUs: ownUsed.user + ownUsed.system,
      machineUs: now.machineUs - before.machineUs,
    };
  };
}

/** The part of a measurement that follows from a usage window and a number of messages. */
export function perMessage(
  usage: UsageWindow,
  delivered: number,
): Pick<
  Measurement,
  | 'deliveredPerSecond'
  | 'brokerCpuUs'
  | 'brokerUserUs'
  | 'brokerSystemUs'
  | 'brokerCpuPercent'
  | 'redisCpuUs'
  | 'generatorCpuUs'
  | 'generatorCpuPercent'
  | 'otherCpuPercent'
> {
  const brokerUs = usage.brokerUserUs + usage.brokerSystemUs;
  const redisUs = Number.isNaN(usage.redisUs) ? 0 : usage.redisUs;
  return {
    deliveredPerSecond: (delivered / usage.elapsedUs) * 1e6,
    brokerCpuUs: brokerUs / delivered,
    brokerUserUs: usage.brokerUserUs / delivered,
    brokerSystemUs: usage.brokerSystemUs / delivered,
    brokerCpuPercent: (brokerUs / usage.elapsedUs) * 100,
    redisCpuUs: usage.redisUs / delivered,
    generatorCpuUs: usage.generatorUs / delivered,
    generatorCpuPercent: (usage.generatorUs / usage.elapsedUs) * 100,
    otherCpuPercent: Math.max(
      0,
      ((usage.machineUs - brokerUs - redisUs - usage.generatorUs) / usage.elapsedUs) * 100,
    ),
  };
}
