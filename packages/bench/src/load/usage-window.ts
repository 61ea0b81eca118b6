import { nowUs } from '../clock.ts';
import { readProcessUsage } from '../process-usage.ts';

/** CPU time and wall time that passed since `startUsageWindow`. */
export interface UsageWindow {
  readonly elapsedUs: number;
  readonly brokerUserUs: number;
  readonly brokerSystemUs: number;
  readonly generatorUs: number;
}

/** Starts to measure the broker process and this one; the returned function tells what passed. */
export function startUsageWindow(brokerPid: number): () => UsageWindow {
  const broker = readProcessUsage(brokerPid);
  const own = process.cpuUsage();
  const startUs = nowUs();
  return () => {
    const brokerNow = readProcessUsage(brokerPid);
    const ownUsed = process.cpuUsage(own);
    return {
      elapsedUs: nowUs() - startUs,
      brokerUserUs: brokerNow.userUs - broker.userUs,
      brokerSystemUs: brokerNow.systemUs - broker.systemUs,
      generatorUs: ownUsed.user + ownUsed.system,
    };
  };
}

/** The part of a measurement that follows from a usage window and a number of messages. */
export function perMessage(
  usage: UsageWindow,
  delivered: number,
): {
  readonly deliveredPerSecond: number;
  readonly brokerCpuUs: number;
  readonly brokerUserUs: number;
  readonly brokerSystemUs: number;
  readonly brokerCpuPercent: number;
  readonly generatorCpuUs: number;
  readonly generatorCpuPercent: number;
} {
  const brokerUs = usage.brokerUserUs + usage.brokerSystemUs;
  return {
    deliveredPerSecond: (delivered / usage.elapsedUs) * 1e6,
    brokerCpuUs: brokerUs / delivered,
    brokerUserUs: usage.brokerUserUs / delivered,
    brokerSystemUs: usage.brokerSystemUs / delivered,
    brokerCpuPercent: (brokerUs / usage.elapsedUs) * 100,
    generatorCpuUs: usage.generatorUs / delivered,
    generatorCpuPercent: (usage.generatorUs / usage.elapsedUs) * 100,
  };
}
