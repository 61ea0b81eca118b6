import { expect, test } from '@jest/globals';
import { TestNode } from '@shoalmq/testkit';
import { SlowStore } from './slow-store.ts';

const FAREWELL = { serverReference: '', willGraceMs: 30_000 };
const session = { clean: false, properties: { sessionExpiryInterval: 1_000 } };
const will = { topic: 'will', payload: Buffer.from('gone'), qos: 1 as const, retain: false };

test('a client leaves once what it has published is kept and acknowledged, and is told after its session is free', async () => {
  const slow = new SlowStore();
  const order: string[] = [];
  const node = new TestNode({
    wrapStore: (store) => {
      const wrapped = slow.wrap(store);
      const release = wrapped.release.bind(wrapped);
      wrapped.release = async (request) => {
        const result = await release(request);
        order.push('released');
        return result;
      };
      return wrapped;
    },
  });
  const subscriber = await node.connect({ clientId: 's', ...session });
  await subscriber.subscribe('t', { qos: 1 });
  const publisher = await node.connect({ clientId: 'p' });
  publisher.publish({ topic: 't', qos: 1, payload: 'kept' });
  const eviction = node.node.evict(FAREWELL);
  eviction.advance(10);
  await node.settle();
  eviction.advance(0);
  expect(eviction.left).toBe(1);
  expect(publisher.packets()).toEqual([]);
  // What is sent from now on is not read: it is not acknowledged either.
  publisher.publish({ topic: 't', qos: 1, payload: 'too late' });

  slow.run();
  eviction.advance(10);
  expect(publisher.packets()).toMatchObject([{ cmd: 'puback' }]);
  order.length = 0;
  await node.settle();
  expect(order).toEqual(['released']);
  expect(publisher.packets()).toEqual([]);
  eviction.advance(0);
  expect(publisher.packets()).toMatchObject([{ cmd: 'disconnect', reasonCode: 0x8b }]);
  expect(eviction.left).toBe(0);
  expect(node.counters.connectionsClosed.drain).toBe(2);

  const back = await node.connect({ clientId: 's', ...session });
  slow.run();
  await node.settle();
  expect(back.publishes().map(({ payload }) => String(payload))).toEqual(['kept']);
});

test('a client that does not get its acknowledgements in time leaves without them', async () => {
  const slow = new SlowStore();
  const node = new TestNode({ wrapStore: slow.wrap });
  const subscriber = await node.connect({ clientId: 's', ...session });
  await subscriber.subscribe('t', { qos: 1 });
  const publisher = await node.connect({ clientId: 'p' });
  publisher.publish({ topic: 't', qos: 1 });
  const eviction = node.node.evict(FAREWELL);
  eviction.advance(10);
  await node.pass(9_000);
  eviction.advance(0);
  await node.settle();
  expect(publisher.packets()).toEqual([]);
  await node.pass(2_000);
  eviction.advance(0);
  await node.settle();
  eviction.advance(0);
  expect(publisher.packets()).toMatchObject([{ cmd: 'disconnect' }]);
});

test('a store that is away keeps no client here for long', async () => {
  const node = new TestNode({
    wrapStore: (store) => {
      store.release = () => new Promise(() => undefined);
      return store;
    },
  });
  const client = await node.connect();
  const eviction = node.node.evict(FAREWELL);
  eviction.advance(1);
  await node.pass(4_000);
  eviction.advance(0);
  expect(client.packets()).toEqual([]);
  await node.pass(2_000);
  eviction.advance(0);
  expect(client.packets()).toMatchObject([{ cmd: 'disconnect', reasonCode: 0x8b }]);
  expect(client.channel.ended).toBe(true);
  expect(eviction.left).toBe(0);
});

test('as many leave as the caller says; 3.x clients, and those without CONNACK, are told nothing', async () => {
  const node = new TestNode({
    access: { authenticate: () => new Promise(() => undefined) },
  });
  const waiting = node.connect({ clientId: 'waiting' }).catch(() => undefined);
  await waiting;
  const others = new TestNode();
  const five = await others.connect({ clientId: 'five' });
  const old = await others.connect({ clientId: 'old', version: 4 });

  const eviction = others.node.evict({ ...FAREWELL, serverReference: 'elsewhere:1883' });
  eviction.advance(1);
  await others.settle();
  eviction.advance(0);
  expect(eviction.left).toBe(1);
  expect(five.packets()).toMatchObject([
    {
      cmd: 'disconnect',
      reasonCode: 0x9c,
      properties: { serverReference: 'elsewhere:1883' },
    },
  ]);
  expect(five.channel.ended).toBe(true);
  eviction.advance(1);
  await others.settle();
  eviction.advance(0);
  expect(old.packets()).toEqual([]);
  expect(old.channel.ended).toBe(true);

  const another = node.node.evict(FAREWELL);
  another.advance(1);
  await node.settle();
  another.advance(0);
  expect(another.left).toBe(0);
  expect(node.counters.connectionsClosed.drain).toBe(1);
});

test.each([
  ['clean', { clean: true }],
  ['persistent', session],
])(
  'P8: the will of a %s session is cancelled by a client that is back in time, and published otherwise',
  async (_kind, fields) => {
    const node = new TestNode();
    const watcher = await node.connect({ clientId: 'watcher' });
    await watcher.subscribe('will');
    await node.connect({ clientId: 'a', will, ...fields });
    await node.connect({ clientId: 'b', will, ...fields });
    const eviction = node.node.evict(FAREWELL);
    eviction.advance(3);
    await node.settle();
    eviction.advance(0);
    expect(eviction.left).toBe(0);
    const again = await node.connect({ clientId: 'watcher' });
    await again.subscribe('will');
    await node.connect({ clientId: 'a', will, ...fields });
    await node.pass(29_000);
    expect(again.publishes()).toEqual([]);
    await node.pass(2_000);
    expect(again.publishes()).toHaveLength(1);
    await node.pass(100_000);
    expect(again.publishes()).toEqual([]);
  },
);
