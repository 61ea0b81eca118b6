import { describe, expect, test } from '@jest/globals';
import { TestNode } from '@shoalmq/testkit';
import type { MemoryClient } from '@shoalmq/testkit';
import type { StateStore } from '../src/ports/state-store.ts';

type Change = Parameters<StateStore['changeSubscriptions']>;
type ChangeResult = Awaited<ReturnType<StateStore['changeSubscriptions']>>;

/** A store whose writes of subscriptions are the test's to finish; `late`: it is the answer alone that is held. */
class HeldChanges {
  late = false;
  readonly calls: Change[] = [];
  readonly #finish: ((how: ChangeResult | Error) => void)[] = [];

  readonly wrap = (store: StateStore): StateStore => {
    const changeSubscriptions = (...args: Change): Promise<ChangeResult> => {
      this.calls.push(args);
      const applied = this.late ? store.changeSubscriptions(...args) : undefined;
      return new Promise((resolve, reject) => {
        this.#finish.push((how) => {
          if (how instanceof Error) reject(how);
          else if (how === 'ok') resolve(applied ?? store.changeSubscriptions(...args));
          else resolve(how);
        });
      });
    };
    return new Proxy(store, {
      get: (target, name) => {
        if (name === 'changeSubscriptions') return changeSubscriptions;
        const value: unknown = Reflect.get(target, name);
        return typeof value === 'function' ? (value.bind(target) as unknown) : value;
      },
    });
  };

  finish(how: ChangeResult | Error): void {
    this.#finish.shift()!(how);
  }
}

const session = { clientId: 's', clean: false, properties: { sessionExpiryInterval: 60 } };

function sendSubscribe(client: MemoryClient, ...filters: string[]): void {
  client.send({
    cmd: 'subscribe',
    messageId: 9,
    subscriptions: filters.map((topic) => ({ topic, qos: 1 })),
  });
}

function sendUnsubscribe(client: MemoryClient, ...filters: string[]): void {
  client.send({ cmd: 'unsubscribe', messageId: 9, unsubscriptions: filters });
}

describe('a persistent session', () => {
  test('SUBACK waits for the store, and nothing the client sends meanwhile overtakes it', async () => {
    const held = new HeldChanges();
    const node = new TestNode({ wrapStore: held.wrap });
    const client = await node.connect(session);
    sendSubscribe(client, 'a');
    client.send({ cmd: 'pingreq' });
    client.publish({ topic: 'a', qos: 0 });
    await node.settle();
    expect(client.packets()).toEqual([]);
    expect(node.node.table.size).toBe(0);
    held.finish('ok');
    await node.settle();
    expect(client.packets().map(({ cmd }) => cmd)).toEqual(['suback', 'pingresp', 'publish']);
  });

  test('UNSUBACK waits for the store, and messages are delivered until then', async () => {
    const held = new HeldChanges();
    const node = new TestNode({ wrapStore: held.wrap });
    const client = await node.connect(session);
    const publisher = await node.connect();
    sendSubscribe(client, 'a');
    await node.settle();
    held.finish('ok');
    await node.settle();
    client.packets();
    sendUnsubscribe(client, 'a');
    publisher.publish({ topic: 'a', payload: 'before' });
    await node.settle();
    expect(client.packets()).toMatchObject([{ cmd: 'publish' }]);
    held.finish('ok');
    await node.settle();
    publisher.publish({ topic: 'a', payload: 'after' });
    await node.settle();
    expect(client.packets()).toMatchObject([{ cmd: 'unsuback', granted: [0] }]);
  });

  test.each([
    { how: 'fenced' as const, reasonCode: 0x8e },
    { how: new Error('the store is away'), reasonCode: 0x89 },
  ])('a store that says $how ends the connection, and no SUBACK is sent', async (expected) => {
    for (const send of [sendSubscribe, sendUnsubscribe]) {
      const held = new HeldChanges();
      const node = new TestNode({ wrapStore: held.wrap });
      const client = await node.connect(session);
      sendSubscribe(client, 'a');
      await node.settle();
      held.finish('ok');
      await node.settle();
      client.packets();
      send(client, 'a');
      await node.settle();
      held.finish(expected.how);
      await node.settle();
      const packets = client.packets();
      expect(packets.at(-1)).toMatchObject({
        cmd: 'disconnect',
        reasonCode: expected.reasonCode,
      });
      expect(packets.map(({ cmd }) => cmd)).not.toContain('suback');
      expect(packets.map(({ cmd }) => cmd)).not.toContain('unsuback');
      expect(client.channel.ended).toBe(true);
    }
  });

  test('a client that goes before the store has kept its subscription has none', async () => {
    const held = new HeldChanges();
    const node = new TestNode({ wrapStore: held.wrap });
    const client = await node.connect(session);
    sendSubscribe(client, 'a');
    await node.settle();
    client.channel.disconnect();
    await node.settle();
    const back = await node.connect(session);
    held.finish('ok');
    await node.settle();
    // The token of the connection that asked no longer owns the session: the store refused.
    expect(back.connack.sessionPresent).toBe(true);
    expect(node.node.table.size).toBe(0);
    expect(back.packets()).toEqual([]);
  });

  test('what the store had done when a client went, before it answered, is what the resumed session has', async () => {
    const held = new HeldChanges();
    const node = new TestNode({ wrapStore: held.wrap });
    const publisher = await node.connect();
    const client = await node.connect(session);
    sendSubscribe(client, 'removed', 'replaced', 'kept');
    await node.settle();
    held.finish('ok');
    await node.settle();

    held.late = true;
    const changes: ((connected: MemoryClient) => void)[] = [
      (connected) => {
        sendUnsubscribe(connected, 'removed');
      },
      (connected) => {
        connected.send({
          cmd: 'subscribe',
          messageId: 1,
          subscriptions: [{ topic: 'replaced', qos: 0 }],
        });
      },
      (connected) => {
        sendSubscribe(connected, 'added');
      },
    ];
    let connected = client;
    for (const change of changes) {
      change(connected);
      await node.settle();
      connected.channel.disconnect();
      await node.settle();
      connected = await node.connect(session);
      held.finish('ok');
      await node.settle();
    }
    expect(node.node.routeCounts()).toEqual({ clean: 0, persistent: 3, elsewhere: 0 });
    for (const topic of ['removed', 'replaced', 'kept', 'added']) {
      publisher.publish({ topic, qos: 1 });
    }
    await node.settle();
    expect(connected.publishes().map(({ topic, qos }) => [topic, qos])).toEqual([
      ['replaced', 0],
      ['kept', 1],
      ['added', 1],
    ]);
  });

  test('only accepted filters are written, with everything about them, in one call', async () => {
    const held = new HeldChanges();
    const node = new TestNode({ wrapStore: held.wrap });
    const client = await node.connect(session);
    client.send({
      cmd: 'subscribe',
      messageId: 9,
      subscriptions: [
        { topic: 'a#', qos: 1 },
        { topic: 'a', qos: 2, nl: true, rap: true, rh: 2 },
        { topic: '$share/g/b', qos: 0, rh: 1 },
      ],
      properties: { subscriptionIdentifier: 5 },
    });
    await node.settle();
    expect(held.calls).toHaveLength(1);
    expect(held.calls[0]?.[2]).toEqual([
      {
        filter: 'a',
        qos: 2,
        noLocal: true,
        retainAsPublished: true,
        retainHandling: 2,
        subscriptionIdentifier: 5,
      },
      {
        filter: '$share/g/b',
        qos: 0,
        noLocal: false,
        retainAsPublished: false,
        retainHandling: 1,
        subscriptionIdentifier: 5,
      },
    ]);
    expect(held.calls[0]?.[3]).toEqual([]);
  });

  test('nothing is written when there is nothing to change', async () => {
    const held = new HeldChanges();
    const node = new TestNode({ wrapStore: held.wrap });
    const client = await node.connect(session);
    sendSubscribe(client, 'a#');
    sendUnsubscribe(client, 'never', 'a#');
    await node.settle();
    expect(held.calls).toEqual([]);
    expect(client.packets()).toMatchObject([
      { cmd: 'suback', granted: [0x8f] },
      { cmd: 'unsuback', granted: [0x11, 0x11] },
    ]);
  });
});

describe('a clean session', () => {
  test('is no business of the store', async () => {
    const held = new HeldChanges();
    const node = new TestNode({ wrapStore: held.wrap });
    const client = await node.connect();
    await client.subscribe(['a', 'b']);
    sendUnsubscribe(client, 'a');
    await node.settle();
    expect(held.calls).toEqual([]);
    expect(node.node.routeCounts()).toEqual({ clean: 1, persistent: 0, elsewhere: 0 });
  });

  test('leaves no route behind, however it ends', async () => {
    const node = new TestNode();
    const filters = ['a', '+', '#', '$share/g/a', '$share/g/#', 'a/+/b'];
    for (const end of [
      (client: MemoryClient) => {
        client.channel.disconnect();
      },
      (client: MemoryClient) => {
        client.send({ cmd: 'disconnect', reasonCode: 0 });
      },
      (client: MemoryClient) => {
        client.send({ cmd: 'pubrel', messageId: 0 });
      },
    ]) {
      const client = await node.connect();
      await client.subscribe(filters);
      await client.subscribe(filters.slice(2), { qos: 1 });
      expect(node.node.table.size).toBe(filters.length);
      end(client);
      await node.settle();
      expect(client.channel.ended).toBe(true);
      expect(node.node.table.size).toBe(0);
      expect(node.node.table.groups).toBe(0);
      expect(node.node.table.wildcardRows.nodes).toBe(new TestNode().node.table.wildcardRows.nodes);
    }
  });
});

test('messages read before a SUBSCRIBE in the same batch are not delivered because of it', async () => {
  const node = new TestNode();
  const client = await node.connect();
  client.send(
    { cmd: 'publish', topic: 'a', payload: 'before', qos: 0, retain: false, dup: false },
    { cmd: 'subscribe', messageId: 1, subscriptions: [{ topic: 'a', qos: 0 }] },
    { cmd: 'publish', topic: 'a', payload: 'between', qos: 0, retain: false, dup: false },
    { cmd: 'unsubscribe', messageId: 2, unsubscriptions: ['a'] },
    { cmd: 'publish', topic: 'a', payload: 'after', qos: 0, retain: false, dup: false },
  );
  await node.settle();
  const packets = client.packets();
  expect(packets.map(({ cmd }) => cmd)).toEqual(['suback', 'publish', 'unsuback']);
  expect(packets[1]).toMatchObject({ payload: Buffer.from('between') });
});

test('[MQTT-3.8.4-4] a run of messages that is being gathered goes out under the old subscription', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  const others = [await node.connect(), await node.connect()];
  for (const other of others) await other.subscribe('a', { qos: 0 });
  const client = await node.connect();
  await client.subscribe('a', { qos: 0 });
  for (let round = 0; round < 10; round++) {
    publisher.publish({ topic: 'a', payload: `${round}` }, { topic: 'a', payload: `${round}'` });
    sendSubscribe(client, 'a');
    await node.settle();
  }
  const expected = Array.from({ length: 10 }, (_, i) => [`${i}`, `${i}'`]).flat();
  for (const each of [client, ...others]) {
    expect(each.publishes().map(({ payload }) => payload.toString())).toEqual(expected);
  }
});

test('authorization of one client does not keep another one waiting, and what was sent meanwhile keeps its order', async () => {
  const asked: ((answer: boolean) => void)[] = [];
  const node = new TestNode({
    access: {
      authenticate: () =>
        Promise.resolve({
          outcome: 'accepted',
          principal: { username: '', unrestricted: false },
        }),
      authorize: ({ action, topic }) =>
        action === 'subscribe' && topic === 'slow'
          ? new Promise<boolean>((resolve) => asked.push(resolve))
          : true,
    },
  });
  const slow = await node.connect();
  const quick = await node.connect();
  sendSubscribe(slow, 'slow', 'a');
  slow.send({ cmd: 'pingreq' });
  await node.settle();
  expect((await quick.subscribe('a')).granted).toEqual([0]);
  expect(slow.packets()).toEqual([]);
  asked[0]!(false);
  await node.settle();
  expect(slow.packets()).toMatchObject([
    { cmd: 'suback', granted: [0x87, 1] },
    { cmd: 'pingresp' },
  ]);
});

test('a client that goes while it is being authorized leaves no route', async () => {
  const asked: ((answer: boolean) => void)[] = [];
  const node = new TestNode({
    access: {
      authenticate: () =>
        Promise.resolve({
          outcome: 'accepted',
          principal: { username: '', unrestricted: false },
        }),
      authorize: () => new Promise<boolean>((resolve) => asked.push(resolve)),
    },
  });
  const client = await node.connect();
  sendSubscribe(client, 'a');
  await node.settle();
  client.channel.disconnect();
  await node.settle();
  asked[0]!(true);
  await node.settle();
  expect(node.node.table.size).toBe(0);
});

test('all nodes know where a persistent member of a shared group is before its SUBACK', async () => {
  const steps: string[] = [];
  let tell = (): void => undefined;
  const node = new TestNode({
    peers: {
      announceSubscriptions: () => {
        steps.push('subscription');
        return Promise.resolve();
      },
      announceConnected: ({ clientId }) => {
        steps.push(`${clientId} connected`);
        return new Promise((resolve) => {
          tell = resolve;
        });
      },
    },
  });
  const properties = { sessionExpiryInterval: 60 };
  const client = await node.connect({ clientId: 'kept', clean: false, properties });
  const subscriptions = [{ topic: '$share/g/t', qos: 1 as const }];
  client.send({ cmd: 'subscribe', messageId: 1, subscriptions });
  await node.settle();
  expect(steps).toEqual(['subscription', 'kept connected']);
  expect(client.packets()).toEqual([]);
  tell();
  await node.settle();
  expect(client.packets().map(({ cmd }) => cmd)).toEqual(['suback']);
  client.send({ cmd: 'subscribe', messageId: 2, subscriptions });
  await node.settle();
  expect(client.packets().map(({ cmd }) => cmd)).toEqual(['suback']);
});
