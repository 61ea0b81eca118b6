import { expect, test } from '@jest/globals';
import type { FactChange } from '@shoalmq/core';
import fc from 'fast-check';
import { LocalSubscriptions } from '../src/local-subscriptions.ts';

const SELF = { id: 'n1', incarnation: 'i1' };

/** Writes that take effect when the test says so. */
class Writes {
  readonly written: string[] = [];
  readonly #open: (() => void)[] = [];

  readonly write = (changes: readonly FactChange[]): Promise<void> => {
    for (const { change, fact } of changes) {
      this.written.push(`${change} ${fact.filter} ${fact.kind === 'node' ? fact.weight : ''}`);
    }
    return new Promise((resolve) => this.#open.push(resolve));
  };

  async applyOldest(): Promise<void> {
    this.#open.shift()?.();
    await new Promise((resolve) => setImmediate(resolve));
  }
}

test('only the first and the last subscription to a filter are announced', async () => {
  const writes = new Writes();
  const local = new LocalSubscriptions(SELF, writes.write);
  for (const change of ['add', 'add', 'remove', 'remove'] as const) {
    void local.announce([{ change, filter: 'a/+' }]);
    await writes.applyOldest();
  }
  expect(writes.written).toEqual(['add a/+ 1', 'remove a/+ 0']);
  expect(local.size).toBe(0);
});

test('of a shared subscription each number of members is announced', async () => {
  const writes = new Writes();
  const local = new LocalSubscriptions(SELF, writes.write);
  for (const change of ['add', 'add', 'remove'] as const) {
    void local.announce([{ change, filter: '$share/g/a' }]);
  }
  expect(writes.written).toEqual(['add $share/g/a 1', 'add $share/g/a 2', 'add $share/g/a 1']);
  expect(local.facts().map(({ fact }) => fact)).toEqual([
    { kind: 'node', node: SELF, filter: '$share/g/a', weight: 1 },
  ]);
});

test('who comes while the first subscription is being announced waits for the same', async () => {
  const writes = new Writes();
  const local = new LocalSubscriptions(SELF, writes.write);
  const done: string[] = [];
  void local.announce([{ change: 'add', filter: 'a' }]).then(() => done.push('first'));
  void local.announce([{ change: 'add', filter: 'a' }]).then(() => done.push('second'));
  await new Promise((resolve) => setImmediate(resolve));
  expect(done).toEqual([]);
  await writes.applyOldest();
  expect(done.sort()).toEqual(['first', 'second']);
});

test('H18: whatever comes when, what was written last is what holds', () => {
  const steps = fc.array(
    fc.record({
      change: fc.constantFrom<'add' | 'remove'>('add', 'remove'),
      filter: fc.constantFrom('a', '$share/g/a'),
    }),
  );
  fc.assert(
    fc.property(steps, (changes) => {
      const facts = new Map<string, number>();
      const counts = new Map<string, number>();
      const local = new LocalSubscriptions(SELF, (written) => {
        for (const { change, fact } of written) {
          if (fact.kind !== 'node') continue;
          if (change === 'add') facts.set(fact.filter, fact.weight);
          else facts.delete(fact.filter);
        }
        return Promise.resolve();
      });
      for (const step of changes) {
        const count = counts.get(step.filter) ?? 0;
        if (step.change === 'remove' && count === 0) continue;
        counts.set(step.filter, count + (step.change === 'add' ? 1 : -1));
        void local.announce([step]);
        expect(facts.get('a') ?? 0).toBe(Math.min(counts.get('a') ?? 0, 1));
        expect(facts.get('$share/g/a') ?? 0).toBe(counts.get('$share/g/a') ?? 0);
      }
    }),
  );
});
