import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import type { Outbox } from '../src/delivery/outbox.ts';
import type { ProtocolVersion, QoS } from '../src/packet.ts';
import { Own, matchesOf } from '../src/route/matches.ts';
import type { Matches } from '../src/route/matches.ts';
import { RouteTable } from '../src/route/route-table.ts';
import { SessionTarget, Subscription } from '../src/route/subscription.ts';
import type { RouteEntry } from '../src/route/subscription.ts';
import { matches as filterMatches } from '../src/topic/filter.ts';
import { Topic, TopicTable, hashBytes } from '../src/topic/topic.ts';
import { utf8Bytes } from '../src/topic/utf8.ts';

interface Client {
  readonly id: string;
  readonly version: ProtocolVersion;
  readonly persistent: boolean;
  /** Packets to it are like those to others: no alias, no size limit. */
  readonly plain: boolean;
}

interface Options {
  readonly qos: QoS;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  readonly identifier: number;
}

const plainOptions: Options = { qos: 0, noLocal: false, retainAsPublished: false, identifier: 0 };

/** A topic of its own: what it remembers of one route table must not be taken for another. */
function topicOf(name: string, seed = 0): Topic {
  const bytes = utf8Bytes(name);
  return new Topic(name, bytes, hashBytes(bytes, 0, bytes.length, seed));
}

function targetOf({ id, version, persistent, plain }: Client): SessionTarget {
  const target = new SessionTarget(id, id, persistent);
  const outbox: Partial<Outbox> = { clientId: id, version, plain, open: true };
  target.outbox = outbox as Outbox;
  return target;
}

function clientOf(id: string, fields: Partial<Client> = {}): SessionTarget {
  return targetOf({ id, version: 5, persistent: false, plain: true, ...fields });
}

function subscribed(
  table: RouteTable<Subscription>,
  target: SessionTarget,
  filter: string,
  { identifier, ...options }: Options = plainOptions,
  share = '',
): Subscription {
  const subscription = new Subscription({ filter, share }, target, options, identifier);
  table.add(subscription);
  return subscription;
}

interface Copy {
  readonly client: string;
  readonly qos: number;
  readonly retainAsPublished: boolean;
  readonly identifiers: readonly number[];
}

/** The copies that `publisher`'s message leads to. */
function copies(matches: Matches, publisher: string): Copy[] {
  const concerns = (own: number, client: string): boolean =>
    own === Own.Any || (own === Own.Only) === (client === publisher);
  const found: Copy[] = [];
  for (const group of matches.groups) {
    for (const member of group.members) {
      if (!concerns(group.own, member.clientId)) continue;
      expect(group.form.version).toBe(member.version);
      found.push(copy(member.clientId, group, group.form.subscriptionIds));
    }
  }
  for (const delivery of matches.persistent) {
    const { clientId } = delivery.target;
    if (concerns(delivery.own, clientId)) {
      found.push(copy(clientId, delivery, delivery.subscriptionIds));
    }
  }
  return found.sort((a, b) => (a.client < b.client ? -1 : 1));
}

function copy(
  client: string,
  { qos, retainAsPublished }: { readonly qos: number; readonly retainAsPublished: boolean },
  identifiers: readonly number[],
): Copy {
  return { client, qos, retainAsPublished, identifiers: [...identifiers].sort((a, b) => a - b) };
}

const client: fc.Arbitrary<Client[]> = fc
  .array(
    fc.record({
      version: fc.constantFrom<ProtocolVersion>(3, 4, 5, 5),
      persistent: fc.boolean(),
      plain: fc.boolean(),
    }),
    { minLength: 1, maxLength: 6 },
  )
  .map((all) => all.map((each, index) => ({ id: `c${index}`, ...each })));

const subscription = fc.record({
  client: fc.nat(5),
  filter: fc.constantFrom('a', 'a/b', '+', '+/b', 'a/+', '#', 'a/#', 'b', '+/+/#'),
  qos: fc.constantFrom<QoS>(0, 1, 2),
  noLocal: fc.boolean(),
  retainAsPublished: fc.boolean(),
  identifier: fc.constantFrom(0, 0, 1, 2, 268_435_455),
});

test('[MQTT-3.3.4-2][MQTT-3.3.4-3][MQTT-3.8.3-3] one copy for each session that matches, with the highest QoS and all identifiers of the subscriptions that the message is for', () => {
  fc.assert(
    fc.property(
      client,
      fc.array(subscription, { maxLength: 40 }),
      fc.constantFrom('a', 'a/b', 'b', 'c/d/e', '$SYS/b'),
      fc.integer(),
      (clients, wanted, topic, seed) => {
        const table = new RouteTable<Subscription>(seed);
        const targets = clients.map(targetOf);
        const known = new Map<
          string,
          { target: SessionTarget; options: Options; filter: string }
        >();
        for (const { client: pick, filter, ...options } of wanted) {
          const target = targets[pick % targets.length]!;
          const key = `${target.clientId} ${filter}`;
          if (known.has(key)) continue;
          known.set(key, { target, options, filter });
          subscribed(table, target, filter, options);
        }
        const matches = matchesOf(table, topicOf(topic, seed));
        for (const publisher of [...clients.map(({ id }) => id), 'somebody else']) {
          const expected: Copy[] = [];
          for (const { id, version, persistent } of clients) {
            const own = [...known.values()].filter(
              ({ target, options, filter }) =>
                target.clientId === id &&
                filterMatches(filter, topic) &&
                !(options.noLocal && id === publisher),
            );
            if (own.length === 0) continue;
            const identifiers = own.map(({ options }) => options.identifier).filter((n) => n > 0);
            expected.push({
              client: id,
              qos: Math.max(...own.map(({ options }) => options.qos)),
              retainAsPublished: own.some(({ options }) => options.retainAsPublished),
              // Persistent sessions may be on an older version today and on 5.0 when the message is sent.
              identifiers: version === 5 || persistent ? identifiers.sort((a, b) => a - b) : [],
            });
          }
          expect(copies(matches, publisher)).toEqual(expected);
        }
      },
    ),
  );
});

test('clients that get the same bytes are one group', () => {
  const table = new RouteTable<Subscription>();
  for (let i = 0; i < 10; i++) subscribed(table, clientOf(`five-${i}`), 't');
  for (let i = 0; i < 10; i++) subscribed(table, clientOf(`four-${i}`, { version: 4 }), 't');
  for (let i = 0; i < 10; i++) {
    subscribed(table, clientOf(`one-${i}`), '+', { ...plainOptions, qos: 1 });
  }
  const { groups } = matchesOf(table, topicOf('t'));
  expect(groups.map(({ members }) => members.length)).toEqual([10, 10, 10]);
});

test('clients with identifiers, aliases or a size limit are a group each', () => {
  const table = new RouteTable<Subscription>();
  subscribed(table, clientOf('plain'), 't');
  subscribed(table, clientOf('identifier 1'), 't', { ...plainOptions, identifier: 1 });
  subscribed(table, clientOf('identifier 1 too'), 't', { ...plainOptions, identifier: 1 });
  subscribed(table, clientOf('limited', { plain: false }), 't');
  // 3.1.1 clients are told no identifiers, and so do not differ by them.
  subscribed(table, clientOf('four', { version: 4 }), 't', { ...plainOptions, identifier: 1 });
  subscribed(table, clientOf('four too', { version: 4 }), 't');
  const { groups } = matchesOf(table, topicOf('t'));
  expect(groups.map(({ members }) => members.map(({ clientId }) => clientId))).toEqual([
    ['plain'],
    ['identifier 1'],
    ['identifier 1 too'],
    ['limited'],
    ['four', 'four too'],
  ]);
});

test('the only delivery, to one clean session that wants its own messages too, has a path of its own', () => {
  const single = (
    fields: Partial<Client>,
    options: Partial<Options> = {},
    share = '',
  ): string | undefined => {
    const table = new RouteTable<Subscription>();
    subscribed(table, clientOf('c', fields), 't', { ...plainOptions, ...options }, share);
    return matchesOf(table, topicOf('t')).single?.clientId;
  };
  expect(single({})).toBe('c');
  expect(single({ plain: false }, { identifier: 4, qos: 2 })).toBe('c');
  expect(single({ persistent: true })).toBeUndefined();
  expect(single({}, { noLocal: true })).toBeUndefined();
  expect(single({}, {}, 'share')).toBeUndefined();

  const table = new RouteTable<Subscription>();
  subscribed(table, clientOf('a'), 't');
  subscribed(table, clientOf('b'), '+');
  expect(matchesOf(table, topicOf('t')).single).toBeUndefined();
  expect(matchesOf(new RouteTable(), topicOf('t')).empty).toBe(true);
});

test('shared groups stand beside the copies of their members', () => {
  const table = new RouteTable<Subscription>();
  const both = clientOf('both');
  subscribed(table, both, 't', plainOptions, 'g');
  subscribed(table, both, 't');
  subscribed(table, clientOf('member'), 't', plainOptions, 'g');
  subscribed(table, clientOf('other share'), '+', plainOptions, 'h');
  const matches = matchesOf(table, topicOf('t'));
  expect(copies(matches, '').map(({ client: id }) => id)).toEqual(['both']);
  expect(matches.shared.map(({ share, members }) => [share, members.map(clientIdOf)])).toEqual([
    ['g', ['both', 'member']],
    ['h', ['other share']],
  ]);
});

test('a clean session whose connection is gone is left out, a persistent one is not', () => {
  const table = new RouteTable<Subscription>();
  const clean = clientOf('clean');
  clean.outbox = undefined;
  const away = clientOf('away', { persistent: true });
  away.outbox = undefined;
  subscribed(table, clean, 't');
  subscribed(table, away, 't');
  expect(copies(matchesOf(table, topicOf('t')), '').map(({ client: id }) => id)).toEqual(['away']);
});

test('matches are kept at the topic until a change may concern it', () => {
  const table = new RouteTable<Subscription>();
  const topic = topicOf('kept/a');
  const other = topicOf('kept/b');
  const first = subscribed(table, clientOf('1'), 'kept/a');
  const before = matchesOf(table, topic);
  expect(matchesOf(table, topic)).toBe(before);

  const added = subscribed(table, clientOf('2'), 'kept/a');
  expect(copies(matchesOf(table, topic), '')).toHaveLength(2);
  const wildcard = subscribed(table, clientOf('3'), 'kept/+');
  expect(copies(matchesOf(table, topic), '')).toHaveLength(3);
  expect(copies(matchesOf(table, other), '')).toHaveLength(1);
  table.remove(wildcard);
  table.remove(added);
  table.remove(first);
  expect(matchesOf(table, topic).empty).toBe(true);
  expect(matchesOf(table, other).empty).toBe(true);
});

test('a change of another filter without wildcards does not cost a topic its matches', () => {
  const table = new RouteTable<Subscription>();
  const topic = topicOf('kept/a');
  subscribed(table, clientOf('1'), 'kept/a');
  const before = matchesOf(table, topic);
  for (let i = 0; i < 20; i++) subscribed(table, clientOf(`other-${i}`), `other/${i}`);
  expect(matchesOf(table, topic)).toBe(before);
});

function clientIdOf(entry: RouteEntry | undefined): string | undefined {
  return entry instanceof Subscription ? entry.target.clientId : undefined;
}

test('topics with the same subscribers share what is remembered of them', () => {
  const table = new RouteTable<Subscription>();
  for (let i = 0; i < 50; i++) subscribed(table, clientOf(`c${String(i)}`), '#');
  const [one, two, other] = [topicOf('one'), topicOf('two'), topicOf('other')];
  subscribed(table, clientOf('more'), 'other');
  expect(matchesOf(table, two).groups).toBe(matchesOf(table, one).groups);
  expect(matchesOf(table, other).groups[0]?.members).toHaveLength(51);
  subscribed(table, clientOf('late'), '#');
  expect(matchesOf(table, one).groups[0]?.members).toHaveLength(51);
  expect(matchesOf(table, two).groups).toBe(matchesOf(table, one).groups);
});

test('what is remembered of topics with subscribers of their own is bounded, and so are the topics for that', () => {
  const table = new RouteTable<Subscription>();
  const members = 200;
  for (let i = 0; i < members; i++) subscribed(table, clientOf(`c${String(i)}`), '#');
  const weightMax = 100_000;
  const topics = new TopicTable(4_096, 0, 4_194_304, weightMax);
  const names = Array.from({ length: 1_000 }, (_, i) => `t${String(i)}`);
  let remembered = 0;
  for (const name of names) {
    subscribed(table, clientOf(`own ${name}`), name);
    const bytes = utf8Bytes(name);
    matchesOf(table, topics.add(name, bytes));
  }
  for (const name of names) {
    const bytes = utf8Bytes(name);
    const old = topics.find(bytes, 0, bytes.length);
    if (old?.matches !== undefined) remembered += 8 * members;
  }
  expect(remembered).toBeGreaterThan(weightMax / 2);
  expect(remembered).toBeLessThan(2 * weightMax + 8 * members);
  // A topic in steady use stays.
  const hot = utf8Bytes('t999');
  for (let i = 0; i < 500; i++) {
    const name = `u${String(i)}`;
    subscribed(table, clientOf(`own ${name}`), name);
    matchesOf(table, topics.add(name, utf8Bytes(name)));
    expect(topics.find(hot, 0, hot.length)?.name).toBe('t999');
  }
});
