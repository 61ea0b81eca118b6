import { setTimeout as delay } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import {
  Device,
  FlakyProxy,
  History,
  RedisProcess,
  ShoalCluster,
  checkHistory,
  hasRedisServer,
  pollUntil,
  violationSummary,
} from '@shoalmq/testkit';

const PUBLISHERS = 20;
/** Longer than a lease: the node that is cut off is suspended. */
const CUT_MS = 12_000;
const MOVE_AFTER_MS = 6_000;

const withRedis = hasRedisServer() ? test : test.skip;

withRedis(
  'P2: publishers that left a node while it was cut off from Redis: what it still had to do makes no duplicates',
  async () => {
    await using redis = await RedisProcess.start();
    await using proxy = await FlakyProxy.start(redis.port);
    await using cluster = await ShoalCluster.start({
      nodes: 2,
      redisUrl: redis.url,
      args: (id) => (id === 'n1' ? ['--redis', `redis://${proxy.address}`] : []),
    });
    const history = new History();
    let home = 'n1';
    const publishers = Array.from(
      { length: PUBLISHERS },
      (_, index) =>
        new Device({ clientId: `p-${index}`, history, port: () => cluster.portOf(home) }),
    );
    const subscribers = [true, false].map(
      (clean) =>
        new Device({
          ...{ clientId: clean ? 'clean' : 'persistent', history, clean },
          port: () => cluster.portOf('n2'),
        }),
    );
    const devices = [...publishers, ...subscribers];
    try {
      await Promise.all(devices.map((device) => device.start()));
      for (const subscriber of subscribers) await subscriber.subscribe('t/+', 2);
      const progress = { over: false };
      const load = (async () => {
        for (let turn = 0; !progress.over; turn++) {
          for (const [index, publisher] of publishers.entries()) {
            if (publisher.unsettled < 50) publisher.publish(`t/${index}`, 2);
          }
          await delay(10);
        }
      })();
      await delay(1_000);
      history.record({ op: 'fault', phase: 'invoke', client: 'n1' });
      proxy.pause();
      await delay(MOVE_AFTER_MS);
      home = 'n2';
      for (const publisher of publishers) publisher.cut();
      await delay(CUT_MS - MOVE_AFTER_MS);
      proxy.resume();
      history.record({ op: 'fault', phase: 'ok', client: 'n1' });
      await delay(2_000);
      progress.over = true;
      await load;
      await pollUntil('every message is answered', () =>
        publishers.every(({ unsettled }) => unsettled === 0),
      );
      await cluster.ready('n1');
      // The last of each publisher comes behind all others.
      const last = publishers.map((publisher, index) => publisher.publish(`t/${index}`, 2));
      await Promise.all(publishers.map((publisher) => publisher.settled()));
      await pollUntil('the last messages are there', () => {
        const came = [...history].filter(
          ({ op, publisher, seq }) => op === 'deliver' && last[Number(publisher.slice(2))] === seq,
        );
        return came.length >= PUBLISHERS * subscribers.length;
      });
      history.record({ op: 'end' });
      const violations = checkHistory(history);
      expect(violationSummary(violations)).toBe('');
      expect([...history].some(({ op }) => op === 'resend')).toBe(true);
    } finally {
      for (const device of devices) device.end({ abruptly: true });
    }
  },
  180_000,
);
