import { nowUs } from '../clock.ts';
import { readMachineBusyUs, readProcessUsage } from '../process-usage.ts';

/** CPU time and wall time that passed since `startUsageWindow`. */
export interface UsageWindow {
  readonly elapsedUs: number;
  readonly brokerUserUs: number;
  readonly brokerSystemUs: number;
  readonly generatorUs: number;
  /** Of all processes of the machine, these two included. */
  readonly machineUs: number;
}

/** Starts to measure the broker process and this one; the returned function tells what passed. */
export function startUsageWindow(brokerPid: number): () => UsageWindow {
  const broker = readProcessUsage(brokerPid);
  const machineUs = readMachineBusyUs();
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
      machineUs: readMachineBusyUs() - machineUs,
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
  readonly otherCpuPercent: number;
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
    otherCpuPercent: Math.max(
      0,
      ((usage.machineUs - brokerUs - usage.generatorUs) / usage.elapsedUs) * 100,
    ),
  };
}
