import { expect, test } from '@jest/globals';

import { LatencyHistogram } from '../src/latency-histogram.ts';
import { median, sum } from '../src/statistics.ts';

test('the median is the middle value, or the mean of the two middle ones', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([4, 1, 3, 2])).toBe(2.5);
  expect(median([])).toBeNaN();
  expect(median([Number.NaN, 5])).toBe(5);
  expect(sum([1, 2, 3])).toBe(6);
});

test('a bucket represents its latencies to 1.6 %', () => {
  for (let us = 0; us < 2 ** 31; us = Math.ceil(us * 1.01) + 1) {
    const represented = LatencyHistogram.bucketUs(LatencyHistogram.bucket(us));
    expect(Math.abs(represented - us)).toBeLessThanOrEqual(us * 0.016);
  }
  expect(LatencyHistogram.bucket(-5)).toBe(0);
});

test('quantiles count messages, not entries', () => {
  const histogram = new LatencyHistogram();
  expect(histogram.quantileUs(0.5)).toBeNaN();
  histogram.add(LatencyHistogram.bucket(10), 98);
  histogram.add(LatencyHistogram.bucket(20), 1);
  histogram.add(LatencyHistogram.bucket(30), 1);
  expect(histogram.quantileUs(0.5)).toBe(10);
  expect(histogram.quantileUs(0.99)).toBe(20);
  expect(histogram.quantileUs(1)).toBe(30);
});
