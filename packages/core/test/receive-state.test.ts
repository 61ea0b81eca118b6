import { expect, test } from '@jest/globals';
import fc from 'fast-check';
import { TestNode } from '@shoalmq/testkit';
import type { MemoryClient, WirePacket } from '@shoalmq/testkit';

const persistent = { clean: false, properties: { sessionExpiryInterval: 1_000 } };

const receiveMaximum = 10;

function qos2(messageId: number, payload = '', dup = false): WirePacket {
  return { cmd: 'publish', topic: 't', qos: 2, messageId, payload, dup, retain: false };
}

function reasonsOf(client: MemoryClient): [string, number | undefined][] {
  return client
    .packets()
    .map((packet) => [packet.cmd, (packet as { reasonCode?: number }).reasonCode]);
}

test.each([
  { session: 'clean', fields: {} },
  { session: 'persistent', fields: persistent },
])(
  '[MQTT-3.3.4-7] Receive Maximum many QoS 2 messages in one read are accepted, one more is 0x93 ($session session)',
  async ({ fields }) => {
    const node = new TestNode({ limits: { receiveMaximum } });
    const client = await node.connect(fields);
    const ids = Array.from({ length: receiveMaximum }, (_, i) => i + 1);
    client.send(...ids.map((id) => qos2(id)));
    await node.settle();
    expect(client.packets().map(({ cmd, messageId }) => [cmd, messageId])).toEqual(
      ids.map((id) => ['pubrec', id]),
    );
    // PUBREL frees a place.
    client.send({ cmd: 'pubrel', messageId: 3 }, qos2(100));
    await node.settle();
    expect(reasonsOf(client).map(([cmd]) => cmd)).toEqual(['pubcomp', 'pubrec']);
    client.send(qos2(101));
    await node.settle();
    expect(reasonsOf(client)).toEqual([['disconnect', 0x93]]);
  },
);

test.each([
  { session: 'clean', fields: {} },
  { session: 'persistent', fields: persistent },
])(
  'QoS 1 counts against Receive Maximum beside QoS 2 messages that wait for PUBREL ($session session)',
  async ({ fields }) => {
    const node = new TestNode({ limits: { receiveMaximum } });
    const client = await node.connect(fields);
    client.send(...Array.from({ length: receiveMaximum }, (_, i) => qos2(i + 1)));
    await node.settle();
    client.packets();
    client.publish({ topic: 't', qos: 1, messageId: 500 });
    await node.settle();
    expect(reasonsOf(client)).toEqual([['disconnect', 0x93]]);
  },
);

test('a repeated PUBLISH counts once against Receive Maximum', async () => {
  const node = new TestNode({ limits: { receiveMaximum: 2 } });
  const client = await node.connect(persistent);
  client.send(qos2(1), qos2(1, '', true), qos2(1), qos2(2), qos2(2, '', true));
  await node.settle();
  expect(client.packets().map(({ cmd, messageId }) => `${cmd} ${String(messageId)}`)).toEqual([
    'pubrec 1',
    'pubrec 1',
    'pubrec 1',
    'pubrec 2',
    'pubrec 2',
  ]);
});

test('a message that is held stays accepted when its publisher lost the right to it before repeating', async () => {
  let allowed = true;
  const node = new TestNode({
    access: {
      authenticate: () =>
        Promise.resolve({
          outcome: 'accepted',
          principal: { username: 'u', unrestricted: false },
        }),
      authorize: () => allowed,
    },
  });
  const subscriber = await node.connect();
  await subscriber.subscribe('t', { qos: 0 });
  const client = await node.connect();
  client.send(qos2(1, 'kept'));
  allowed = false;
  client.send(qos2(1, 'kept', true));
  await node.settle();
  expect(reasonsOf(client)).toEqual([
    ['pubrec', 0],
    ['pubrec', 0],
  ]);
  client.send(qos2(2, 'refused'));
  await node.settle();
  expect(reasonsOf(client)).toEqual([['pubrec', 0x87]]);
  expect(subscriber.publishes().map(({ payload }) => payload.toString())).toEqual(['kept']);
});

type Step =
  | { readonly kind: 'publish'; readonly id: number; readonly dup: boolean }
  | { readonly kind: 'pubrel'; readonly id: number }
  | { readonly kind: 'reconnect'; readonly how: 'lost' | 'disconnect' | 'takeover' }
  | { readonly kind: 'settle' };

const packetId = fc.integer({ min: 1, max: 3 });
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('publish' as const),
      id: packetId,
      dup: fc.boolean(),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('pubrel' as const), id: packetId }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant('reconnect' as const),
      how: fc.constantFrom('lost' as const, 'disconnect' as const, 'takeover' as const),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'settle' as const }) },
);

test(
  '[MQTT-4.3.3-10][MQTT-4.3.3-11][MQTT-4.3.3-12][MQTT3-4.3.3-2] a QoS 2 message is delivered once under any ' +
    'interleaving of repeats, with DUP or without, and of reconnects of a persistent session',
  async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(step, { minLength: 1, maxLength: 40 }),
        fc.constantFrom(4 as const, 5 as const),
        async (steps, version) => {
          const node = new TestNode();
          const clean = await node.connect();
          await clean.subscribe('t', { qos: 0 });
          const kept = await node.connect({ ...persistent, clientId: 'kept' });
          await kept.subscribe('t', { qos: 2 });
          const connect = () =>
            node.connect({
              clientId: 'publisher',
              version,
              clean: false,
              ...(version === 5 ? { properties: { sessionExpiryInterval: 1_000 } } : {}),
            });
          let publisher = await connect();
          // What a client may rely on: an id stands for one message from its first PUBLISH to its PUBREL.
          const generation = new Map<number, number>();
          const held = new Set<number>();
          const expected: string[] = [];
          for (const { kind, ...rest } of steps) {
            const id = 'id' in rest ? rest.id : 0;
            if (kind === 'publish') {
              if (!held.has(id)) {
                held.add(id);
                generation.set(id, (generation.get(id) ?? 0) + 1);
                expected.push(`${String(id)}.${String(generation.get(id))}`);
              }
              const payload = `${String(id)}.${String(generation.get(id))}`;
              publisher.send(qos2(id, payload, 'dup' in rest && rest.dup));
            } else if (kind === 'pubrel') {
              // A client sends PUBREL once it has PUBREC.
              await node.settle();
              publisher.send({ cmd: 'pubrel', messageId: id });
              held.delete(id);
            } else if (kind === 'reconnect') {
              // What the server has not taken over may be lost with the connection; the client would repeat it.
              await node.settle();
              if ('how' in rest && rest.how === 'lost') publisher.channel.disconnect();
              if ('how' in rest && rest.how === 'disconnect') publisher.send({ cmd: 'disconnect' });
              publisher = await connect();
            } else {
              await node.settle();
            }
          }
          await node.settle();
          expect(clean.publishes().map(({ payload }) => payload.toString())).toEqual(expected);
          expect(kept.publishes().map(({ payload }) => payload.toString())).toEqual(expected);
          const answers = publisher.packets();
          for (const packet of answers) expect(['pubrec', 'pubcomp']).toContain(packet.cmd);
        },
      ),
      { numRuns: 150 },
    );
  },
);
