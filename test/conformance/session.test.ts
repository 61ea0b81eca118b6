import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ConnectFields, WireVersion } from '@shoalmq/testkit';

const versions = [3, 4, 5] as const;

/** Fields of a client whose session outlives its connection, in each version. */
function persistent(
  version: WireVersion,
  clientId: string,
): ConnectFields & { version: WireVersion } {
  return {
    version,
    clientId,
    clean: false,
    ...(version === 5 && { properties: { sessionExpiryInterval: 3_600 } }),
  };
}

/** A will that is published to `will` when the session ends: its delay is longer than the session. */
function willAtSessionEnd(payload: string): Pick<ConnectFields, 'will'> & object {
  const properties = { willDelayInterval: 60 };
  const will = { topic: 'will', payload: Buffer.from(payload), qos: 0, retain: false, properties };
  return { will: will as NonNullable<ConnectFields['will']> };
}

/** 3.1 has no Session Present flag. */
function presence(version: WireVersion, sessionPresent: boolean): boolean {
  return version !== 3 && sessionPresent;
}

test.each(versions)(
  '[MQTT-3.1.2-5][MQTT-3.2.2-3][MQTT3-3.1.2-4][MQTT3-3.1.2-5][MQTT3-3.2.2-2] a client that comes back finds its subscriptions and the messages of QoS 1 and 2 that came meanwhile (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using first = await broker.client(persistent(version, 'id'));
    expect(first.connack.sessionPresent).toBe(false);
    await first.subscribe('a', { qos: 2 });
    first.disconnect();
    await first.expectClose();

    await using publisher = await broker.client();
    await publisher.publishFully({ topic: 'a', payload: '1', qos: 1 });
    await publisher.publishFully({ topic: 'a', payload: '2', qos: 2 });

    await using second = await broker.client(persistent(version, 'id'));
    expect(second.connack.sessionPresent).toBe(presence(version, true));
    await second.expectPublish({ topic: 'a', payload: '1', qos: 1, acknowledge: true });
    await second.expectPublish({ topic: 'a', payload: '2', qos: 2, acknowledge: true });
    await publisher.publishFully({ topic: 'a', payload: '3', qos: 1 });
    await second.expectPublish({ topic: 'a', payload: '3', qos: 1 });
  },
);

test.each(versions)(
  '[MQTT-3.1.2-5] messages that were not acknowledged are sent again to the client that comes back (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    {
      await using first = await broker.client(persistent(version, 'id'));
      await first.subscribe('a', { qos: 2 });
      await publisher.publishFully({ topic: 'a', payload: '1', qos: 1 });
      await publisher.publishFully({ topic: 'a', payload: '2', qos: 2 });
      await first.expectPublish({ payload: '1', qos: 1, dup: false });
      const { messageId } = await first.expectPublish({ payload: '2', qos: 2, dup: false });
      first.pubrec(messageId!);
      await first.expectPacket('pubrel');
    }
    await using second = await broker.client(persistent(version, 'id'));
    // What is left of the second message comes first: it needs no place in the client's window.
    const { messageId } = await second.expectPacket('pubrel');
    second.pubcomp(messageId);
    await second.expectPublish({ payload: '1', qos: 1, dup: true, acknowledge: true });
    await second.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.1.2-6][MQTT-3.2.2-3][MQTT3-3.1.2-4][MQTT3-3.2.2-3] without a session to resume a new one begins (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using client = await broker.client(persistent(version, 'id'));
    expect(client.connack.sessionPresent).toBe(false);
    expect(client.connack.raw[3]).toBe(0);
    await client.expectNothing();
  },
);

test.each(versions)(
  '[MQTT-3.1.2-4][MQTT-3.1.4-4][MQTT-3.2.2-2][MQTT3-3.1.2-6][MQTT3-3.1.4-3][MQTT3-3.2.2-1] a clean start discards the session that there was (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    await using first = await broker.client(persistent(version, 'id'));
    await first.subscribe('a', { qos: 1 });
    first.disconnect();
    await first.expectClose();
    await publisher.publishFully({ topic: 'a', payload: 'lost', qos: 1 });

    await using second = await broker.client({ ...persistent(version, 'id'), clean: true });
    expect(second.connack.sessionPresent).toBe(false);
    expect(second.connack.raw[3]).toBe(0);
    await publisher.publishFully({ topic: 'a', payload: 'no subscription', qos: 1 });
    await second.expectNothing();
    second.disconnect();
    await second.expectClose();

    // A clean session of 3.x ends with its connection; in 5.0 what counts is the expiry interval.
    await using third = await broker.client(persistent(version, 'id'));
    expect(third.connack.sessionPresent).toBe(version === 5);
    await third.expectNothing();
  },
);

test.each(versions)(
  '[MQTT3-3.1.2-6][MQTT3-4.1.0-2][MQTT-4.1.0-2] a session that is to end with its connection does, and takes nothing along (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client();
    const fields = { version, clientId: 'id', clean: true } as const;
    await using first = await broker.client(fields);
    await first.subscribe('a', { qos: 1 });
    await publisher.publishFully({ topic: 'a', payload: 'in flight', qos: 1 });
    await first.expectPublish({ payload: 'in flight' });
    first.end();
    await first.expectClose();
    await publisher.publishFully({ topic: 'a', payload: 'lost', qos: 1 });
    await using second = await broker.client({ ...fields, clean: false });
    expect(second.connack.sessionPresent).toBe(false);
    await second.expectNothing();
  },
);

test.each(versions)(
  '[MQTT3-3.1.2-7] retained messages stay when the session of their publisher ends (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using publisher = await broker.client({ version, clientId: 'id', clean: true });
    await publisher.publishFully({ topic: 'a', payload: 'kept', qos: 1, retain: true });
    publisher.disconnect();
    await publisher.expectClose();
    await using again = await broker.client({ version, clientId: 'id', clean: true });
    await again.subscribe('a');
    await again.expectPublish({ topic: 'a', payload: 'kept', retain: true });
  },
);

test.each(versions)(
  '[MQTT-3.1.3-2][MQTT3-3.1.3-2] a session belongs to its client id alone, compared byte by byte (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using owner = await broker.client(persistent(version, 'caf\u00e9'));
    await owner.subscribe('a', { qos: 1 });
    for (const clientId of ['caf', 'Caf\u00e9', 'cafe\u0301', 'caf\u00e9 ', '\ufeffcaf\u00e9']) {
      await using other = await broker.client(persistent(version, clientId));
      expect(other.connack.sessionPresent).toBe(false);
      other.publish({ topic: 'a', payload: clientId });
      await owner.expectPublish({ payload: clientId });
      await other.expectNothing();
    }
  },
);

test.each(versions)(
  '[MQTT-3.1.4-5][MQTT3-3.1.4-4][MQTT-3.2.0-2][MQTT-3.2.2-1] an accepted CONNECT gets one CONNACK with success, its flags 0 but for Session Present (version %s)',
  async (version) => {
    await using broker = await TestBroker.start();
    await using first = await broker.client(persistent(version, 'id'));
    expect([...first.connack.raw.subarray(2, 4)]).toEqual([0, 0]);
    await first.subscribe('a');
    await first.expectNothing();
    expect(first.received.filter(({ cmd }) => cmd === 'connack')).toHaveLength(1);
    first.disconnect();
    await first.expectClose();
    await using second = await broker.client(persistent(version, 'id'));
    expect([...second.connack.raw.subarray(2, 4)]).toEqual([version === 3 ? 0 : 1, 0]);
  },
);

test('[MQTT3-4.1.0-1][MQTT3-4.1.0-2][MQTT-4.1.0-1] a session lasts at least as long as its connection, whatever its expiry interval', async () => {
  await using broker = await TestBroker.start();
  await using old = await broker.client({ version: 3, clientId: 'old', clean: true });
  await using clean = await broker.client({ version: 4, clientId: 'clean', clean: true });
  await using none = await broker.client({ clientId: 'none' });
  await using short = await broker.client({
    clientId: 'short',
    properties: { sessionExpiryInterval: 1 },
  });
  const clients = [old, clean, none, short];
  for (const client of clients) await client.subscribe('a', { qos: 1 });
  // The end of another session with the same interval says that the time has passed.
  await using watcher = await broker.client();
  await watcher.subscribe('will');
  await using other = await broker.client({
    clientId: 'other',
    properties: { sessionExpiryInterval: 1 },
    ...willAtSessionEnd('over'),
  });
  other.abort();
  await watcher.expectPublish({ topic: 'will', payload: 'over' });
  await watcher.publishFully({ topic: 'a', payload: 'still there', qos: 1 });
  for (const client of clients) await client.expectPublish({ payload: 'still there', qos: 1 });
});

test('[MQTT-3.1.2-23][MQTT-4.1.0-2] a session is kept until its expiry interval has passed, and no longer', async () => {
  await using broker = await TestBroker.start();
  await using watcher = await broker.client();
  await watcher.subscribe('will');
  const session = (seconds: number) => ({
    clientId: `for ${seconds} s`,
    clean: false,
    properties: { sessionExpiryInterval: seconds },
  });
  {
    await using short = await broker.client({ ...session(1), ...willAtSessionEnd('short') });
    await using long = await broker.client({ ...session(3_600), ...willAtSessionEnd('long') });
    await short.subscribe('a', { qos: 1 });
    await long.subscribe('a', { qos: 1 });
  }
  {
    // Before the interval has passed, both are there.
    await using short = await broker.client({ ...session(1), ...willAtSessionEnd('short') });
    await using long = await broker.client({ ...session(3_600), ...willAtSessionEnd('long') });
    expect([short.connack.sessionPresent, long.connack.sessionPresent]).toEqual([true, true]);
  }
  // The will, due when the session ends, tells when it has.
  await watcher.expectPublish({ topic: 'will', payload: 'short' });
  await using short = await broker.client(session(1));
  await using long = await broker.client(session(3_600));
  expect([short.connack.sessionPresent, long.connack.sessionPresent]).toEqual([false, true]);
  await watcher.publishFully({ topic: 'a', payload: 'hello', qos: 1 });
  await long.expectPublish({ payload: 'hello' });
  await short.expectNothing();
});

test('a session expiry interval above the limit is cut, and CONNACK says so', async () => {
  await using broker = await TestBroker.start({ config: { limits: { sessionExpiryMax: 100 } } });
  const asked = async (sessionExpiryInterval?: number) => {
    await using client = await broker.client(
      sessionExpiryInterval === undefined ? {} : { properties: { sessionExpiryInterval } },
    );
    return client.connack.properties?.sessionExpiryInterval;
  };
  expect(await asked()).toBeUndefined();
  expect(await asked(0)).toBeUndefined();
  expect(await asked(100)).toBeUndefined();
  expect(await asked(101)).toBe(100);
  expect(await asked(0xffff_ffff)).toBe(100);
});

test('a session with expiry 0xFFFFFFFF is kept where the limit allows it', async () => {
  await using broker = await TestBroker.start({
    config: { limits: { sessionExpiryMax: 0xffff_ffff } },
  });
  const fields = {
    clientId: 'id',
    clean: false,
    properties: { sessionExpiryInterval: 0xffff_ffff },
  };
  await using first = await broker.client(fields);
  expect(first.connack.properties?.sessionExpiryInterval).toBeUndefined();
  first.disconnect();
  await first.expectClose();
  await using second = await broker.client(fields);
  expect(second.connack.sessionPresent).toBe(true);
});

test('DISCONNECT changes the session expiry interval: to 0, and the session ends', async () => {
  await using broker = await TestBroker.start();
  const fields = persistent(5, 'id');
  await using first = await broker.client(fields);
  first.disconnect(0, { sessionExpiryInterval: 0 });
  await first.expectClose();
  await using second = await broker.client(fields);
  expect(second.connack.sessionPresent).toBe(false);
});

test('DISCONNECT changes the session expiry interval: to more, and the session is kept longer', async () => {
  await using broker = await TestBroker.start();
  await using watcher = await broker.client();
  await watcher.subscribe('will');
  const fields = { clean: false, properties: { sessionExpiryInterval: 1 } };
  await using longer = await broker.client({ ...fields, clientId: 'longer' });
  longer.disconnect(0, { sessionExpiryInterval: 3_600 });
  await longer.expectClose();
  await using other = await broker.client({
    ...fields,
    clientId: 'other',
    ...willAtSessionEnd('over'),
  });
  other.abort();
  await watcher.expectPublish({ topic: 'will' });
  await using back = await broker.client({ ...fields, clientId: 'longer' });
  expect(back.connack.sessionPresent).toBe(true);
});

test('DISCONNECT may not give a session that was to end with its connection a longer life: 0x82', async () => {
  await using broker = await TestBroker.start();
  for (const properties of [undefined, { sessionExpiryInterval: 0 }]) {
    const fields = { clientId: 'id', ...(properties && { properties }) };
    await using client = await broker.client(fields);
    client.sendPacket({
      cmd: 'disconnect',
      reasonCode: 0,
      properties: { sessionExpiryInterval: 60 },
    });
    await client.expectDisconnect(0x82);
    await using back = await broker.client({ ...persistent(5, 'id') });
    expect(back.connack.sessionPresent).toBe(false);
    back.disconnect(0, { sessionExpiryInterval: 0 });
    await back.expectClose();
  }
});

test('DISCONNECT with session expiry interval 0 after 0 is no error', async () => {
  await using broker = await TestBroker.start();
  await using client = await broker.client();
  client.disconnect(0, { sessionExpiryInterval: 0 });
  expect(await client.expectClose()).toBe('end');
  expect(client.received.map(({ cmd }) => cmd)).toEqual(['connack']);
});
