import { expect, test } from '@jest/globals';
import { TestNode } from '@shoalmq/testkit';
import type { MemoryClient } from '@shoalmq/testkit';
import { packetIdOf } from '../src/delivery/queue-reader.ts';

const fields = { clientId: 'kept', clean: false };
const properties = { sessionExpiryInterval: 1_000 };

function range(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `m${String(index)}`);
}

/** Type, packet id, DUP and payload of everything that came. */
function seen(client: MemoryClient, bytesMax = Infinity): string[] {
  return client.packets(bytesMax).map((packet) => {
    const id = `${packet.cmd} ${String(packet.messageId ?? 0)}`;
    return packet.cmd === 'publish'
      ? `${id}${packet.dup ? ' dup' : ''} ${packet.payload.toString().trim()}`
      : id;
  });
}

async function publish(
  node: TestNode,
  qos: 1 | 2,
  payloads: readonly string[],
  more = {},
): Promise<void> {
  const publisher = await node.connect();
  publisher.publish(...payloads.map((payload) => ({ topic: 't', qos, payload, ...more })));
  await node.settle();
}

async function queueSize(node: TestNode): Promise<number> {
  await node.settle();
  return (node.store as unknown as { sizes(): { queuedMessages: number } }).sizes().queuedMessages;
}

test('packet ids follow from places in the queue: 65,535 in a row differ, none is 0', () => {
  const ids = new Set(Array.from({ length: 65_535 }, (_, index) => packetIdOf(65_000 + index)));
  expect(ids.size).toBe(65_535);
  expect(Math.min(...ids)).toBe(1);
  expect(Math.max(...ids)).toBe(65_535);
});

test('[MQTT-4.4.0-1][MQTT3-4.4.0-1][MQTT-4.6.0-1] after a reconnect PUBREL goes out first, then PUBLISH with DUP, then what was never sent', async () => {
  const node = new TestNode();
  let client = await node.connect({ ...fields, properties: { ...properties, receiveMaximum: 4 } });
  await client.subscribe('t', { qos: 2 });
  await publish(node, 2, range(4));
  await publish(node, 1, ['one', 'two']);
  expect(seen(client)).toEqual(['publish 2 m0', 'publish 3 m1', 'publish 4 m2', 'publish 5 m3']);
  // The second is finished; the third and the first wait for PUBCOMP, in this order.
  client.send({ cmd: 'pubrec', messageId: 3 });
  await node.settle();
  client.send({ cmd: 'pubcomp', messageId: 3 });
  client.send({ cmd: 'pubrec', messageId: 4 });
  client.send({ cmd: 'pubrec', messageId: 2 });
  await node.settle();
  expect(seen(client)).toEqual(['pubrel 3', 'publish 6 one', 'pubrel 4', 'pubrel 2']);
  client.channel.disconnect();
  client = await node.connect({ ...fields, properties });
  expect(seen(client)).toEqual([
    'pubrel 4',
    'pubrel 2',
    'publish 5 dup m3',
    'publish 6 dup one',
    'publish 7 two',
  ]);
});

test('[MQTT-4.3.3-6] a PUBREC that was read before the connection was lost is remembered', async () => {
  const node = new TestNode();
  let client = await node.connect({ ...fields, properties });
  await client.subscribe('t', { qos: 2 });
  await publish(node, 2, ['m']);
  expect(seen(client)).toEqual(['publish 2 m']);
  client.send({ cmd: 'pubrec', messageId: 2 });
  client.channel.disconnect();
  client = await node.connect({ ...fields, properties });
  expect(seen(client)).toEqual(['pubrel 2']);
  client.send({ cmd: 'pubcomp', messageId: 2 });
  client.channel.disconnect();
  client = await node.connect({ ...fields, properties });
  expect(seen(client)).toEqual([]);
  expect(await queueSize(node)).toBe(0);
});

test('a repeated PUBREC gets PUBREL again, one of the wrong kind ends the connection', async () => {
  const node = new TestNode();
  const client = await node.connect({ ...fields, properties });
  await client.subscribe('t', { qos: 2 });
  await publish(node, 2, ['m']);
  client.send({ cmd: 'pubrec', messageId: 2 }, { cmd: 'pubrec', messageId: 2 });
  await node.settle();
  client.send({ cmd: 'pubrec', messageId: 2 });
  expect(seen(client)).toEqual(['publish 2 m', 'pubrel 2', 'pubrel 2']);
  client.send({ cmd: 'puback', messageId: 2 });
  await node.settle();
  expect(client.packets()).toMatchObject([{ cmd: 'disconnect', reasonCode: 0x82 }]);
});

test('more than a window waits in the store and comes in order as the window frees', async () => {
  const node = new TestNode();
  const client = await node.connect({
    ...fields,
    properties: { ...properties, receiveMaximum: 2 },
  });
  await client.subscribe('t', { qos: 1 });
  await publish(node, 1, range(30));
  const received: string[] = [];
  for (let packets = client.publishes(); packets.length > 0; packets = client.publishes()) {
    expect(packets.length).toBeLessThanOrEqual(2);
    received.push(...packets.map(({ payload }) => payload.toString()));
    client.send(
      ...packets.map(({ messageId }) => ({ cmd: 'puback' as const, messageId: messageId! })),
    );
    await node.settle();
  }
  expect(received).toEqual(range(30));
  expect(await queueSize(node)).toBe(0);
});

test('one place in a large window is enough for the next message', async () => {
  const node = new TestNode({ limits: { inflightMax: 100 } });
  const client = await node.connect({ ...fields, properties });
  await client.subscribe('t', { qos: 1 });
  await publish(node, 1, range(102));
  expect(client.publishes()).toHaveLength(100);
  client.send({ cmd: 'puback', messageId: 50 });
  await node.settle();
  expect(seen(client)).toEqual(['publish 102 m100']);
});

test.each([
  { session: 'clean', connect: {} },
  { session: 'persistent', connect: { ...fields, properties } },
])(
  '[MQTT-2.2.1-4] with 65,535 messages under way each has an id of its own; the next waits for one that is freed ($session session)',
  async ({ connect }) => {
    const node = new TestNode({ limits: { inflightMax: 65_535 } });
    const client = await node.connect(connect);
    await client.subscribe('t', { qos: 1 });
    const publisher = await node.connect();
    for (let batch = 0; batch < 66; batch++) {
      publisher.publish(
        ...range(1_000).map((payload) => ({ topic: 't', qos: 1 as const, payload })),
      );
      publisher.packets();
    }
    await node.settle();
    const sent = client.publishes().map(({ messageId }) => messageId!);
    expect(sent).toHaveLength(65_535);
    expect(new Set(sent).size).toBe(65_535);
    expect(sent).not.toContain(0);
    client.send({ cmd: 'puback', messageId: sent[0]! });
    await node.settle();
    expect(client.publishes()).toMatchObject([{ messageId: sent[0], dup: false }]);
    for (const messageId of sent.slice(1, 100)) client.send({ cmd: 'puback', messageId });
    await node.settle();
    expect(client.publishes().map(({ messageId }) => messageId)).toEqual(sent.slice(1, 100));
  },
);

test('a message that came when its packet id was still taken waits for it', async () => {
  const node = new TestNode({ limits: { queueMessagesMax: 100_000, receiveMaximum: 65_535 } });
  const client = await node.connect({ ...fields, properties });
  await client.subscribe('t', { qos: 1 });
  const publisher = await node.connect();
  let first = 0;
  const received: string[] = [];
  // The first message is not acknowledged, all others are, until the ids come around.
  for (let batch = 0; batch < 132; batch++) {
    publisher.publish(
      ...Array.from({ length: 500 }, (_, index) => ({
        topic: 't',
        qos: 1 as const,
        payload: String(batch * 500 + index),
      })),
    );
    publisher.packets();
    for (const { messageId = 0, payload } of client.publishes()) {
      received.push(payload.toString());
      if (first === 0) first = messageId;
      else client.send({ cmd: 'puback', messageId });
    }
  }
  await node.settle();
  expect(received.length).toBe(65_535);
  client.send({ cmd: 'puback', messageId: first });
  for (let settled = false; !settled;) {
    await node.settle();
    const packets = client.publishes();
    settled = packets.length === 0;
    for (const { messageId = 0, payload } of packets) {
      received.push(payload.toString());
      client.send({ cmd: 'puback', messageId });
    }
  }
  expect(received).toEqual(Array.from({ length: 66_000 }, (_, index) => String(index)));
});

test('what is discarded leaves the store although the client is silent', async () => {
  const node = new TestNode();
  let client = await node.connect({
    ...fields,
    properties: { ...properties, maximumPacketSize: 50 },
  });
  await client.subscribe('t', { qos: 1 });
  await publish(node, 1, ['x'.repeat(100)]);
  expect(await queueSize(node)).toBe(0);
  client.channel.disconnect();
  await publish(node, 1, ['x'.repeat(100), 'small']);
  await publish(node, 1, ['expires'], { properties: { messageExpiryInterval: 1 } });
  expect(await queueSize(node)).toBe(3);
  node.clock.advance(1_000);
  client = await node.connect({ ...fields, properties: { ...properties, maximumPacketSize: 50 } });
  expect(seen(client)).toEqual(['publish 3 small'].map((line) => line.replace('3', '4')));
  expect(await queueSize(node)).toBe(1);
});

test.each([1, 2] as const)(
  '[MQTT-4.3.3-7] a message that was sent does not expire any more: it is sent again after a reconnect (QoS %s)',
  async (qos) => {
    const node = new TestNode();
    let client = await node.connect({
      ...fields,
      properties: { ...properties, receiveMaximum: 1 },
    });
    await client.subscribe('t', { qos });
    await publish(node, qos, ['sent', 'not sent'], { properties: { messageExpiryInterval: 10 } });
    expect(seen(client)).toEqual(['publish 2 sent']);
    client.channel.disconnect();
    await node.pass(20_000);
    client = await node.connect({ ...fields, properties });
    const packets = client.publishes();
    expect(packets).toMatchObject([
      { messageId: 2, dup: true, properties: { messageExpiryInterval: 0 } },
    ]);
    expect(node.counters.messagesDropped.expired).toBe(1);
  },
);

test('a socket that takes nothing gets no more of the queue until it does', async () => {
  const node = new TestNode({ limits: { outboundBytesMax: 4_000 } });
  const client = await node.connect({ ...fields, properties });
  await client.subscribe('t', { qos: 1 });
  await publish(
    node,
    1,
    range(100).map((payload) => payload.padEnd(100)),
  );
  expect(client.channel.backlogBytes).toBeLessThan(1_200);
  const received: string[] = [];
  for (let lines = seen(client); lines.length > 0; lines = seen(client)) {
    received.push(...lines);
    client.channel.drained();
    await node.settle();
  }
  expect(received.map((line) => line.split(' ').at(-1))).toEqual(range(100));
});

test('a message that comes while the socket is congested by others is not forgotten', async () => {
  const node = new TestNode({ limits: { outboundBytesMax: 4_000 } });
  const client = await node.connect({ ...fields, properties });
  await client.subscribe('#', { qos: 1 });
  const publisher = await node.connect();
  publisher.publish(
    { topic: 'zero', payload: 'x'.repeat(2_000) },
    ...range(3).map((payload) => ({ topic: 't', qos: 1 as const, payload })),
  );
  await node.settle();
  expect(seen(client)).toEqual([`publish 0 ${'x'.repeat(2_000)}`, 'publish 2 m0']);
  client.send({ cmd: 'puback', messageId: 2 });
  await node.settle();
  expect(seen(client)).toEqual(['publish 3 m1', 'publish 4 m2']);
});

test('[MQTT-4.3.3-10] the packet id of a message that was sent and then dropped is released before another one gets it', async () => {
  const node = new TestNode({ limits: { queueMessagesMax: 4 } });
  const one = { ...fields, properties: { ...properties, receiveMaximum: 1 } };
  let client = await node.connect(one);
  await client.subscribe('t', { qos: 2 });
  await publish(node, 2, ['sent']);
  expect(seen(client)).toEqual(['publish 2 sent']);
  client.channel.disconnect();
  // Up to the message before the one that will have the same packet id.
  for (let i = 2; i < 65_536; i += 434) await publish(node, 1, range(434));
  await publish(node, 2, ['same id', 'next']);
  client = await node.connect({ ...fields, properties: { ...properties, receiveMaximum: 10 } });
  expect(seen(client)).toEqual(['publish 65535 m432', 'publish 1 m433', 'pubrel 2']);
  client.send({ cmd: 'pubcomp', messageId: 2 });
  await node.settle();
  expect(seen(client)).toEqual(['publish 2 same id', 'publish 3 next']);
  // Sent and not acknowledged: it comes again as what it is.
  client.channel.disconnect();
  client = await node.connect({ ...fields, properties });
  expect(seen(client).slice(-2)).toEqual(['publish 2 dup same id', 'publish 3 dup next']);
});

test('[MQTT-3.1.2-25] a message that was sent and is now too large is not sent again, but its packet id is released', async () => {
  const node = new TestNode();
  let client = await node.connect({ ...fields, properties });
  await client.subscribe('t', { qos: 2 });
  await publish(node, 2, ['x'.repeat(1_000), 'small']);
  expect(client.packets()).toHaveLength(2);
  client.channel.disconnect();
  client = await node.connect({ ...fields, properties: { ...properties, maximumPacketSize: 500 } });
  expect(seen(client)).toEqual(['pubrel 2', 'publish 3 dup small']);
  client.send({ cmd: 'pubcomp', messageId: 2 });
  expect(await queueSize(node)).toBe(1);
});
