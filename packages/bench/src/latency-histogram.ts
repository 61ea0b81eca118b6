const SUB_BUCKET_BITS = 5;
const SUB_BUCKETS = 1 << SUB_BUCKET_BITS;
const BUCKETS = 28 * SUB_BUCKETS;

/**
 * Counts latencies in buckets that are at most 3.2 % wide, from 1 us to more than an hour.
 *
 * Recording is a few integer operations and allocates nothing.
 */
export class LatencyHistogram {
  readonly #counts = new Float64Array(BUCKETS);
  #total = 0;

  /** The bucket of a latency in microseconds; below zero counts as zero. */
  static bucket(us: number): number {
    const value = us > 0 ? us | 0 : 0;
    if (value < SUB_BUCKETS) return value;
    const shift = 31 - Math.clz32(value) - SUB_BUCKET_BITS;
    return (shift + 1) * SUB_BUCKETS + ((value >>> shift) - SUB_BUCKETS);
  }

  /** The middle of a bucket, in microseconds. */
  static bucketUs(bucket: number): number {
    if (bucket < SUB_BUCKETS) return bucket;
    const shift = Math.floor(bucket / SUB_BUCKETS) - 1;
    const lowest = ((bucket % SUB_BUCKETS) + SUB_BUCKETS) * 2 ** shift;
    return lowest + (2 ** shift - 1) / 2;
  }

  /** Adds `count` messages to a bucket. */
  add(bucket: number, count: number): void {
    this.#counts[bucket] = (this.#counts[bucket] ?? 0) + count;
    this.#total += count;
  }

  /** Forgets everything recorded. */
  reset(): void {
    this.#counts.fill(0);
    this.#total = 0;
  }

  /** The latency in us that a share `quantile` (0..1) of the messages did not exceed; NaN if empty. */
  quantileUs(quantile: number): number {
    if (this.#total === 0) return Number.NaN;
    const wanted = Math.max(1, Math.ceil(this.#total * quantile));
    let seen = 0;
    for (let bucket = 0; bucket < BUCKETS; bucket += 1) {
      seen += this.#counts[bucket] ?? 0;
      if (seen >= wanted) return LatencyHistogram.bucketUs(bucket);
    }
    return Number.NaN;
  }
}
