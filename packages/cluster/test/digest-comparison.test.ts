import { expect, test } from '@jest/globals';
import { FactDigest } from '@shoalmq/core';
import { DigestComparison } from '../src/digest-comparison.ts';
import { TestCluster, until } from './cluster-harness.ts';

/** A node that knows these topics, and compares; time passes by command. */
function nodeWith(...topics: string[]) {
  const digest = new FactDigest();
  const time = { nowMs: 0 };
  const comparison = new DigestComparison(digest, () => time.nowMs, 8_000);
  for (const topic of topics) digest.toggleRetained(topic);
  return { digest, time, comparison };
}

/** What a peer that knows these topics says, three seconds after it was asked last. */
function told(node: ReturnType<typeof nodeWith>, ...topics: string[]): boolean {
  node.time.nowMs += 3_000;
  return node.comparison.compare('peer', nodeWith(...topics).digest.sums);
}

test('a peer that differs is found out when it has done so for three comparisons', () => {
  const node = nodeWith('a', 'b');
  node.time.nowMs += 60_000;
  expect(told(node, 'a', 'b')).toBe(false);
  // It may have lost 'b' only now.
  expect([told(node, 'a'), told(node, 'a'), told(node, 'a'), told(node, 'a')]).toEqual([
    false,
    false,
    false,
    true,
  ]);
});

test('a peer that is ahead, or behind, is not', () => {
  const node = nodeWith('t0');
  const topics = ['t0'];
  for (let round = 1; round < 20; round++) {
    const before = [...topics];
    topics.push(`t${round}`);
    if (round % 2 === 0) {
      node.digest.toggleRetained(`t${round}`);
      expect(told(node, ...before)).toBe(false);
    } else {
      expect(told(node, ...topics)).toBe(false);
      node.digest.toggleRetained(`t${round}`);
    }
  }
});

test('a sum that this node had long ago counts no longer', () => {
  const node = nodeWith('a', 'b');
  node.time.nowMs += 60_000;
  node.digest.toggleRetained('b');
  const rounds = Array.from({ length: 6 }, () => told(node, 'a', 'b'));
  expect(rounds).toContain(true);
});

test('starting again forgets what was compared', () => {
  const node = nodeWith('a');
  node.time.nowMs += 60_000;
  expect([told(node, 'b'), told(node, 'b')]).toEqual([false, false]);
  node.comparison.startAgain();
  expect([told(node, 'b'), told(node, 'b'), told(node, 'b')]).toEqual([false, false, true]);
});

test('a route that a node lost is noticed, and comes back', async () => {
  await using cluster = new TestCluster();
  const one = await cluster.add({ digestMs: 200 });
  const two = await cluster.add({ digestMs: 200 });
  const persistent = { clean: false, clientId: 'p', properties: { sessionExpiryInterval: 1_000 } };
  const sleeper = await two.connect(persistent);
  await sleeper.subscribe('queue/+', 1);
  const clean = await two.connect();
  await clean.subscribe('now/+', 1);
  const publisher = await one.connect();
  await publisher.publish({ topic: 'kept', qos: 1, retain: true, payload: 'k' });

  // Behind the back of everything that keeps the tables equal.
  for (const fact of [...one.node.facts.all()]) {
    one.node.facts.apply({ change: 'remove', fact });
  }
  expect([...one.node.facts.all()]).toEqual([]);
  await until('a mismatch', () => one.reports.some(({ event }) => event === 'cluster.mismatch'));
  await until('the routes', () => [...one.node.facts.all()].length === 3);
  expect(one.cluster.health()).toEqual({ ready: true, problems: [] });
  expect(one.cluster.counters.mismatches).toBe(1);
  await publisher.publish({ topic: 'now/1', qos: 1, payload: 'n' });
  expect(await clean.payload()).toBe('n');
  await publisher.publish({ topic: 'queue/1', qos: 1, payload: 'q' });
  expect(await sleeper.payload()).toBe('q');
});

test('a route to clean sessions that are not there is taken back by their node', async () => {
  await using cluster = new TestCluster();
  const one = await cluster.add({ digestMs: 200 });
  const two = await cluster.add({ digestMs: 200 });
  const node = two.node.identity;
  await cluster.state.changeFacts([
    { change: 'add', fact: { kind: 'node', node, filter: 'stray/+', weight: 1 } },
  ]);
  await until('the stray', () => one.node.facts.filtersOf(node).includes('stray/+'));
  await until('its end', () => one.node.facts.filtersOf(node).length === 0);
});
