import { expect, test } from '@jest/globals';
import { Counters } from '@shoalmq/core';
import { LoadAverages } from '../src/sys/load-averages.ts';
import { SysTree } from '../src/sys/sys-topics.ts';
import type { SysLevels } from '../src/sys/sys-topics.ts';

const levels: SysLevels = {
  sessionsConnected: 3,
  sessionsOffline: 2,
  subscriptions: 7,
  sharedGroups: 1,
  retainedMessages: 10,
  retainedBytes: 100,
  queuedMessages: 5,
  queuedBytes: 50,
};

test('the tree has the names that users of Mosquitto know', () => {
  const counters = new Counters();
  counters.packetsReceived[1] = 4;
  counters.packetsReceived[3] = 6;
  counters.countPublishReceived(0, 30);
  counters.listener('a').bytesReceived = 70;
  counters.listener('b').bytesReceived = 7;
  counters.messagesDropped.queue_full = 8;
  counters.messagesDropped.no_subscribers = 1000;
  counters.sessionEvents.expired = 9;
  const topics = Object.fromEntries(new SysTree('0.1.0', 0).update(61_500, counters, levels));
  expect(topics).toMatchObject({
    '$SYS/broker/version': 'shoal version 0.1.0',
    '$SYS/broker/uptime': '61 seconds',
    '$SYS/broker/clients/connected': '3',
    '$SYS/broker/clients/disconnected': '2',
    '$SYS/broker/clients/total': '5',
    '$SYS/broker/clients/maximum': '3',
    '$SYS/broker/clients/expired': '9',
    '$SYS/broker/messages/received': '10',
    '$SYS/broker/messages/stored': '15',
    '$SYS/broker/store/messages/count': '15',
    '$SYS/broker/store/messages/bytes': '150',
    '$SYS/broker/publish/messages/received': '1',
    '$SYS/broker/publish/messages/dropped': '8',
    '$SYS/broker/publish/bytes/received': '30',
    '$SYS/broker/bytes/received': '77',
    '$SYS/broker/subscriptions/count': '7',
    '$SYS/broker/shared_subscriptions/count': '1',
    '$SYS/broker/retained messages/count': '10',
  });
  for (const period of ['1min', '5min', '15min']) {
    expect(topics[`$SYS/broker/load/messages/received/${period}`]).toMatch(/^\d+\.\d\d$/);
  }
});

test('only what changed is returned again', () => {
  const counters = new Counters();
  const tree = new SysTree('0.1.0', 0);
  const all = tree.update(10_000, counters, levels);
  expect(all.length).toBeGreaterThan(40);
  const fewer = { ...levels, sessionsConnected: 1 };
  expect(tree.update(20_000, counters, fewer)).toEqual([
    ['$SYS/broker/uptime', '20 seconds'],
    ['$SYS/broker/clients/connected', '1'],
    ['$SYS/broker/clients/total', '3'],
  ]);
});

test('two updates at one moment give numbers', () => {
  const tree = new SysTree('0.1.0', 5);
  for (const [, payload] of tree.update(5, new Counters(), levels)) {
    expect(payload).not.toMatch(/NaN|Infinity/);
  }
});

test('a steady rate becomes the average, the shorter period first', () => {
  const averages = new LoadAverages(1_000);
  let total = 1_000;
  let rates = averages.update(total, 10);
  for (let update = 0; update < 60; update++) rates = averages.update((total += 100), 10);
  expect(rates['1min']).toBeCloseTo(600, 0);
  expect(rates['5min']).toBeLessThan(rates['1min']);
  expect(rates['15min']).toBeLessThan(rates['5min']);
  for (let update = 0; update < 6_000; update++) rates = averages.update((total += 100), 10);
  expect(rates['15min']).toBeCloseTo(600, 3);
});

test('a burst fades by 1/e in a period', () => {
  const averages = new LoadAverages();
  const burst = averages.update(1_000, 1)['1min'];
  expect(averages.update(1_000, 60)['1min'] / burst).toBeCloseTo(1 / Math.E, 6);
});

test('what nobody counts has no topic', () => {
  const unknown = { sessionsOffline: undefined, queuedMessages: undefined, queuedBytes: undefined };
  const topics = new SysTree('0.1.0', 0).update(1_000, new Counters(), { ...levels, ...unknown });
  const names = topics.map(([topic]) => topic.slice('$SYS/broker/'.length));
  expect(names).toContain('clients/connected');
  expect(names).toContain('retained messages/count');
  expect(names).not.toEqual(
    expect.arrayContaining([expect.stringMatching(/^(clients\/(disconnected|total)|.*stor.*)$/)]),
  );
});
