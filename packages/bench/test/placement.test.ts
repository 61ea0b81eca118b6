import { expect, test } from '@jest/globals';

import { nodeOfPublisher, nodeOfSubscriber } from '../src/load/placement.ts';

const paths = (placement: 'apart' | 'around' | undefined, nodes: number) =>
  Array.from({ length: 12 }, (_, index) => {
    const from = nodeOfPublisher(placement, index, nodes);
    return `${String(from)}${String(nodeOfSubscriber(placement, index, nodes))}`;
  });

test('around: every pair crosses a link, and all links have as many pairs', () => {
  for (const nodes of [2, 3, 4]) {
    const counts = new Map<string, number>();
    for (const path of paths('around', nodes)) counts.set(path, (counts.get(path) ?? 0) + 1);
    expect([...counts.keys()].filter((path) => path.startsWith(path.slice(1)))).toEqual([]);
    expect(new Set(counts.values())).toEqual(new Set([12 / (nodes * (nodes - 1))]));
  }
});

test('apart: from the first node to the second, if there is one', () => {
  expect(new Set(paths('apart', 3))).toEqual(new Set(['01']));
  expect(new Set(paths('apart', 1))).toEqual(new Set(['00']));
  expect(new Set(paths(undefined, 3))).toEqual(new Set(['00']));
});
