import type { Histogram } from '@shoalmq/core';
import type { MetricsSource } from './metrics.ts';

export type Labels = Readonly<Record<string, string | number>>;

/** One line of a scrape; `suffix` is that of a histogram's series. */
export interface Sample {
  readonly labels: Labels;
  readonly value: number;
  readonly suffix?: '_bucket' | '_sum' | '_count';
}

/** A metric, and how it is read from a node at a scrape. */
export interface Declaration {
  readonly name: string;
  readonly help: string;
  readonly type: 'counter' | 'gauge' | 'histogram';
  readonly labels: readonly string[];
  read(source: MetricsSource): Sample[];
}

export function single(value: number): Sample[] {
  return [{ labels: {}, value }];
}

export function perName<Name extends string>(
  label: string,
  names: readonly Name[],
  values: Readonly<Record<Name, number>>,
): Sample[] {
  return names.map((name) => ({ labels: { [label]: name }, value: values[name] }));
}

/** The series of one histogram, in seconds. */
export function histogram(labels: Labels, { boundsMs, counts, sumMs }: Histogram): Sample[] {
  let total = 0;
  const buckets: Sample[] = [...boundsMs, Infinity].map((boundMs, index) => {
    total += counts[index]!;
    const le = boundMs === Infinity ? '+Inf' : boundMs / 1000;
    return { labels: { ...labels, le }, value: total, suffix: '_bucket' };
  });
  return [
    ...buckets,
    { labels, value: sumMs / 1000, suffix: '_sum' },
    { labels, value: total, suffix: '_count' },
  ];
}
