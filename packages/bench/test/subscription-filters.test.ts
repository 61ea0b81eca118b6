import { expect, test } from '@jest/globals';

import { uniqueFilter } from '../src/subscriptions/filters.ts';

test.each([0, 10, 50])('filters are all different, and %i %% of them have wildcards', (percent) => {
  const filters = Array.from({ length: 1000 }, (_, index) => uniqueFilter(index, percent));

  expect(new Set(filters).size).toBe(1000);
  expect(filters.filter((filter) => filter.includes('+'))).toHaveLength(percent * 10);
});
