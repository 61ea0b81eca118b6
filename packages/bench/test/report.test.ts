import { expect, test } from '@jest/globals';

import { EMPTY_MEASUREMENT } from '../src/measurement.ts';
import {
  clusterTable,
  goalTable,
  matchCostTable,
  memoryTable,
  ratioTable,
  resultTable,
} from '../src/report.ts';
import { resultRow } from '../src/result-row.ts';
import type { ResultRow } from '../src/result-row.ts';

function row(broker: string, ...costsUs: number[]): ResultRow {
  return resultRow({
    caseName: 'pair-qos0',
    payloadBytes: 64,
    broker,
    durability: 'memory',
    measurements: costsUs.map((brokerCpuUs) => ({ ...EMPTY_MEASUREMENT, brokerCpuUs, lost: 1 })),
    failures: costsUs.length === 0 ? ['refused'] : [],
  });
}

test('runs are brought together: medians, the range of the cost, and the sum of losses', () => {
  const combined = row('shoal', 3, 1, 2);
  expect(combined.measurement).toMatchObject({ brokerCpuUs: 2, lost: 3 });
  expect(combined.brokerCpuUsRange).toEqual([1, 3]);
});

test('ratios to Shoal stand beside their targets', () => {
  const lines = ratioTable(
    [row('shoal', 0.5), row('mosquitto', 5), row('aedes', 10)],
    new Set(),
  ).split('\n');
  expect(lines[2]?.split('|').map((cell) => cell.trim())).toEqual([
    '',
    'pair-qos0',
    '64',
    '10.0',
    '>= 8',
    'yes',
    '20.0',
    '>= 25',
    'NO',
    '',
  ]);
});

test('where messages are paced, p99 is compared with that of Mosquitto', () => {
  const paced = (broker: string, latencyP99Us: number): ResultRow => {
    const measurement = { ...EMPTY_MEASUREMENT, brokerCpuUs: 1, latencyP99Us };
    const all = { payloadBytes: 64, measurements: [measurement], failures: [] };
    return resultRow({ caseName: 'trickle-qos0', broker, durability: 'memory', ...all });
  };
  const verdict = (shoalUs: number) =>
    ratioTable(
      [row('shoal', 1), row('mosquitto', 1), paced('shoal', shoalUs), paced('mosquitto', 300)],
      new Set(['trickle-qos0']),
    )
      .split('\n')
      .slice(2)
      .map((line) =>
        line
          .split('|')
          .slice(-3, -1)
          .map((cell) => cell.trim()),
      );

  expect(verdict(200)).toEqual([
    ['', ''],
    ['1.50', 'no worse'],
  ]);
  expect(verdict(400)[1]).toEqual(['0.750', 'WORSE']);
});

test('without Shoal there are no ratios, and a failed cell says why', () => {
  expect(ratioTable([row('mosquitto', 5), row('aedes', 10)], new Set())).toBe('');
  expect(resultTable([row('mosquitto')])).toContain('refused');
});

test('what a subscription costs stands beside the target, the store included', () => {
  const figures = [200, 221].map((routeBytes) => ({
    memory: { subscriptions: 1_000_000, routeBytes, storeBytes: 30 },
    matching: [{ otherFilters: 1000, wildcardPercent: 10, matchUs: 1.234 }],
  }));
  const cells = (text: string) =>
    text
      .split('\n')
      .slice(2)
      .map((line) => line.split('|').map((cell) => cell.trim()));

  expect(cells(memoryTable(figures)).map((line) => line.slice(2, 7))).toEqual([
    ['200', '30', '230', '<= 250', 'yes'],
    ['221', '30', '251', '<= 250', 'NO'],
  ]);
  expect(cells(matchCostTable(figures))[0]).toEqual(['', '1000', '10', '1.23', '']);
});

test('what is wanted of clusters stands beside what was measured, by payload', () => {
  const of = (broker: string, payloadBytes: number, brokerCpuUs: number): ResultRow => {
    const measurement = { ...EMPTY_MEASUREMENT, brokerCpuUs };
    const all = { payloadBytes, durability: 'memory', measurements: [measurement], failures: [] };
    return resultRow({ caseName: 'cluster-pair-qos0', broker, ...all });
  };
  const lines = goalTable([
    of('shoal', 64, 1),
    of('shoal-2-nodes', 64, 3.5),
    of('shoal', 1024, 2),
    of('shoal-2-nodes', 1024, 8),
    of('shoal-2-nodes', 4096, 8),
  ])
    .split('\n')
    .slice(2)
    .map((line) => line.split('|').map((cell) => cell.trim()));

  expect(lines.map((line) => [line[2], ...line.slice(4, 7)])).toEqual([
    ['64', '3.50', '<= 3.50', 'yes'],
    ['1024', '4.00', '<= 3.50', 'NO'],
  ]);
  expect(goalTable([row('shoal', 1)])).toBe('');
});

test('rows of clusters say where state is kept and what Redis costs', () => {
  const table = clusterTable([row('shoal', 1)]);
  expect(table).toContain('durability');
  expect(table).toContain('Redis us/msg');
  expect(resultTable([row('shoal', 1)])).not.toContain('Redis');
});
