import type { Measurement, MeasurementField } from './measurement.ts';
import { median, sum } from './statistics.ts';

/** The repetitions of one case, payload and broker, brought together. */
export interface ResultRow {
  readonly caseName: string;
  readonly payloadBytes: number;
  readonly broker: string;
  readonly durability: string;
  readonly runs: number;
  /** Medians; losses are sums, because a loss in any run counts. Undefined when no run succeeded. */
  readonly measurement: Measurement | undefined;
  /** The lowest and highest CPU per message among the runs. */
  readonly brokerCpuUsRange: readonly [number, number];
  readonly failures: readonly string[];
}

/** Brings the runs of one cell of the table together. */
export function resultRow(options: {
  readonly caseName: string;
  readonly payloadBytes: number;
  readonly broker: string;
  readonly durability: string;
  readonly measurements: readonly Measurement[];
  readonly failures: readonly string[];
}): ResultRow {
  const { measurements, ...rest } = options;
  const costs = measurements.map((each) => each.brokerCpuUs).filter((cost) => !Number.isNaN(cost));
  return {
    ...rest,
    runs: measurements.length,
    measurement: measurements.length === 0 ? undefined : combine(measurements),
    brokerCpuUsRange: costs.length === 0 ? [NaN, NaN] : [Math.min(...costs), Math.max(...costs)],
  };
}

function combine(measurements: readonly Measurement[]): Measurement {
  const of = (field: MeasurementField): number[] => measurements.map((each) => each[field]);
  const figureNames = new Set(measurements.flatMap((each) => Object.keys(each.figures)));
  return {
    deliveredPerSecond: median(of('deliveredPerSecond')),
    brokerCpuUs: median(of('brokerCpuUs')),
    brokerUserUs: median(of('brokerUserUs')),
    brokerSystemUs: median(of('brokerSystemUs')),
    brokerCpuPercent: median(of('brokerCpuPercent')),
    redisCpuUs: median(of('redisCpuUs')),
    latencyP50Us: median(of('latencyP50Us')),
    latencyP99Us: median(of('latencyP99Us')),
    residentBytes: median(of('residentBytes')),
    lost: sum(of('lost')),
    duplicates: sum(of('duplicates')),
    outOfOrder: sum(of('outOfOrder')),
    generatorCpuUs: median(of('generatorCpuUs')),
    generatorCpuPercent: median(of('generatorCpuPercent')),
    otherCpuPercent: median(of('otherCpuPercent')),
    figures: Object.fromEntries(
      [...figureNames].map((name) => [
        name,
        median(measurements.map((each) => each.figures[name] ?? Number.NaN)),
      ]),
    ),
  };
}
