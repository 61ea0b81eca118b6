import { expect, test } from '@jest/globals';
import { TestNode } from '@shoalmq/testkit';

const soon = { messageExpiryInterval: 10 };

test('the name of a retained message that expired leaves the index, and other nodes are told', async () => {
  const announced: string[] = [];
  const node = new TestNode({
    peers: {
      announceRetained: (topic, exists) => {
        announced.push(`${topic} ${String(exists)}`);
        return Promise.resolve();
      },
    },
  });
  const publisher = await node.connect();
  publisher.publish(
    { topic: 'short', payload: 'x', retain: true, properties: soon },
    { topic: 'renewed', payload: 'x', retain: true, properties: soon },
    { topic: 'long', payload: 'x', retain: true },
  );
  await node.settle();
  expect(node.node.retained.size).toBe(3);
  await node.pass(9_000);
  publisher.publish({ topic: 'renewed', payload: 'y', retain: true });
  await node.pass(2_000);
  await node.settle();
  expect([...node.node.retained.match('#')].sort()).toEqual(['long', 'renewed']);
  expect(announced).toEqual(['short true', 'renewed true', 'long true', 'short false']);
});

test('a topic that gets a new message while its old one expires keeps its name', async () => {
  let race = (): void => undefined;
  const node = new TestNode({
    wrapStore: (store) => {
      let reads = 0;
      const wrapped: typeof store = Object.create(store) as typeof store;
      wrapped.expireRetained = () => store.expireRetained();
      wrapped.retain = (message) => store.retain(message);
      for (const name of ['claim', 'release', 'takeDue', 'append', 'owner'] as const) {
        Object.assign(wrapped, { [name]: store[name].bind(store) });
      }
      wrapped.readRetained = async (topics) => {
        const messages = await store.readRetained(topics);
        if (topics.length > 0 && reads++ === 0) race();
        return messages;
      };
      return wrapped;
    },
  });
  const publisher = await node.connect();
  race = () => {
    publisher.publish({ topic: 't', payload: 'new', retain: true });
  };
  publisher.publish({ topic: 't', payload: 'old', retain: true, properties: soon });
  await node.pass(11_000);
  await node.settle();
  expect([...node.node.retained.match('#')]).toEqual(['t']);
});
