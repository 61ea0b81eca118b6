import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { RetainedIndex } from '../src/retained/retained-index.ts';
import { matches } from '../src/topic/filter.ts';
import { topicFilter, topicName } from './topic-arbitraries.ts';

function index(names: Iterable<string>): RetainedIndex {
  const made = new RetainedIndex();
  for (const name of names) made.add(name);
  return made;
}

/** At most `count` names more. */
function take(walk: IterableIterator<string>, count: number): string[] {
  const taken: string[] = [];
  while (taken.length < count) {
    const result: IteratorResult<string, undefined> = walk.next();
    if (result.done === true) break;
    taken.push(result.value);
  }
  return taken;
}

const change = fc.record({ name: topicName, add: fc.boolean() });

test('yields the names that comparing every name yields, whatever is added and removed', () => {
  fc.assert(
    fc.property(
      fc.array(change, { maxLength: 100, size: 'max' }),
      fc.array(topicFilter),
      fc.integer(),
      (changes, filters, seed) => {
        const subject = new RetainedIndex(seed);
        const names = new Set<string>();
        for (const { name, add } of changes) {
          if (add) {
            expect(subject.add(name)).toBe(!names.has(name));
            names.add(name);
          } else {
            expect(subject.delete(name)).toBe(names.delete(name));
          }
          expect(subject.has(name)).toBe(add);
          expect(subject.size).toBe(names.size);
        }
        expect(subject.size).toBe(names.size);
        expect(changes.every(({ name }) => subject.has(name) === names.has(name))).toBe(true);
        for (const filter of [...filters, '#', '+/#', 'a/#', ...names]) {
          const found = [...subject.match(filter)];
          expect(found.sort()).toEqual([...names].filter((name) => matches(filter, name)).sort());
        }
        for (const name of names) subject.delete(name);
        expect(subject.rows).toMatchObject({ nodes: 0, levels: 0 });
      },
    ),
    { numRuns: 100 },
  );
});

describe('a walk that is interrupted by changes', () => {
  test('misses nothing that was there throughout, and yields nothing twice', () => {
    fc.assert(
      fc.property(
        fc.array(topicName, { maxLength: 60, size: 'max' }),
        fc.oneof(topicFilter, fc.constantFrom('#', '+/#', 'a/#', '+/+')),
        fc.array(fc.record({ steps: fc.nat(3), changes: fc.array(change) }), {
          maxLength: 20,
          size: 'max',
        }),
        fc.array(change),
        (initial, filter, turns, between) => {
          const names = new Set(initial);
          const subject = index(initial);
          const kept = new Set([...names].filter((name) => matches(filter, name)));
          const ever = new Set(names);
          const apply = (changes: readonly { name: string; add: boolean }[]): void => {
            for (const { name, add } of changes) {
              if (add) {
                subject.add(name);
                ever.add(name);
              } else {
                subject.delete(name);
                kept.delete(name);
              }
            }
          };
          const walk = subject.match(filter);
          const yielded: string[] = [];
          const step = (count: number): void => {
            for (const name of take(walk, count)) {
              yielded.push(name);
            }
          };

          apply(between);
          for (const { steps, changes } of turns) {
            step(steps);
            apply(changes);
          }
          step(Infinity);

          expect(new Set(yielded).size).toBe(yielded.length);
          expect([...kept].filter((name) => !yielded.includes(name))).toEqual([]);
          expect(yielded.filter((name) => !ever.has(name) || !matches(filter, name))).toEqual([]);
        },
      ),
      { numRuns: 400 },
    );
  });

  test('goes on when the very next names are removed', () => {
    const names = Array.from({ length: 100 }, (_, i) => `a/${i}/t`);
    const subject = index(names);
    const walk = subject.match('a/#');

    expect(take(walk, 10)).toEqual(names.slice(0, 10));
    for (const name of names.slice(9, 30)) subject.delete(name);
    for (const name of names.slice(9, 30)) subject.add(name);

    expect(take(walk, Infinity)).toEqual(names.slice(30));
  });

  test('a name that is removed and comes back is not yielded twice', () => {
    const subject = index(['a', 'a/b', 'a/c']);
    const walk = subject.match('#');
    const yielded = take(walk, 1);
    for (const name of ['a', 'a/b']) {
      subject.delete(name);
      subject.add(name);
    }
    yielded.push(...take(walk, Infinity));
    expect(yielded.filter((name) => name === 'a')).toEqual(['a']);
    expect(yielded).toContain('a/c');
  });

  test('ends although names are added all the time', () => {
    const subject = index(['0']);
    let count = 0;
    for (const name of subject.match('#')) {
      subject.add(String(Number(name) + 1));
      count += 1;
      if (count > 10) break;
    }
    expect(count).toBe(1);
  });
});

test('[MQTT-4.7.2-1] wildcards in the first level do not reach $SYS', () => {
  const subject = index(['$SYS', '$SYS/x', 'a', 'a/x']);
  expect([...subject.match('#')]).toEqual(['a', 'a/x']);
  expect([...subject.match('+/x')]).toEqual(['a/x']);
  expect([...subject.match('$SYS/#')]).toEqual(['$SYS', '$SYS/x']);
  expect([...subject.match('$SYS/x')]).toEqual(['$SYS/x']);
});

test('names of 200 levels, and of tens of thousands, do not overflow the stack', () => {
  for (const levels of [200, 30_000]) {
    const name = 'a/'.repeat(levels) + 'b';
    const subject = index([name]);
    expect([...subject.match('#')]).toEqual([name]);
    expect([...subject.match('+/'.repeat(levels) + '+')]).toEqual([name]);
    expect(subject.delete(name)).toBe(true);
    expect(subject.rows.nodes).toBe(0);
  }
});

test('removed nodes are used again', () => {
  const subject = new RetainedIndex();
  const empty = subject.rows.nodesEnd;
  for (let round = 0; round < 50; round++) {
    const names = Array.from({ length: 300 }, (_, i) => `r${round}/${i}`);
    for (const name of names) subject.add(name);
    for (const name of names) subject.delete(name);
  }
  expect(subject.rows).toEqual({ nodes: 0, nodesEnd: empty + 301, levels: 0 });
});
