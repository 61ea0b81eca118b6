import { expect, test } from '@jest/globals';
import { NodeTarget, explainRoute } from '@shoalmq/core';
import { TestNode } from '@shoalmq/testkit';

const message = (topic: string, fields: { qos?: 0 | 1 | 2; publisher?: string } = {}) => ({
  topic,
  qos: fields.qos ?? 1,
  publisher: fields.publisher ?? '',
});

test('all filters that match are named, with who gets the message and where that is', async () => {
  const node = new TestNode();
  const clean = await node.connect({ clientId: 'clean' });
  await clean.subscribe('a/+', { qos: 1 });
  const fields = { clientId: 'kept', clean: false, properties: { sessionExpiryInterval: 60 } };
  const kept = await node.connect(fields);
  await kept.subscribe('a/#', { qos: 2 });
  await clean.subscribe('other', { qos: 1 });
  const elsewhere = new NodeTarget({ id: 'n2', incarnation: 'i' });
  node.node.facts.apply({
    change: 'add',
    fact: { kind: 'node', node: elsewhere, filter: '+/b', weight: 1 },
  });

  const explained = explainRoute(node.node, message('a/b'), 10);
  expect(explained).toMatchObject({ routeCount: 3, groupCount: 0, retained: false });
  expect(explained.routes).toEqual(
    expect.arrayContaining([
      expect.objectContaining({
        filter: 'a/+',
        recipient: expect.objectContaining({
          ...{ clientId: 'clean', persistent: false, qos: 1, nodeId: 'test' },
        }),
      }),
      expect.objectContaining({
        filter: 'a/#',
        recipient: expect.objectContaining({
          ...{ clientId: 'kept', persistent: true, qos: 2, nodeId: 'test' },
        }),
      }),
      { filter: '+/b', recipient: { kind: 'node', nodeId: 'n2' } },
    ]),
  );

  kept.send({ cmd: 'disconnect' });
  await node.settle();
  const [{ recipient } = { recipient: undefined }] = explainRoute(
    node.node,
    message('a/c'),
    10,
  ).routes.filter(({ filter }) => filter === 'a/#');
  expect(recipient).toMatchObject({ clientId: 'kept', nodeId: '' });
});

test('the member that a shared group would choose is told, and its turn is not taken', async () => {
  const node = new TestNode();
  const publisher = await node.connect();
  const members = [await node.connect({ clientId: 'm1' }), await node.connect({ clientId: 'm2' })];
  for (const member of members) await member.subscribe('$share/g/t', { qos: 0 });

  for (let round = 0; round < 4; round++) {
    const [group] = explainRoute(node.node, message('t'), 10).groups;
    expect(explainRoute(node.node, message('t'), 10).groups[0]).toEqual(group);
    expect(group).toMatchObject({ share: 'g', filter: 't', memberCount: 2 });
    publisher.publish({ topic: 't', payload: 'x' });
    await node.settle();
    const [got] = members.flatMap((member, index) =>
      member.publishes().length === 0 ? [] : [`m${String(index + 1)}`],
    );
    expect(group?.chosen).toMatchObject({ clientId: got });
  }
});

test('what the publisher itself does not get is left out, and lists are cut but counted', async () => {
  const node = new TestNode();
  for (let index = 0; index < 20; index++) {
    const client = await node.connect({ clientId: `c${String(index)}` });
    await client.subscribe('t', { qos: 0, nl: true });
  }
  const { routeCount, routes } = explainRoute(node.node, message('t', { publisher: 'c3' }), 5);
  expect([routeCount, routes.length]).toEqual([19, 5]);
});
