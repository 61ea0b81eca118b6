import { expect, test } from '@jest/globals';
import { Counters, DURATION_BOUNDS_MS, Histogram } from '@shoalmq/core';

test('a histogram puts a value into the first bucket whose bound is not below it', () => {
  const histogram = new Histogram([1, 10]);
  for (const ms of [0, 1, 1.5, 10, 10.5]) histogram.observe(ms);
  expect(histogram.counts).toEqual([2, 2, 1]);
  expect(histogram.sumMs).toBe(23);
});

test('the buckets of durations ascend', () => {
  expect([...DURATION_BOUNDS_MS].sort((a, b) => a - b)).toEqual(DURATION_BOUNDS_MS);
});

test('CONNECT is counted by version and reason code', () => {
  const counters = new Counters();
  counters.connect(5, 0x87);
  counters.connect(5, 0x87);
  counters.connect(3, 0);
  counters.connect(0, 0x84);
  expect(counters.connects()).toEqual([
    { version: 5, reasonCode: 0x87, count: 2 },
    { version: 3, reasonCode: 0, count: 1 },
    { version: 0, reasonCode: 0x84, count: 1 },
  ]);
});

test('a listener has one set of counters however often it is asked for', () => {
  const counters = new Counters();
  counters.listener('mqtt').bytesReceived += 5;
  counters.listener('mqtt').bytesReceived += 5;
  expect([...counters.listeners].map(([name, { bytesReceived }]) => [name, bytesReceived])).toEqual(
    [['mqtt', 10]],
  );
});
