import { expect, test } from '@jest/globals';
import { FACT_BUCKETS } from '@shoalmq/core';
import * as fc from 'fast-check';
import { factBucket, factField, factValue, parseFact } from '../src/cluster-state/fact-text.ts';
import { entryIdOf, positionOf } from '../src/cluster-state/log-position.ts';

const text = fc.string({ unit: 'binary' });

test('a fact is what its field and its value say', () => {
  const fact = fc.oneof(
    fc.record({
      kind: fc.constant('node' as const),
      node: fc.record({ id: text, incarnation: text }),
      filter: text,
      weight: fc.nat(),
    }),
    fc.record({
      kind: fc.constant('session' as const),
      clientId: text,
      incarnation: text,
      filter: text,
      options: text,
    }),
    fc.record({ kind: fc.constant('retained' as const), filter: text }),
  );
  fc.assert(
    fc.property(fact, (each) => {
      expect(parseFact(factField(each), factValue(each))).toEqual(each);
    }),
  );
});

test('filters that clients number are spread evenly over the buckets', () => {
  for (const name of ['sensor/?/temperature', '?', 'a/?', '$share/group/?/#']) {
    const counts = new Array<number>(FACT_BUCKETS).fill(0);
    for (let i = 0; i < FACT_BUCKETS * 1_000; i++) {
      const bucket = factBucket(name.replace('?', String(i)));
      counts[bucket] = counts[bucket]! + 1;
    }
    expect(Math.min(...counts)).toBeGreaterThan(850);
    expect(Math.max(...counts)).toBeLessThan(1_150);
  }
});

test('positions are ordered as the ids of entries are', () => {
  const id = fc.tuple(fc.nat(Number.MAX_SAFE_INTEGER), fc.nat(99_999_999_999));
  fc.assert(
    fc.property(id, id, ([ms, number], [otherMs, otherNumber]) => {
      const position = positionOf(`${ms}-${number}`);
      expect(entryIdOf(position)).toBe(`${ms}-${number}`);
      const less = ms === otherMs ? number < otherNumber : ms < otherMs;
      expect(position < positionOf(`${otherMs}-${otherNumber}`)).toBe(less);
    }),
  );
});
