import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { SharedGroup } from '../src/route/route-table.ts';
import { RouteTable } from '../src/route/route-table.ts';
import { hasWildcard, matches } from '../src/topic/filter.ts';
import { hashBytes } from '../src/topic/topic.ts';
import { utf8Bytes } from '../src/topic/utf8.ts';
import { topicFilter, topicName } from './topic-arbitraries.ts';

interface TestRoute {
  readonly filter: string;
  readonly share: string;
  readonly id: number;
}

let ids = 0;
function route(filter: string, share = ''): TestRoute {
  return { filter, share, id: ids++ };
}

interface Found {
  readonly routes: TestRoute[];
  readonly groups: SharedGroup<TestRoute>[];
}

function match(table: RouteTable<TestRoute>, name: string): Found {
  const found: Found = { routes: [], groups: [] };
  table.match(name, {
    route: (each) => found.routes.push(each),
    group: (group) => found.groups.push(group),
  });
  return found;
}

/** What a table must say, without any index. */
function expectLike(
  table: RouteTable<TestRoute>,
  routes: readonly TestRoute[],
  name: string,
): void {
  const found = match(table, name);
  const matching = routes.filter(({ filter }) => matches(filter, name));
  const plain = matching.filter(({ share }) => share === '');
  expect([...found.routes].sort(byId)).toEqual([...plain].sort(byId));
  for (const { filter } of plain) {
    const same = (each: TestRoute): boolean => each.filter === filter;
    expect(found.routes.filter(same)).toEqual(plain.filter(same));
  }
  const key = (each: { share: string; filter: string }): string => `${each.share} ${each.filter}`;
  const shared = matching.filter(({ share }) => share !== '');
  expect(found.groups.map(key).sort()).toEqual([...new Set(shared.map(key))].sort());
  for (const group of found.groups) {
    const members = shared.filter((each) => key(each) === key(group));
    expect([...group.members].sort(byId)).toEqual(members.sort(byId));
  }
}

function byId(a: TestRoute, b: TestRoute): number {
  return a.id - b.id;
}

function slot(filter: string): number {
  const bytes = utf8Bytes(filter);
  return hashBytes(bytes, 0, bytes.length);
}

const share = fc.constantFrom('', '', '', 'g', '__proto__');
const operation = fc.oneof(
  {
    weight: 3,
    arbitrary: fc.record({ kind: fc.constant('add' as const), filter: topicFilter, share }),
  },
  // Many routes with few filters.
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('add' as const),
      filter: fc.constantFrom('a', '+', '#', 'a/#', '$SYS/+'),
      share: fc.constantFrom('', 'g', 'h'),
    }),
  },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('remove' as const), pick: fc.nat() }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant('match' as const), name: topicName }) },
);

test('[MQTT-4.7.3-4] matches what comparing every filter matches, whatever is added and removed', () => {
  fc.assert(
    fc.property(
      fc.array(operation, { maxLength: 120, size: 'max' }),
      fc.integer(),
      (operations, seed) => {
        const table = new RouteTable<TestRoute>(seed);
        const routes: TestRoute[] = [];
        for (const each of operations) {
          if (each.kind === 'add') {
            const added = route(each.filter, each.share);
            table.add(added);
            routes.push(added);
          } else if (each.kind === 'match') {
            expectLike(table, routes, each.name);
          } else if (routes.length > 0) {
            const [removed] = routes.splice(each.pick % routes.length, 1);
            expect(table.remove(removed as TestRoute)).toBe(true);
            expect(table.remove(removed as TestRoute)).toBe(false);
          }
          expect(table.size).toBe(routes.length);
        }
        const groups = routes.filter((each) => each.share !== '');
        expect(table.groups).toBe(
          new Set(groups.map((each) => `${each.share} ${each.filter}`)).size,
        );
        for (const each of routes) expect([...table.routesOf(each.filter)]).toContain(each);
        for (const each of routes) table.remove(each);
        expect(table).toMatchObject({ size: 0, groups: 0 });
        expect(table.wildcardRows.nodes).toBe(0);
      },
    ),
    { numRuns: 100 },
  );
});

test('[MQTT-4.7.2-1] filters that begin with a wildcard get nothing of $SYS', () => {
  const table = new RouteTable<TestRoute>();
  for (const filter of ['#', '+', '+/#', '+/x', '$SYS/#', '$SYS/+', '$SYS/x'])
    table.add(route(filter));

  const found = match(table, '$SYS/x').routes.map(({ filter }) => filter);

  expect(found.sort()).toEqual(['$SYS/#', '$SYS/+', '$SYS/x']);
});

describe('identity', () => {
  test('a route that is added twice is a bug of the caller, however many there are', () => {
    for (const others of [0, 1, 5, 40]) {
      for (const group of ['', 'g']) {
        const table = new RouteTable<TestRoute>();
        for (let i = 0; i < others; i++) table.add(route('a/+', group));
        const twice = route('a/+', group);
        table.add(twice);

        expect(() => {
          table.add(twice);
        }).toThrow('added twice');
        expect(table.size).toBe(others + 1);
      }
    }
  });

  test('an equal route that is another object is not removed', () => {
    const table = new RouteTable<TestRoute>();
    const present = route('a');
    table.add(present);

    expect(table.remove({ ...present })).toBe(false);
    expect(table.remove(route('b'))).toBe(false);
    expect(table.remove(route('a', 'g'))).toBe(false);
    expect(match(table, 'a').routes).toEqual([present]);
  });
});

describe('many routes of one filter', () => {
  test.each(['a/b', 'a/+'])('20,000 on %p stay in their order while others leave', (filter) => {
    const table = new RouteTable<TestRoute>();
    const routes = Array.from({ length: 20_000 }, () => route(filter));
    for (const each of routes) table.add(each);

    const removed = routes.filter((each, i) => i % 1000 !== 7 && table.remove(each));
    expect(removed).toHaveLength(19_980);

    expect(match(table, 'a/b').routes).toEqual(routes.filter((_, i) => i % 1000 === 7));
  });

  test('20,000 members of one group come and go, and the group with them', () => {
    const table = new RouteTable<TestRoute>();
    const members = Array.from({ length: 20_000 }, () => route('a', 'g'));
    for (const each of members) table.add(each);
    const [group] = match(table, 'a').groups as [SharedGroup<TestRoute>];
    group.cursor = 12;

    expect(members.slice(0, 19_995).every((each) => table.remove(each))).toBe(true);

    expect(match(table, 'a').groups).toEqual([group]);
    expect(group.cursor).toBe(12);
    expect([...group.members].sort(byId)).toEqual(members.slice(19_995));
    for (const each of members.slice(19_995)) table.remove(each);
    expect(match(table, 'a')).toEqual({ routes: [], groups: [] });
    expect(table).toMatchObject({ size: 0, groups: 0 });
  });

  test('1,000 groups on one filter are kept apart', () => {
    const table = new RouteTable<TestRoute>();
    const routes = Array.from({ length: 1_000 }, (_, i) => route('a/#', `g${i}`));
    for (const each of routes) table.add(each);
    expectLike(table, routes, 'a');
    for (const each of routes.slice(3)) expect(table.remove(each)).toBe(true);
    expectLike(table, routes.slice(0, 3), 'a');
    expect(table.groups).toBe(3);
  });

  test.each([1, 3, 30])('a visitor may remove the %d routes it is given', (count) => {
    const table = new RouteTable<TestRoute>();
    for (const filter of ['a', '+', '#']) {
      for (let i = 0; i < count; i++) table.add(route(filter));
    }
    let visited = 0;
    table.match('a', {
      route: (each) => {
        visited += 1;
        table.remove(each);
      },
      group: () => undefined,
    });

    expect([visited, table.size]).toEqual([3 * count, 0]);
  });
});

describe('revisions', () => {
  test('what was matched holds as long as they are unchanged', () => {
    fc.assert(
      fc.property(topicFilter, topicName, share, (filter, name, group) => {
        const table = new RouteTable<TestRoute>();
        const changed = route(filter, group);
        for (const change of [() => table.add(changed), () => table.remove(changed)]) {
          const before = [table.exactRevision(slot(name)), table.wildcardRevision];
          const found = match(table, name);
          change();
          const after = [table.exactRevision(slot(name)), table.wildcardRevision];
          const same = match(table, name);
          if (before[0] === after[0] && before[1] === after[1]) expect(same).toEqual(found);
        }
      }),
    );
  });

  test('a change raises the revision of its kind, and only that', () => {
    const table = new RouteTable<TestRoute>();
    for (const filter of ['a/größe', 'a/+', 'a/#', '__proto__']) {
      for (const group of ['', 'g']) {
        const changed = route(filter, group);
        for (const change of [() => table.add(changed), () => table.remove(changed)]) {
          const { wildcardRevision } = table;
          const exact = table.exactRevision(slot(filter));
          const other = table.exactRevision(slot(filter) ^ 1);
          change();
          expect(table.wildcardRevision - wildcardRevision).toBe(hasWildcard(filter) ? 1 : 0);
          expect(table.exactRevision(slot(filter)) - exact).toBe(hasWildcard(filter) ? 0 : 1);
          expect(table.exactRevision(slot(filter) ^ 1)).toBe(other);
        }
      }
    }
  });
});
