import { describe, expect, test } from '@jest/globals';
import { WildcardTrie } from '../src/route/wildcard-trie.ts';

interface Value {
  readonly filter: string;
}

function trie(filters: Iterable<string>): WildcardTrie<Value> {
  const made = new WildcardTrie<Value>(1);
  for (const filter of filters) made.set(filter, { filter });
  return made;
}

function match(subject: WildcardTrie<Value>, name: string): { filters: string[]; visited: number } {
  const found: Value[] = [];
  const visited = subject.match(name, found);
  return { filters: found.map(({ filter }) => filter).sort(), visited };
}

describe('the cost of a match', () => {
  test('does not depend on filters that do not match', () => {
    const own = ['site/a/+', 'site/+/temp', 'site/#'];
    const alone = match(trie(own), 'site/a/temp');

    const others = Array.from({ length: 20_000 }, (_, i) => [
      `site/x${i}/+`,
      `other/+/${i}/#`,
    ]).flat();
    const among = match(trie([...others, ...own]), 'site/a/temp');

    expect(alone.filters).toEqual(own.sort());
    expect(among).toEqual(alone);
  });

  test('of filters with every combination of + and a name is at most the nodes there are', () => {
    const filters = Array.from({ length: 2 ** 12 }, (_, bits) =>
      Array.from({ length: 12 }, (_, level) => ((bits >> level) & 1 ? '+' : 'a')).join('/'),
    );
    const subject = trie(filters.filter((filter) => filter.includes('+')));

    const { filters: found, visited } = match(subject, Array(12).fill('a').join('/'));

    expect(found).toHaveLength(2 ** 12 - 1);
    expect(visited).toBeLessThanOrEqual(subject.rows.nodes + 1);
  });

  test('of deep filters that part at the end is linear in their levels', () => {
    const prefixes = ['+/'.repeat(127), 'a/'.repeat(127)];
    const subject = trie(prefixes.flatMap((prefix) => [`${prefix}+`, `${prefix}#`, `${prefix}b`]));

    expect(match(subject, 'a/'.repeat(127) + 'c').visited).toBeLessThanOrEqual(2 * 129);
    expect(match(subject, '/'.repeat(65_534)).visited).toBeLessThanOrEqual(129);
  });
});

test('128 and 200 levels of + match names of as many levels', () => {
  for (const levels of [128, 200]) {
    const filter = Array(levels).fill('+').join('/');
    const subject = trie([filter, `${filter}/#`, `${filter}/+`]);
    expect(match(subject, Array(levels).fill('').join('/')).filters).toEqual([
      filter,
      `${filter}/#`,
    ]);
    expect(
      match(
        subject,
        Array(levels - 1)
          .fill('x')
          .join('/'),
      ).filters,
    ).toEqual([]);
  }
});

test('filters of tens of thousands of levels do not overflow the stack', () => {
  const filter = '+' + '/+'.repeat(30_000);
  const subject = trie([filter]);
  expect(match(subject, '/'.repeat(30_000)).filters).toEqual([filter]);
  expect(subject.delete(filter)).toBe(true);
  expect(subject.rows.nodes).toBe(0);
});

test('a filter that is part of another comes and goes by itself', () => {
  const subject = trie(['a/+', 'a/+/b/#']);
  expect(subject.get('a/+/b')).toBeUndefined();
  expect(subject.delete('a/+/b')).toBe(false);
  expect(subject.delete('a/+')).toBe(true);
  expect(match(subject, 'a/x').filters).toEqual([]);
  expect(match(subject, 'a/x/b').filters).toEqual(['a/+/b/#']);
  expect(subject.get('a/+/b/#')).toEqual({ filter: 'a/+/b/#' });
});

describe('churn', () => {
  test('removed nodes and levels are used again: rows never exceed what was in use at once', () => {
    const subject = new WildcardTrie<Value>(3);
    const empty = subject.rows;
    for (let round = 0; round < 50; round++) {
      const filters = Array.from(
        { length: 500 },
        (_, i) => `site/${round}/dev${round * 500 + i}/+`,
      );
      for (const filter of filters) subject.set(filter, { filter });
      if (round % 2 > 0) filters.reverse();
      expect(filters.every((filter) => subject.delete(filter))).toBe(true);
      expect(subject.rows).toMatchObject({ nodes: 0, levels: empty.levels });
    }
    expect(subject.rows.nodesEnd - empty.nodesEnd).toBe(2 + 2 * 500);
  });

  test('tables that grew past a chunk still find everything, and forget what is removed', () => {
    const filters = Array.from({ length: 40_000 }, (_, i) => `a-level-beyond-13-characters-${i}/+`);
    const subject = trie(filters);
    filters.forEach((filter, i) => {
      if (i % 3 > 0) subject.delete(filter);
    });
    const wrong = filters.filter((filter, i) => {
      const { filters: found } = match(subject, filter.replace('+', 'x'));
      return found.length !== (i % 3 > 0 ? 0 : 1) || found.some((each) => each !== filter);
    });
    expect(wrong).toEqual([]);
  });
});
