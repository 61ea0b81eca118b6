import { describe, expect, test } from '@jest/globals';
import { SeededRandom, topicOf } from '@shoalmq/testkit';
import type { Outbox } from '../src/delivery/outbox.ts';
import { chooseLocalMember, chooseMember } from '../src/delivery/shared-choice.ts';
import type { SharedStrategy } from '../src/delivery/shared-choice.ts';
import { Message } from '../src/message.ts';
import { NodeRoute, NodeTarget } from '../src/route/node-route.ts';
import type { SharedGroup } from '../src/route/route-table.ts';
import { SessionTarget, Subscription } from '../src/route/subscription.ts';
import type { RouteEntry } from '../src/route/subscription.ts';

type Kind = 'connected' | 'congested' | 'away' | 'closed';

const strategies: readonly SharedStrategy[] = [
  'round-robin',
  'random',
  'sticky',
  'hash-client-id',
  'hash-topic',
  'local-first',
];

function member(
  id: string,
  kind: Kind,
  { persistent = false, qos = 1 }: { persistent?: boolean; qos?: 0 | 1 | 2 } = {},
): Subscription {
  const target = new SessionTarget(id, id, persistent);
  if (kind !== 'away') {
    const outbox: Partial<Outbox> = { open: kind !== 'closed', congested: kind === 'congested' };
    target.outbox = outbox as Outbox;
  }
  const options = { qos, noLocal: false, retainAsPublished: false };
  return new Subscription({ filter: 't', share: 'g' }, target, options, 0);
}

function groupOf(...members: Subscription[]): SharedGroup<Subscription> {
  return { filter: 't', share: 'g', members, cursor: 0 };
}

function message(
  qos: 0 | 1 | 2,
  { topic = 't', publisher = 'p' }: { topic?: string; publisher?: string } = {},
): Message {
  return Message.of(topicOf(topic), new Uint8Array(0), { qos, retain: false, publisher });
}

function chooser(
  group: SharedGroup<Subscription>,
  strategy: SharedStrategy,
): (each?: Message) => string | undefined {
  const random = new SeededRandom(7);
  return (each = message(1)) => clientIdOf(chooseMember(group, each, strategy, random));
}

function times<T>(count: number, make: () => T): T[] {
  return Array.from({ length: count }, make);
}

describe.each(strategies)('%s', (strategy) => {
  test('an empty group has nobody', () => {
    expect(chooser(groupOf(), strategy)()).toBeUndefined();
  });

  test('members that can take messages come before all others', () => {
    const group = groupOf(
      member('away', 'away', { persistent: true }),
      member('congested', 'congested'),
      member('free', 'connected'),
      member('closed', 'closed'),
    );
    const choose = chooser(group, strategy);
    expect(new Set(times(20, choose))).toEqual(new Set(['free']));
  });

  test('connected members that are behind come before those that are away', () => {
    const group = groupOf(
      member('away', 'away', { persistent: true }),
      member('behind', 'congested'),
    );
    const choose = chooser(group, strategy);
    expect(new Set(times(20, choose))).toEqual(new Set(['behind']));
  });

  test('who is away gets what its session keeps: QoS 1 and 2, in persistent sessions', () => {
    const kept = groupOf(
      member('clean', 'away'),
      member('at most once', 'away', { persistent: true, qos: 0 }),
      member('kept', 'away', { persistent: true }),
    );
    const choose = chooser(kept, strategy);
    expect(times(6, () => choose(message(1)))).toEqual(times(6, () => 'kept'));
    expect(times(6, () => choose(message(2)))).toEqual(times(6, () => 'kept'));
    expect(choose(message(0))).toBeUndefined();
    expect(chooser(groupOf(member('clean', 'away')), strategy)()).toBeUndefined();
  });

  test('a member that has left is not chosen, whatever was remembered of it', () => {
    const group = groupOf(...['a', 'b', 'c'].map((id) => member(id, 'connected')));
    const choose = chooser(group, strategy);
    times(7, choose);
    (group.members as Subscription[]).splice(1, 2);
    expect(new Set(times(5, choose))).toEqual(new Set(['a']));
  });
});

describe.each(['round-robin', 'local-first'] as const)('%s', (strategy) => {
  test('members take turns', () => {
    const choose = chooser(
      groupOf(...['a', 'b', 'c'].map((id) => member(id, 'connected'))),
      strategy,
    );
    expect(times(7, choose)).toEqual(['a', 'b', 'c', 'a', 'b', 'c', 'a']);
  });

  test('a member that cannot is left out, and its neighbours take no more than their turns', () => {
    const choose = chooser(
      groupOf(member('a', 'connected'), member('b', 'congested'), member('c', 'connected')),
      strategy,
    );
    expect(times(6, choose)).toEqual(['a', 'c', 'a', 'c', 'a', 'c']);
  });

  test('members that are away take turns', () => {
    const group = groupOf(...['a', 'b', 'c'].map((id) => member(id, 'away', { persistent: true })));
    expect(times(6, chooser(group, strategy))).toEqual(['a', 'b', 'c', 'a', 'b', 'c']);
  });
});

test('random: every member is chosen about as often', () => {
  const choose = chooser(
    groupOf(...['a', 'b', 'c', 'd'].map((id) => member(id, 'connected'))),
    'random',
  );
  const chosen = times(4_000, choose);
  for (const id of ['a', 'b', 'c', 'd']) {
    const count = chosen.filter((each) => each === id).length;
    expect(count).toBeGreaterThan(850);
    expect(count).toBeLessThan(1_150);
  }
});

test('sticky: one member gets everything until it cannot, then another one does', () => {
  const a = member('a', 'connected');
  const b = member('b', 'connected');
  const choose = chooser(groupOf(a, b), 'sticky');
  expect(times(3, choose)).toEqual(['a', 'a', 'a']);
  a.target.outbox = undefined;
  expect(times(3, choose)).toEqual(['b', 'b', 'b']);
  a.target.outbox = b.target.outbox;
  expect(times(3, choose)).toEqual(['b', 'b', 'b']);
});

test('sticky: of members that are all away one gets everything', () => {
  const group = groupOf(...['a', 'b', 'c'].map((id) => member(id, 'away', { persistent: true })));
  expect(new Set(times(6, chooser(group, 'sticky'))).size).toBe(1);
});

test('hash-topic: the topic decides, whoever publishes', () => {
  const group = groupOf(...['a', 'b', 'c'].map((id) => member(id, 'connected')));
  const choose = chooser(group, 'hash-topic');
  const used = new Set<string | undefined>();
  for (let i = 0; i < 50; i++) {
    const chosen = choose(message(1, { topic: `t/${i}` }));
    used.add(chosen);
    for (let k = 0; k < 3; k++) {
      expect(choose(message(1, { topic: `t/${i}`, publisher: `p${k}` }))).toBe(chosen);
    }
  }
  expect(used.size).toBe(3);
});

test('hash-client-id: the publisher decides, whatever the topic', () => {
  const group = groupOf(...['a', 'b', 'c'].map((id) => member(id, 'connected')));
  const choose = chooser(group, 'hash-client-id');
  const used = new Set<string | undefined>();
  for (let i = 0; i < 50; i++) {
    const chosen = choose(message(1, { publisher: `p${i}` }));
    used.add(chosen);
    for (let k = 0; k < 3; k++) {
      expect(choose(message(1, { publisher: `p${i}`, topic: `t/${k}` }))).toBe(chosen);
    }
  }
  expect(used.size).toBe(3);
});

function clientIdOf(entry: RouteEntry | undefined): string | undefined {
  return entry instanceof Subscription ? entry.target.clientId : undefined;
}

test('members of which nobody knows whether they are connected are asked for, and come before those that are away', () => {
  const away = member('away', 'away', { persistent: true });
  const unknown = member('unknown', 'away', { persistent: true });
  unknown.target.seenAt = undefined;
  const connected = member('connected', 'connected');
  const located: string[] = [];
  const choose = (group: SharedGroup<Subscription>) => {
    const random = new SeededRandom(7);
    const locate = ({ clientId }: SessionTarget) => void located.push(clientId);
    return clientIdOf(chooseMember(group, message(0), 'round-robin', random, locate));
  };
  expect(choose(groupOf(away, unknown))).toBe('unknown');
  expect(choose(groupOf(away, unknown, connected))).toBe('connected');
  expect(located).toEqual(['unknown', 'unknown']);
});

test('hash-client-id: of the members here a publisher always has the same one, and each member has its share', () => {
  const remote = new NodeRoute(
    { filter: 't', share: 'g' },
    new NodeTarget({ id: 'n2', incarnation: 'i' }),
  );
  const here = ['a', 'b', 'c'].map((id) => member(id, 'connected'));
  const members = [remote, here[0]!, remote, here[1]!, here[2]!, remote];
  const group: SharedGroup<RouteEntry> = { filter: 't', share: 'g', members, cursor: 0 };
  const counts = new Map<string | undefined, number>();
  for (let n = 0; n < 300; n++) {
    const of = message(1, { publisher: `publisher ${n}` });
    const chosen = clientIdOf(chooseLocalMember(group, of, 'hash-client-id'));
    expect(clientIdOf(chooseLocalMember(group, of, 'hash-client-id'))).toBe(chosen);
    counts.set(chosen, (counts.get(chosen) ?? 0) + 1);
  }
  expect([...counts.keys()].sort()).toEqual(['a', 'b', 'c']);
  for (const count of counts.values()) expect(count).toBeGreaterThan(60);
});

test('nobody is chosen on a node that is gone', () => {
  const node = new NodeTarget({ id: 'n2', incarnation: 'i' });
  const remote = new NodeRoute({ filter: 't', share: 'g' }, node);
  const away = member('away', 'away', { persistent: true });
  away.target.seenAt = '';
  const group: SharedGroup<RouteEntry> = {
    ...{ filter: 't', share: 'g', cursor: 0 },
    members: [remote, away],
  };
  const choose = () => chooseMember(group, message(1), 'round-robin', new SeededRandom(1));
  expect(choose()).toBe(remote);
  node.gone = true;
  expect(choose()).toBe(away);
});
