import { LatencyHistogram } from '../latency-histogram.ts';

/** Counts what all subscribers of the generator received. */
export class DeliveryMeter {
  /** Messages delivered, each once per subscriber; duplicates are not counted. */
  delivered = 0;
  /** Messages that came to a subscriber that should not get them. */
  strays = 0;
  /** Latencies of the messages received while `recording`. */
  readonly latencies = new LatencyHistogram();
  recording = false;
}
