import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { contains, hasWildcard, matches, topicFilterProblem } from '../src/topic/filter.ts';
import { topicFilter, topicName } from './topic-arbitraries.ts';

/** All sequences of `levels` of 1 to `depth`, joined, without the empty one. */
function paths(levels: readonly string[], depth: number): string[] {
  let last = levels.map((level) => [level]);
  const all = [...last];
  for (let i = 1; i < depth; i++) {
    last = last.flatMap((path) => levels.map((level) => [...path, level]));
    all.push(...last);
  }
  return all.map((path) => path.join('/')).filter((path) => path !== '');
}

/** The definition, by splitting and recursion. */
function matchesByDefinition(filter: string, name: string): boolean {
  if (name.startsWith('$') && (filter.startsWith('+') || filter.startsWith('#'))) return false;
  const walk = (filters: string[], names: string[]): boolean => {
    if (filters[0] === '#') return true;
    if (filters.length === 0 || names.length === 0) return filters.length === names.length;
    return (
      (filters[0] === '+' || filters[0] === names[0]) && walk(filters.slice(1), names.slice(1))
    );
  };
  return walk(filter.split('/'), name.split('/'));
}

describe('topicFilterProblem', () => {
  test.each([
    '#',
    '+',
    '/',
    '//',
    'a',
    'a/#',
    '/#',
    '+/#',
    '+/+',
    'a/+/b',
    '/+',
    '+/',
    '$SYS/#',
    ' ',
  ])('accepts %p', (filter) => {
    expect(topicFilterProblem(filter, 200)).toBeUndefined();
  });

  test('[MQTT-4.7.3-1] [MQTT3-4.7.3-1] refuses the empty filter', () => {
    expect(topicFilterProblem('', 200)).toBe('the topic filter is empty');
  });

  test.each(['a#', '#a', '##', '#/', '#/a', 'a/#/b', 'a/b#', '/#a', '+#', '#+', 'a/#/'])(
    '[MQTT-4.7.1-1] [MQTT3-4.7.1-2] refuses a # that is not the whole last level: %p',
    (filter) => {
      expect(topicFilterProblem(filter, 200)).toBeDefined();
    },
  );

  test.each(['a+', '+a', '++', 'a/b+', 'a/+b/c', '/+a', '+a/b', 'a/++/b'])(
    '[MQTT-4.7.1-2] [MQTT3-4.7.1-3] refuses a + that is not a whole level: %p',
    (filter) => {
      expect(topicFilterProblem(filter, 200)).toBe('+ is not the whole of a level');
    },
  );

  test('refuses more levels than allowed, and says how many those are', () => {
    expect(topicFilterProblem('a/b/c', 3)).toBeUndefined();
    expect(topicFilterProblem('a/b/c/d', 3)).toContain('more than 3 levels');
    expect(topicFilterProblem('/'.repeat(32_767), 200)).toContain('more than 200 levels');
  });

  test('[MQTT-4.7.3-2] [MQTT3-4.7.3-2] refuses U+0000', () => {
    expect(topicFilterProblem('a/\0/+', 200)).toBe('a control character');
  });
});

test('hasWildcard tells filters with wildcards from plain ones', () => {
  for (const filter of ['#', '+', 'a/#', 'a/+', '+/a', 'a/+/b'])
    expect(hasWildcard(filter)).toBe(true);
  for (const filter of ['a', '/', 'a/b', '$SYS/x']) expect(hasWildcard(filter)).toBe(false);
});

describe('matches', () => {
  test('agrees with the definition', () => {
    fc.assert(
      fc.property(topicFilter, topicName, (filter, name) => {
        expect(matches(filter, name)).toBe(matchesByDefinition(filter, name));
      }),
      { numRuns: 2000 },
    );
  });

  test('agrees with the definition on all short filters and names', () => {
    const names = paths(['', 'a', 'ab', '$x'], 4);
    for (const filter of paths(['', 'a', 'ab', '$x', '+'], 3).flatMap((path) => [
      path,
      `${path}/#`,
    ])) {
      for (const name of names) {
        if (matches(filter, name) !== matchesByDefinition(filter, name)) {
          throw new Error(`${filter} and ${name}`);
        }
      }
    }
  });

  test('[MQTT-4.7.2-1] [MQTT3-4.7.2-1] a wildcard in the first level does not match names with $', () => {
    for (const filter of ['#', '+', '+/#', '+/x', '+/+']) {
      expect(matches(filter, '$SYS/x')).toBe(false);
      expect(matches(filter, '$SYS')).toBe(false);
    }
    expect(matches('$SYS/#', '$SYS/x')).toBe(true);
    expect(matches('$SYS/#', '$SYS')).toBe(true);
    expect(matches('a/+', 'a/$SYS')).toBe(true);
  });

  test('a/# matches its parent level, and no other', () => {
    expect(matches('a/#', 'a')).toBe(true);
    expect(matches('a/#', 'ab')).toBe(false);
    expect(matches('a/+', 'a')).toBe(false);
    expect(matches('+/#', 'a')).toBe(true);
  });

  test('[MQTT-4.7.3-4] [MQTT3-4.7.3-4] neither case, composition nor a byte order mark is overlooked', () => {
    expect(matches('ACCOUNTS', 'Accounts')).toBe(false);
    expect(matches('caf\u00e9/#', 'cafe\u0301/x')).toBe(false);
    expect(matches('\ufeffa', 'a')).toBe(false);
    expect(matches('\ufeffa', '\ufeffa')).toBe(true);
  });
});

describe('contains', () => {
  test('is containment of the sets of names, for all short filters', () => {
    // `z` and `$z` stand for all the levels that no filter names; longer names for all longer names.
    const names = paths(['', 'a', 'z', '$x', '$z'], 5);
    const plain = paths(['', 'a', '$x', '+'], 3);
    const filters = [
      ...plain,
      '#',
      ...paths(['', 'a', '$x', '+'], 2).map((path) => `${path}/#`),
      '/#',
    ];
    const matched = filters.map((filter) => names.map((name) => matches(filter, name)));

    const wrong: string[] = [];
    filters.forEach((outer, o) => {
      filters.forEach((inner, i) => {
        const expected = names.every((_, n) => !matched[i]?.[n] || matched[o]?.[n]);
        if (contains(outer, inner) !== expected)
          wrong.push(`${outer} ${inner}: ${String(expected)}`);
      });
    });

    expect(wrong).toEqual([]);
  });

  test('what the inner filter matches, the outer one does', () => {
    fc.assert(
      fc.property(topicFilter, topicFilter, topicName, (outer, inner, name) => {
        if (contains(outer, inner) && matches(inner, name)) expect(matches(outer, name)).toBe(true);
        expect(contains(inner, inner)).toBe(true);
        expect(contains(outer, name)).toBe(matches(outer, name));
      }),
      { numRuns: 1000 },
    );
  });

  test('a filter wider than the grant is not inside it', () => {
    expect(contains('a/+/b', 'a/#')).toBe(false);
    expect(contains('a/+', 'a/#')).toBe(false);
    expect(contains('a/+/#', 'a/#')).toBe(false);
    expect(contains('#', '$SYS/#')).toBe(false);
    expect(contains('+/#', '#')).toBe(true);
    expect(contains('/+/#', '/#')).toBe(true);
    expect(contains('+/+/#', '#')).toBe(false);
    expect(contains('a/#', 'a/+/b')).toBe(true);
  });
});
