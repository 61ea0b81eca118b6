import { expect, test } from '@jest/globals';
import { TestNode } from '@shoalmq/testkit';
import type { MemoryClient } from '@shoalmq/testkit';

const FILTER = '$share/g/t';

function member(node: TestNode, fields: { clientId?: string; persistent?: boolean } = {}) {
  const { clientId, persistent = false } = fields;
  return node.connect({
    ...(clientId === undefined ? {} : { clientId }),
    clean: !persistent,
    properties: { receiveMaximum: 2, ...(persistent && { sessionExpiryInterval: 60 }) },
  });
}

async function publishMany(node: TestNode, publisher: MemoryClient, count: number): Promise<void> {
  for (let i = 0; i < count; i++) publisher.publish({ topic: 't', payload: String(i), qos: 1 });
  await node.settle();
}

/** Acknowledges whatever comes until nothing does; returns the payloads. */
async function drain(node: TestNode, client: MemoryClient): Promise<string[]> {
  const payloads: string[] = [];
  for (;;) {
    const publishes = client.publishes();
    if (publishes.length === 0) return payloads;
    for (const { payload, messageId } of publishes) {
      payloads.push(payload.toString());
      client.send({ cmd: 'puback', messageId: messageId!, reasonCode: 0 });
    }
    await node.settle();
  }
}

function numbers(count: number): string[] {
  return Array.from({ length: count }, (_, i) => String(i));
}

test('a member that is behind is passed over until it has caught up', async () => {
  const node = new TestNode({ limits: { waitingMessagesMax: 40 } });
  const publisher = await node.connect();
  const slow = await member(node);
  const quick = await node.connect();
  await slow.subscribe(FILTER, { qos: 1 });
  await quick.subscribe(FILTER, { qos: 1 });
  await publishMany(node, publisher, 200);
  const toQuick = await drain(node, quick);
  // Of 200 in turns it would have been 100.
  expect(toQuick.length).toBeGreaterThan(180);
  expect(publisher.channel.readingPaused).toBe(false);
  const toSlow = await drain(node, slow);
  expect([...toSlow, ...toQuick].sort()).toEqual(numbers(200).sort());
  await publishMany(node, publisher, 10);
  expect(await drain(node, slow)).toHaveLength(5);
});

test('when all members are behind the publisher is slowed down, and none of them is given up', async () => {
  const node = new TestNode({ limits: { waitingMessagesMax: 40 } });
  const publisher = await node.connect();
  const members = [await member(node), await member(node)];
  for (const each of members) await each.subscribe(FILTER, { qos: 1 });
  await publishMany(node, publisher, 500);
  expect(publisher.channel.readingPaused).toBe(true);
  const payloads: string[] = [];
  for (let round = 0; round < 100; round++) {
    for (const each of members) payloads.push(...(await drain(node, each)));
    await node.settle();
  }
  expect(publisher.channel.readingPaused).toBe(false);
  expect(members.map(({ channel }) => channel.ended)).toEqual([false, false]);
  expect(payloads.sort()).toEqual(numbers(500).sort());
});

test('what waits for a member that ends goes on to the others, and from them on to the next', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  const first = await member(node);
  await first.subscribe(FILTER, { qos: 1 });
  await publishMany(node, publisher, 10);
  expect(first.publishes().map(({ payload }) => payload.toString())).toEqual(['0', '1']);
  const second = await member(node);
  await second.subscribe(FILTER, { qos: 1 });
  first.channel.disconnect();
  await node.settle();
  expect(second.publishes().map(({ payload }) => payload.toString())).toEqual(['2', '3']);
  const third = await member(node, { clientId: 'third', persistent: true });
  await third.subscribe(FILTER, { qos: 1 });
  second.channel.disconnect();
  await node.settle();
  expect(await drain(node, third)).toEqual(['4', '5', '6', '7', '8', '9']);
});

test('what waits for a member that is taken over, or that is too slow in the end, is not lost either', async () => {
  const node = new TestNode({ limits: { stallTimeoutMs: 5_000 } });
  const publisher = await node.connect();
  const first = await member(node, { clientId: 'first' });
  await first.subscribe(FILTER, { qos: 1 });
  await publishMany(node, publisher, 6);
  const second = await member(node, { clientId: 'second' });
  await second.subscribe(FILTER, { qos: 1 });
  await member(node, { clientId: 'first' });
  expect(first.channel.ended).toBe(true);
  expect(second.publishes().map(({ payload }) => payload.toString())).toEqual(['2', '3']);
  const third = await node.connect();
  await third.subscribe(FILTER, { qos: 1 });
  for (let i = 0; i < 60 && !second.channel.ended; i++) await node.pass(500);
  expect(second.channel.ended).toBe(true);
  expect(await drain(node, third)).toEqual(['4', '5']);
});

test('a message that waits and expires goes to nobody', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  const first = await member(node);
  await first.subscribe(FILTER, { qos: 1 });
  await publishMany(node, publisher, 2);
  publisher.publish({ topic: 't', qos: 1, properties: { messageExpiryInterval: 5 } });
  await node.settle();
  await node.pass(5_000);
  const second = await member(node);
  await second.subscribe(FILTER, { qos: 1 });
  first.channel.disconnect();
  await node.settle();
  expect(second.publishes()).toEqual([]);
});

test('without another member nothing is left of what waited', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  const only = await member(node);
  await only.subscribe(FILTER, { qos: 1 });
  await publishMany(node, publisher, 5);
  only.channel.disconnect();
  await node.settle();
  expect(node.node.table.groups).toBe(0);
  const late = await member(node);
  await late.subscribe(FILTER, { qos: 1 });
  await node.settle();
  expect(late.publishes()).toEqual([]);
});

test('a persistent member that is away: what it was never sent goes to the others, what it was sent waits', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  const first = await member(node, { clientId: 'first', persistent: true });
  await first.subscribe([FILTER, 'own'], { qos: 2 });
  await publishMany(node, publisher, 6);
  publisher.publish({ topic: 't', payload: 'twice is wrong', qos: 2 });
  publisher.publish({ topic: 'own', payload: 'own', qos: 1 });
  await node.settle();
  const second = await member(node, { clientId: 'second', persistent: true });
  await second.subscribe(FILTER, { qos: 1 });
  first.channel.disconnect();
  await node.settle();
  // It may come back soon.
  expect(await drain(node, second)).toEqual([]);
  await node.pass(3_000);
  expect(await drain(node, second)).toEqual(['2', '3', '4', '5']);
  const back = await member(node, { clientId: 'first', persistent: true });
  const payloads = back
    .publishes()
    .map(({ payload, dup }) => `${payload.toString()} ${String(dup)}`);
  expect(payloads).toEqual(['0 true', '1 true']);
  for (const messageId of [2, 3]) back.send({ cmd: 'puback', messageId });
  await node.settle();
  expect(back.publishes().map(({ payload }) => payload.toString())).toEqual([
    'twice is wrong',
    'own',
  ]);
});

test('a persistent member that is away keeps what nobody else can take', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  const first = await member(node, { clientId: 'first', persistent: true });
  const second = await member(node, { clientId: 'second', persistent: true });
  await first.subscribe(FILTER, { qos: 1 });
  await publishMany(node, publisher, 5);
  await second.subscribe(FILTER, { qos: 1 });
  second.channel.disconnect();
  await node.settle();
  first.channel.disconnect();
  await node.settle();
  await node.pass(3_000);
  const back = await member(node, { clientId: 'first', persistent: true });
  expect(await drain(node, back)).toEqual(numbers(5));
});

test('[MQTT-4.3.3-1] what a member hands on at QoS 2 has a uid of its own, by which a repeated append is known', async () => {
  const uids: string[] = [];
  const settled: string[] = [];
  const node = new TestNode({
    wrapStore: (store) => {
      const append = store.append.bind(store);
      store.append = (session, queued, uid, done) => {
        uids.push(uid);
        append(session, queued, uid, done);
      };
      const settleUid = store.settleUid.bind(store);
      store.settleUid = (session, uid) => {
        settled.push(uid);
        settleUid(session, uid);
      };
      return store;
    },
  });
  const publisher = await node.connect();
  const leaving = await member(node);
  await leaving.subscribe(FILTER, { qos: 2 });
  for (let i = 0; i < 4; i++) {
    publisher.publish({ topic: 't', payload: String(i), qos: 2, messageId: i + 1 });
  }
  await node.settle();
  const staying = await member(node, { clientId: 'staying', persistent: true });
  await staying.subscribe(FILTER, { qos: 2 });
  // Two fill its window, two were never sent.
  leaving.channel.disconnect();
  await node.settle();
  expect(staying.publishes().map(({ payload }) => payload.toString())).toEqual(['2', '3']);
  expect(uids).toHaveLength(2);
  expect(new Set([...uids, '']).size).toBe(3);
  expect(settled).toEqual(uids);
});
