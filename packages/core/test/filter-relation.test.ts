import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { containsFilter, filtersOverlap } from '../src/topic/filter-relation.ts';
import { matches } from '../src/topic/filter.ts';

const LEVELS = ['', 'a', '$x'];

/** Filters of at most three levels. */
const filter = fc
  .tuple(
    fc.array(fc.constantFrom(...LEVELS, '+'), { maxLength: 2 }),
    fc.constantFrom(...LEVELS, '+', '#'),
  )
  .map(([levels, last]) => [...levels, last].join('/'))
  .filter((text) => text !== '');

/** All names of at most four levels, also with a level that no filter has. */
const NAMES = [1, 2, 3, 4].flatMap((count) => names(count)).filter((name) => name !== '');

function names(count: number): string[] {
  if (count === 0) return [''];
  const levels = [...LEVELS, 'other'];
  if (count === 1) return levels;
  return levels.flatMap((level) => names(count - 1).map((rest) => `${level}/${rest}`));
}

test('one filter contains another exactly when it matches every topic that the other does', () => {
  fc.assert(
    fc.property(filter, filter, (outer, inner) => {
      const expected = NAMES.every((name) => !matches(inner, name) || matches(outer, name));
      expect(containsFilter(outer, inner)).toBe(expected);
    }),
    { numRuns: 3_000 },
  );
});

test('two filters overlap exactly when some topic matches both', () => {
  fc.assert(
    fc.property(filter, filter, (first, second) => {
      const expected = NAMES.some((name) => matches(first, name) && matches(second, name));
      expect(filtersOverlap(first, second)).toBe(expected);
      expect(filtersOverlap(second, first)).toBe(expected);
    }),
    { numRuns: 3_000 },
  );
});

test.each([
  ['a/+/b', 'a/#', false],
  ['a/#', 'a', true],
  ['#', '$SYS/#', false],
  ['+/#', '#', true],
  ['a/+/#', 'a/#', false],
])('%s contains %s: %s', (outer, inner, expected) => {
  expect(containsFilter(outer, inner)).toBe(expected);
});
