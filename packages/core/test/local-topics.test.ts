import { expect, test } from '@jest/globals';
import { Message } from '@shoalmq/core';
import type { Peers, StateStore } from '@shoalmq/core';
import { TestNode, topicOf } from '@shoalmq/testkit';

/** A node with others, which records what it tells them and what it stores. */
function nodeInCluster() {
  const told: string[] = [];
  const tell = (what: string) => () => {
    told.push(what);
  };
  const peers: Partial<Peers> = {
    alone: false,
    announceRetained: (topic) => {
      told.push(`retained ${topic}`);
      return Promise.resolve();
    },
    forward: tell('forward'),
    deliverAt: tell('deliverAt'),
  };
  const wrapStore = (store: StateStore) =>
    new Proxy(store, {
      get: (target, name) => {
        const value: unknown = Reflect.get(target, name);
        if (typeof value !== 'function') return value;
        return (...args: unknown[]) => {
          if (name === 'retain' || name === 'append') told.push(name);
          return (value as (...args: unknown[]) => unknown).apply(target, args);
        };
      },
    });
  const node = new TestNode({ peers, wrapStore });
  const publish = async (payload: string) => {
    const topic = topicOf('$SYS/broker/uptime');
    await node.node.publish(Message.of(topic, Buffer.from(payload), { qos: 0, retain: true }));
    await node.settle();
  };
  return { node, told, publish };
}

test('what is published under $SYS stays on the node and out of the store', async () => {
  const { node, told, publish } = nodeInCluster();
  node.node.facts.apply({
    change: 'add',
    fact: {
      ...{ kind: 'node', filter: '$SYS/#', weight: 1 },
      node: { id: 'n2', incarnation: 'i' },
    },
  });
  node.node.facts.apply({
    change: 'add',
    fact: {
      ...{ kind: 'session', clientId: 'elsewhere', incarnation: 'i', filter: '$SYS/#' },
      options: '0 0',
    },
  });
  const client = await node.connect();
  await client.subscribe('$SYS/#');
  await publish('1 seconds');
  expect(client.publishes().map(({ payload }) => payload.toString())).toEqual(['1 seconds']);
  expect(told).toEqual([]);
});

test('new subscribers get the retained value of their own node, until it is cleared', async () => {
  const { node, publish } = nodeInCluster();
  await publish('1 seconds');
  await publish('2 seconds');
  const first = await node.connect();
  await first.subscribe('$SYS/broker/+');
  await node.settle();
  const [value, ...rest] = first.publishes();
  expect([value?.payload.toString(), value?.retain, rest]).toEqual(['2 seconds', true, []]);

  await publish('');
  const second = await node.connect();
  await second.subscribe('$SYS/broker/uptime');
  await node.settle();
  expect(second.publishes()).toEqual([]);
});

test('a shared subscription gets each value of the node where its member is', async () => {
  const { node, publish } = nodeInCluster();
  node.node.facts.apply({
    change: 'add',
    fact: {
      ...{ kind: 'node', filter: '$share/g/$SYS/#', weight: 3 },
      node: { id: 'n2', incarnation: 'i' },
    },
  });
  const member = await node.connect();
  await member.subscribe('$share/g/$SYS/#');
  for (let i = 0; i < 5; i++) await publish(String(i));
  expect(member.publishes().map(({ payload }) => payload.toString())).toEqual([
    ...['0', '1', '2', '3', '4'],
  ]);
});

test('loading the shared facts again does not take away what the node retained by itself', async () => {
  const { node, publish } = nodeInCluster();
  await publish('1 seconds');
  const shared = { kind: 'retained', filter: '$SYS/broker/uptime' } as const;
  node.node.facts.replace([]);
  node.node.facts.apply({ change: 'remove', fact: shared });
  const client = await node.connect();
  await client.subscribe('$SYS/#');
  await node.settle();
  expect(client.publishes()).toHaveLength(1);
});
