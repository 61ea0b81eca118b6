import { Histogram } from '@shoalmq/core';

/** How long calls to Redis took and how many failed, by operation: the names of scripts and commands, a closed set. */
export class RedisMetrics {
  readonly durations = new Map<string, Histogram>();
  /** Calls that were answered with an error, or not in time. */
  readonly failures = new Map<string, number>();

  /** A call was answered, so long after it was handed to the connection (the last time, if it was sent again). */
  observe(operation: string, ms: number): void {
    let histogram = this.durations.get(operation);
    if (histogram === undefined) {
      histogram = new Histogram();
      this.durations.set(operation, histogram);
    }
    histogram.observe(ms);
  }

  failed(operation: string): void {
    this.failures.set(operation, (this.failures.get(operation) ?? 0) + 1);
  }
}
