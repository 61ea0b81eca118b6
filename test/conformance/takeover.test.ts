import { expect, test } from '@jest/globals';
import { TestBroker, TestNode } from '@shoalmq/testkit';
import { connect } from './bytes.ts';

const versions = [3, 4, 5] as const;

test.each(versions)(
  '[MQTT-3.1.4-3][MQTT3-3.1.4-2] the old connection gets DISCONNECT 0x8E and its end; the new one goes on with the session (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    const fields = {
      version,
      clientId: 'id',
      clean: false,
      ...(version === 5 && { properties: { sessionExpiryInterval: 60 } }),
    };
    await using old = await broker.client(fields);
    await old.subscribe('a', { qos: 1 });
    await using publisher = await broker.client();
    await publisher.publishFully({ topic: 'a', payload: '1', qos: 1 });
    await old.expectPublish({ payload: '1', dup: false });

    await using current = await broker.client(fields);
    expect(current.connack.sessionPresent).toBe(version !== 3);
    await old.expectDisconnect(0x8e);
    await current.expectPublish({ payload: '1', dup: true, acknowledge: true });
    await publisher.publishFully({ topic: 'a', payload: '2', qos: 1 });
    await current.expectPublish({ payload: '2', dup: false });
    await current.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.1.4-3][MQTT3-3.1.4-2] a clean session is taken over as well: nothing of it is left (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using old = await broker.client({ version, clientId: 'id' });
    await old.subscribe('a');
    await using current = await broker.client({ version, clientId: 'id', clean: false });
    expect(current.connack.sessionPresent).toBe(false);
    await old.expectDisconnect(0x8e);
    await using publisher = await broker.client();
    await publisher.publishFully({ topic: 'a' });
    await current.expectNothing();
  },
);

test('[MQTT-3.1.4-3] connections of different versions take each other over', async () => {
  await using broker = await TestBroker.start();
  await using three = await broker.client({ version: 3, clientId: 'id' });
  await using five = await broker.client({ version: 5, clientId: 'id' });
  await three.expectDisconnect(0x8e);
  await using four = await broker.client({ version: 4, clientId: 'id' });
  await five.expectDisconnect(0x8e);
  await four.expectNothing();
});

test('[MQTT-3.1.4-3] a client that keeps writing still reads the DISCONNECT', async () => {
  await using broker = await TestBroker.start();
  await using old = await broker.client({ clientId: 'id' });
  const chunk = Buffer.concat(
    new Array<Buffer>(2_000).fill(Buffer.from('3008000161006f766572', 'hex')),
  );
  const floodUntilClosed = (async () => {
    for (let i = 0; i < 100; i++) {
      if (!old.stream.writable) return;
      if (!old.stream.write(chunk)) {
        await new Promise<void>((resolve) => {
          old.stream.once('drain', resolve);
          old.stream.once('close', resolve);
        });
      }
    }
  })();
  await using current = await broker.client({ clientId: 'id' });
  await old.expectDisconnect(0x8e);
  await floodUntilClosed;
  await current.expectNothing();
});

test.each([0, 60])(
  '[MQTT-3.1.4-3] of connections that authenticate at the same time exactly one is left (session expiry interval %s)',
  async (expiry) => {
    let waiting = 0;
    let release!: (answer: boolean) => void;
    const answer = new Promise<boolean>((resolve) => (release = resolve));
    let allWait!: () => void;
    const allWaiting = new Promise<void>((resolve) => (allWait = resolve));
    await using broker = await TestBroker.start({
      hooks: {
        authenticate: ({ clientId }) => {
          if (clientId !== 'id') return true;
          if (++waiting === 3) allWait();
          return answer;
        },
      },
    });
    const clients = await Promise.all([broker.open(), broker.open(), broker.open()]);
    try {
      for (const client of clients)
        client.send(connect('id', { properties: Buffer.of(0x11, 0, 0, 0, expiry) }));
      await allWaiting;
      release(true);
      // Every one but the last to be served is closed: with a CONNACK and DISCONNECT 0x8E, or before its CONNACK.
      const left = await Promise.all(
        clients.map(async (client) => {
          const closed = new Promise<false>((resolve) =>
            client.stream.once('end', () => resolve(false)),
          );
          const alive = client.roundTrip().then(
            () => true,
            () => false,
          );
          return (await Promise.race([closed, alive])) && client;
        }),
      );
      const alive = left.filter((client) => client !== false);
      expect(alive).toHaveLength(1);
      await using publisher = await broker.client();
      await alive[0]!.expectPacket('connack');
      await alive[0]!.subscribe('a');
      await publisher.publishFully({ topic: 'a', payload: 'hello' });
      await alive[0]!.expectPublish({ payload: 'hello' });
      expect(broker.broker.levels().sessionsConnected).toBe(2);
    } finally {
      for (const client of clients) await client[Symbol.asyncDispose]();
    }
  },
);

test('[MQTT-3.1.4-3] a connection that is still being resumed is taken over too', async () => {
  let asked = 0;
  let answerFirst!: (answer: boolean) => void;
  let firstAsked!: () => void;
  const firstQuestion = new Promise<void>((resolve) => (firstAsked = resolve));
  await using broker = await TestBroker.start({
    hooks: {
      // The second question is asked when the session is resumed for the first time.
      authorize: ({ action }) => {
        if (action !== 'subscribe' || ++asked !== 2) return true;
        firstAsked();
        return new Promise<boolean>((resolve) => (answerFirst = resolve));
      },
    },
  });
  const fields = { clientId: 'id', clean: false, properties: { sessionExpiryInterval: 60 } };
  {
    await using client = await broker.client(fields);
    await client.subscribe('a', { qos: 1 });
  }
  await using slow = await broker.open();
  slow.sendConnect(fields);
  await firstQuestion;
  await using current = await broker.client(fields);
  answerFirst(true);
  await slow.expectClose();
  expect(slow.received).toEqual([]);
  await using publisher = await broker.client();
  await publisher.publishFully({ topic: 'a', payload: 'hello', qos: 1 });
  await current.expectPublish({ payload: 'hello', qos: 1 });
});

test('a connection that ends while its session is being resumed leaves no session claimed', async () => {
  let asked = 0;
  let answer!: (answer: boolean) => void;
  const node = new TestNode({
    access: {
      authenticate: () =>
        Promise.resolve({
          outcome: 'accepted',
          principal: { username: '', unrestricted: false },
        }),
      // The second question is asked when the session is resumed.
      authorize: ({ action }) =>
        action !== 'subscribe' ||
        ++asked !== 2 ||
        new Promise<boolean>((resolve) => (answer = resolve)),
    },
  });
  const fields = { clientId: 'id', clean: false, properties: { sessionExpiryInterval: 60 } };
  const client = await node.connect(fields);
  await client.subscribe('a', { qos: 1 });
  client.channel.disconnect();
  await expect(node.connect(fields)).rejects.toThrow('no connack came');
  node.node.closeAll();
  answer(true);
  await node.settle();
  expect(node.node.openConnections).toBe(0);
  // Somebody's session would not expire.
  await node.pass(59_000);
  expect(node.counters.sessionEvents.expired).toBe(0);
  await node.pass(2_000);
  expect(node.counters.sessionEvents.expired).toBe(1);
});

test('the operator ends a connection: DISCONNECT 0x98', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client({ clientId: 'id' });
  expect(broker.broker.disconnect('id')).toBe(true);
  await client.expectDisconnect(0x98);
  expect(broker.broker.disconnect('id')).toBe(false);
});
