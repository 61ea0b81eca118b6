import { expect, test } from '@jest/globals';
import type { BrokerHooks } from '@shoalmq/broker';
import { SECRET, attack, eventually } from './attack.ts';

type Authorize = NonNullable<BrokerHooks['authorize']>;
type Request = Parameters<Authorize>[0];

/** A promise to be settled by the test. */
function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}

/** Bystanders may do everything; the others what `authorize` says. */
function authorizing(authorize: Authorize): BrokerHooks {
  return {
    authorize: (request) => (request.clientId.startsWith('bystander-') ? true : authorize(request)),
  };
}

const notSecret = ({ topic }: Request) => !topic.startsWith('secret');

test.each([
  ...['+', '#', 'a/b', '../x', '$SYS', '{x}', '(a+)+$', '.*', '%c', '%u', '%s%n', '*', '[', '\\'],
  'a'.repeat(65_535 - 100),
])('ATTACK 21: a client id is a name and nothing else: %#', async (clientId) => {
  const asked: Request[] = [];
  await attack(
    {
      counted: ({ messagesDropped }) => messagesDropped.unauthorized,
      hooks: authorizing((request) => {
        asked.push(request);
        return request.topic === `clients/${request.clientId}/in`;
      }),
      config: { limits: { connectBytesMax: 70_000 } },
    },
    async ({ broker }) => {
      await using client = await broker.client({ clientId, username: clientId.slice(0, 1000) });
      expect(client.connack.reasonCode).toBe(0);
      const { granted } = await client.subscribe(['clients/x/in', 'other/#']);
      expect(granted).toEqual([0x87, 0x87]);
      client.publish({ topic: 'clients/x/in', qos: 1 });
      expect(await client.expectPacket('puback')).toMatchObject({ reasonCode: 0x87 });
      client.disconnect();
    },
  );
  expect(new Set(asked.map((request) => request.clientId))).toEqual(new Set([clientId]));
});

test('ATTACK 22: of a shared subscription, the filter inside is authorized', async () => {
  const asked: string[] = [];
  await attack(
    {
      counted: ({ connectionsClosed }) => connectionsClosed.client_disconnect,
      hooks: authorizing((request) => {
        asked.push(request.topic);
        return notSecret(request);
      }),
    },
    async ({ broker }) => {
      await using client = await broker.client({ clientId: 'spy' });
      const { granted } = await client.subscribe(
        ['$share/g/secret/#', '$share/g/secret', '$share/g/open/#'],
        { qos: 1 },
      );
      expect(granted).toEqual([0x87, 0x87, 1]);
      client.disconnect();
    },
  );
  expect(asked).toEqual(['secret/#', 'secret', 'open/#']);
});

test.each([
  '$share/g',
  '$share//t',
  '$share/+/t',
  '$share/g#/t',
  '$share/g/',
  '$share/g/$share/h/t',
])('ATTACK 22: %s is not a filter', async (filter) => {
  await attack({ counted: ({ packetsReceived }) => packetsReceived[8]! }, async ({ broker }) => {
    await using client = await broker.client();
    expect(await client.subscribe([filter, 'fine'])).toMatchObject({ granted: [0x8f, 0] });
    client.disconnect();
  });
});

test('ATTACK 22: UNSUBSCRIBE of a shared subscription takes its exact form only', async () => {
  await attack({ counted: ({ packetsReceived }) => packetsReceived[10]! }, async ({ broker }) => {
    await using client = await broker.client();
    await client.subscribe('$share/g/t', { qos: 1 });
    const { granted } = await client.unsubscribe(['t', '$share/h/t', '$share/g/t/#']);
    expect(granted).toEqual([0x11, 0x11, 0x11]);
    expect(await client.publishFully({ topic: 't', qos: 1 })).toBe(0);
    await client.expectPublish({ topic: 't' });
    client.disconnect();
  });
});

test.each(['secret/plans', '$SYS/broker/version', '$CONTROL/x', '$share/g/x'])(
  'ATTACK 23: a will for %s is refused at CONNECT',
  async (topic) => {
    await attack(
      {
        counted: ({ connectionsClosed }) => connectionsClosed.not_authorized,
        hooks: authorizing(notSecret),
      },
      async ({ broker }) => {
        const will = { topic, payload: Buffer.from(SECRET), qos: 1 as const, retain: true };
        await using client = await broker.client({ clientId: 'mole', will });
        expect(client.connack.reasonCode).toBe(0x87);
        await client.expectClose();
        expect(broker.broker.levels().retainedMessages).toBe(0);
      },
    );
  },
);

test('ATTACK 23: a will whose right was revoked after CONNECT is not published', async () => {
  let revoked = false;
  await attack(
    {
      counted: ({ messagesDropped }) => messagesDropped.unauthorized,
      hooks: authorizing(({ clientId }) => clientId !== 'mole' || !revoked),
    },
    async ({ broker }) => {
      await using witness = await broker.client({ clientId: 'witness' });
      await witness.subscribe('t');
      const will = { topic: 't', payload: Buffer.from('bye'), qos: 0 as const, retain: false };
      await using mole = await broker.client({ clientId: 'mole', will });
      revoked = true;
      mole.abort();
      await eventually(() => {
        expect(broker.broker.counters.messagesDropped.unauthorized).toBe(1);
      });
      await witness.expectNothing();
      witness.disconnect();
    },
  );
});

test('ATTACK 24: a session that is resumed loses what its user may not have any more', async () => {
  let revoked = false;
  const asked: string[] = [];
  await attack(
    {
      counted: ({ sessionEvents }) => sessionEvents.resumed,
      hooks: authorizing((request) => {
        if (request.action === 'subscribe') asked.push(request.topic);
        return !revoked || notSecret(request);
      }),
    },
    async ({ broker }) => {
      const session = {
        clientId: 'insider',
        clean: false,
        properties: { sessionExpiryInterval: 60 },
      };
      await using first = await broker.client(session);
      await first.subscribe(['secret/#', '$share/g/secret/x', 'open/#'], { qos: 1 });
      first.disconnect();
      await first.expectClose();
      revoked = true;
      asked.length = 0;

      await using second = await broker.client(session);
      expect(second.connack.sessionPresent).toBe(true);
      expect(asked).toEqual(['secret/#', 'secret/x', 'open/#']);
      await using publisher = await broker.client({ clientId: 'bystander-boss' });
      for (const topic of ['secret/plans', 'secret/x', 'open/door']) {
        await publisher.publishFully({ topic, qos: 1 });
      }
      await second.expectPublish({ topic: 'open/door', acknowledge: true });
      await second.expectNothing();
      publisher.disconnect();
      second.disconnect(0, { sessionExpiryInterval: 0 });
    },
  );
});

test('ATTACK 25: retained messages are authorized one by one, whatever the filter', async () => {
  await attack(
    {
      counted: ({ messagesDropped }) => messagesDropped.unauthorized,
      leaves: ['retainedMessages'],
      hooks: authorizing(({ action, topic }) => action !== 'receive' || !topic.includes('secret')),
    },
    async ({ broker }) => {
      await using boss = await broker.client({ clientId: 'bystander-boss' });
      for (const topic of ['a/secret', 'a/open', 'secret/b']) {
        await boss.publishFully({ topic, payload: topic, qos: 1, retain: true });
      }
      boss.disconnect();
      await using reader = await broker.client();
      await reader.subscribe('+/+');
      await reader.expectPublish({ topic: 'a/open' });
      await reader.expectNothing();
      reader.disconnect();
    },
  );
});

test('ATTACK 26: wildcards do not reach topics of the server, and nobody publishes there', async () => {
  await attack(
    {
      counted: ({ messagesDropped }) => messagesDropped.unauthorized,
      leaves: ['retainedMessages'],
    },
    async ({ broker }) => {
      await using client = await broker.client();
      await client.subscribe(['#', '+/#', '+/x'], { qos: 0 });
      for (const topic of ['$SYS/x', '$foo/x', '$share/g/x', '$']) {
        expect(await client.publishFully({ topic, qos: 1 })).toBe(0x87);
        expect(await client.publishFully({ topic, qos: 2, retain: true })).toBe(0x87);
      }
      await broker.broker.publish({ topic: '$SYS/x', payload: '1', retain: true });
      await client.subscribe(['#', '+/#', '+/x']);
      await client.roundTrip();
      const topics = client.received.flatMap((each) => (each.cmd === 'publish' ? each.topic : []));
      expect(topics.filter((topic) => topic.startsWith('$'))).toEqual([]);
      client.disconnect();
    },
  );
});

test('ATTACK 27: what the hook is asked about is the filter as it is, wildcards and all', async () => {
  const asked: Request[] = [];
  const filters = ['a/#', 'a/+/b', '+/b', '#', 'a/b/#', '$SYS/#'];
  await attack(
    {
      counted: ({ packetsReceived }) => packetsReceived[8]!,
      hooks: authorizing((request) => {
        asked.push(request);
        return request.topic === 'a/+/b';
      }),
    },
    async ({ broker }) => {
      await using client = await broker.client();
      const { granted } = await client.subscribe(filters);
      expect(granted).toEqual([0x87, 0, 0x87, 0x87, 0x87, 0x87]);
      client.disconnect();
    },
  );
  expect(asked.map(({ topic }) => topic)).toEqual(filters);
});

test.each<[string, () => boolean | Promise<boolean>]>([
  [
    'throws',
    () => {
      throw new Error(SECRET);
    },
  ],
  ['rejects', () => Promise.reject(new Error(SECRET))],
  ['answers with something else', () => Promise.resolve('yes' as unknown as boolean)],
])('ATTACK 48: an authorize hook that %s means no', async (_, answer) => {
  await attack(
    { counted: ({ messagesDropped }) => messagesDropped.unauthorized, hooks: authorizing(answer) },
    async ({ broker }) => {
      await using client = await broker.client({ clientId: 'unlucky' });
      expect(await client.subscribe('t')).toMatchObject({ granted: [0x87] });
      for (const qos of [1, 2] as const) {
        expect(await client.publishFully({ topic: 't', qos })).toBe(0x87);
      }
      client.disconnect();
    },
  );
});

test('ATTACK 20: of two connections that open under one client id, the first one ends', async () => {
  const answers = [deferred<boolean>(), deferred<boolean>()];
  let asked = -1;
  await attack(
    {
      counted: ({ sessionEvents }) => sessionEvents.takeover_local,
      hooks: authorizing(() => (asked < 0 ? true : answers[asked++]!.promise)),
    },
    async ({ broker }) => {
      const session = { clientId: 'twin', clean: false, properties: { sessionExpiryInterval: 60 } };
      await using creator = await broker.client(session);
      await creator.subscribe('t', { qos: 1 });
      creator.disconnect();
      await creator.expectClose();

      asked = 0;
      await using first = await broker.open();
      first.sendConnect(session);
      await eventually(() => {
        expect(asked).toBe(1);
      });
      await using second = await broker.open();
      second.sendConnect(session);
      await first.expectClose();
      answers[1]!.resolve(true);
      await second.expectPacket('connack');
      answers[0]!.resolve(true);
      asked = -1;
      expect(await second.publishFully({ topic: 't', qos: 1 })).toBe(0);
      await second.expectPublish({ topic: 't', acknowledge: true });
      second.disconnect(0, { sessionExpiryInterval: 0 });
    },
  );
});

test('ATTACK 24: a connection that ends before CONNACK leaves no session behind that never ends', async () => {
  let answering = true;
  await attack(
    {
      counted: ({ connectionsClosed }) => connectionsClosed.protocol_error,
      hooks: authorizing(() => answering || new Promise(() => undefined)),
      config: { limits: { connectTimeoutMs: 100 } },
    },
    async ({ broker }) => {
      const session = { clientId: 'ghost', clean: false, properties: { sessionExpiryInterval: 1 } };
      await using creator = await broker.client(session);
      await creator.subscribe(
        Array.from({ length: 12 }, (_, i) => `t/${i}`),
        { qos: 1 },
      );
      creator.disconnect();
      await creator.expectClose();
      // Each answer may take its time, all of them together not twelve times that.
      answering = false;
      await using ghost = await broker.open();
      ghost.sendConnect(session);
      await ghost.expectClose();
    },
  );
});

test('ATTACK 48: an authorize hook that never answers means no, and takes nobody for silent', async () => {
  const failed: string[] = [];
  await attack(
    {
      counted: ({ messagesDropped }) => messagesDropped.unauthorized,
      hooks: authorizing(() => new Promise(() => undefined)),
      hookFailed: (_, hook) => failed.push(hook),
      config: { limits: { connectTimeoutMs: 2_000 } },
    },
    async ({ broker }) => {
      await using client = await broker.client({
        clientId: 'patient',
        keepalive: 2,
        timeoutMs: 10_000,
      });
      client.publish({ topic: 't', qos: 1 });
      client.send('c0 00');
      // Others do not take us for dead meanwhile either.
      await client.expectPacket('pingresp');
      expect(await client.expectPacket('puback')).toMatchObject({ reasonCode: 0x87 });
      client.disconnect();
    },
  );
  expect(failed).toEqual(['authorize']);
}, 15_000);
