import { expect, test } from '@jest/globals';
import { LateSettles } from '../src/delivery/late-settles.ts';
import { PendingPublish } from '../src/delivery/pending-publish.ts';

test('what was repeated is settled much later, in order', () => {
  const late = new LateSettles();
  const settled: string[] = [];
  const take = (nowMs: number) => {
    late.takeDue(nowMs, (_pending, id) => settled.push(id));
  };
  late.add(new PendingPublish(), 'a', 0);
  late.add(new PendingPublish(), 'b', 1_000);
  take(300_000);
  expect(settled).toEqual([]);
  take(600_000);
  expect(settled).toEqual(['a']);
  take(601_000);
  expect(settled).toEqual(['a', 'b']);
  expect(late.size).toBe(0);
});

test('beyond the bound the oldest are settled at once', () => {
  const late = new LateSettles(2);
  const settled: string[] = [];
  for (const id of ['a', 'b', 'c']) late.add(new PendingPublish(), id, 0);
  late.takeDue(0, (_pending, id) => settled.push(id));
  expect(settled).toEqual(['a']);
});
