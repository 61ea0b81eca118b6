import type { RunningNode, RunningRedis } from './brokers/broker-driver.ts';
import type { ProtocolLevel } from './wire.ts';

/** One run of one case against one running broker: what the generator process is told to do. */
export interface Plan {
  readonly caseName: string;
  /** The broker's processes, whose CPU time and memory are read from /proc. */
  readonly nodes: readonly [RunningNode, ...RunningNode[]];
  readonly redis?: RunningRedis;
  readonly payloadBytes: number;
  readonly level: ProtocolLevel;
  /** How many messages a publisher may have sent that are not settled yet. */
  readonly window: number;
  readonly warmUpMs: number;
  readonly measureMs: number;
  /** Whether the generator is to stay on its own core. */
  readonly pin: boolean;
}

/** What one run gave. Rates and times are of the steady phase; losses are of the whole run. */
export interface Measurement {
  readonly deliveredPerSecond: number;
  /** CPU time of all nodes of the broker per delivered message: both, and split as the kernel splits it. */
  readonly brokerCpuUs: number;
  readonly brokerUserUs: number;
  readonly brokerSystemUs: number;
  /** How busy the broker was, in percent of one core. */
  readonly brokerCpuPercent: number;
  /** CPU time of the broker's Redis per delivered message; NaN without one. */
  readonly redisCpuUs: number;
  readonly latencyP50Us: number;
  readonly latencyP99Us: number;
  readonly residentBytes: number;
  readonly lost: number;
  readonly duplicates: number;
  readonly outOfOrder: number;
  /** The generator's own cost, so that one can see that it was not the bottleneck. */
  readonly generatorCpuUs: number;
  readonly generatorCpuPercent: number;
  /** What other processes of the machine used meanwhile, in percent of one core: the noise. */
  readonly otherCpuPercent: number;
  /** Figures only some cases have, by name with the unit last. */
  readonly figures: Readonly<Record<string, number>>;
}

/** The fields of a measurement that are plain numbers. */
export type MeasurementField = Exclude<keyof Measurement, 'figures'>;

/** A measurement of a case in which nothing is delivered. */
export const EMPTY_MEASUREMENT: Measurement = {
  deliveredPerSecond: Number.NaN,
  brokerCpuUs: Number.NaN,
  brokerUserUs: Number.NaN,
  brokerSystemUs: Number.NaN,
  brokerCpuPercent: Number.NaN,
  redisCpuUs: Number.NaN,
  latencyP50Us: Number.NaN,
  latencyP99Us: Number.NaN,
  residentBytes: Number.NaN,
  lost: 0,
  duplicates: 0,
  outOfOrder: 0,
  generatorCpuUs: Number.NaN,
  generatorCpuPercent: Number.NaN,
  otherCpuPercent: Number.NaN,
  figures: {},
};
