import { expect, test } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient, ConnectFields } from '@shoalmq/testkit';
import { bytes, connect, packet, properties } from './bytes.ts';

type Step = 'continue' | 'accept' | 'refuse' | 'throw';

const utf8 = (text: string) => Buffer.from(text);

/**
 * A broker with one method, `CHALLENGE`, whose exchange goes as the data of the client says: `continue`, `accept`,
 * `refuse` or `throw`. It answers with `re: ` and the data, and records what it was asked.
 */
async function challengeBroker(seen: string[] = []): Promise<TestBroker> {
  return TestBroker.start({
    hooks: {
      enhancedAuthentication: ({ method, username }) => {
        if (method !== 'CHALLENGE') return undefined;
        seen.push(`begin ${username ?? ''}`);
        return {
          step: (data) => {
            const step = data?.toString() as Step | undefined;
            seen.push(step ?? 'no data');
            switch (step) {
              case 'accept':
                return { outcome: 'accepted', data: utf8('re: accept') };
              case 'refuse':
                return { outcome: 'rejected', reasonCode: 0x86 };
              case 'throw':
                throw new Error('a bug in the method');
              default:
                return { outcome: 'continue', data: utf8('re: continue') };
            }
          },
          abandon: () => seen.push('abandon'),
        };
      },
    },
  });
}

function withMethod(step?: Step, method = 'CHALLENGE'): ConnectFields {
  return {
    properties: {
      authenticationMethod: method,
      ...(step && { authenticationData: utf8(step) }),
    },
  };
}

function sendAuth(
  client: ByteClient,
  reasonCode: number,
  step?: Step,
  method: string | undefined = 'CHALLENGE',
): void {
  client.send(packet(0xf0, reasonCode, properties(0x15, method, ...(step ? [0x16, step] : []))));
}

async function expectAuth(client: ByteClient, reasonCode: number, data: string): Promise<void> {
  const auth = await client.expectPacket('auth');
  expect(auth.reasonCode).toBe(reasonCode);
  expect(auth.properties?.authenticationMethod).toBe('CHALLENGE');
  expect(auth.properties?.authenticationData?.toString()).toBe(data);
  // Nothing else may be in it that would have to be left out for a small client.
  expect(Object.keys(auth.properties ?? {}).sort()).toEqual([
    'authenticationData',
    'authenticationMethod',
  ]);
}

/** A client that has authenticated with one step. */
async function authenticated(broker: TestBroker, fields: ConnectFields = {}): Promise<ByteClient> {
  const client = await broker.client({ ...fields, ...withMethod('accept') });
  expect(client.connack.reasonCode).toBe(0);
  return client;
}

test('[MQTT-4.12.0-2][MQTT-4.12.0-3][MQTT-4.12.0-5][MQTT-3.15.2-1][MQTT-3.15.2-2][MQTT-3.15.2-3] AUTH 0x18 goes to and fro until the method is content, each with the method', async () => {
  const seen: string[] = [];
  await using broker = await challengeBroker(seen);
  await using client = await broker.open();
  client.sendConnect({ username: 'ann', ...withMethod() });
  await expectAuth(client, 0x18, 're: continue');
  sendAuth(client, 0x18, 'continue');
  await expectAuth(client, 0x18, 're: continue');
  sendAuth(client, 0x18, 'accept');
  const connack = await client.expectPacket('connack');
  expect(connack.reasonCode).toBe(0);
  expect(connack.properties?.authenticationMethod).toBe('CHALLENGE');
  expect(connack.properties?.authenticationData?.toString()).toBe('re: accept');
  await client.expectNothing();
  expect(seen).toEqual(['begin ann', 'no data', 'continue', 'accept']);
});

test('[MQTT-4.12.0-5] accepted at once, CONNACK is the first packet and has the method', async () => {
  await using broker = await challengeBroker();
  await using client = await authenticated(broker);
  expect(client.connack.properties?.authenticationMethod).toBe('CHALLENGE');
  await client.expectNothing();
});

test('[MQTT-4.12.0-1] a method that is not supported gets CONNACK 0x8C and the end of the connection', async () => {
  await using broker = await challengeBroker();
  await using plain = await TestBroker.start();
  for (const other of [broker, plain]) {
    for (const method of ['OTHER', 'challenge', '']) {
      await using client = await other.client(withMethod('accept', method));
      expect(client.connack.reasonCode).toBe(0x8c);
      expect(await client.expectClose()).toBe('end');
    }
  }
});

test('[MQTT-4.12.0-4] a refusal, at once or later, is a CONNACK with the reason and the end of the connection', async () => {
  const seen: string[] = [];
  await using broker = await challengeBroker(seen);
  for (const [step, reasonCode] of [
    ['refuse', 0x86],
    ['throw', 0x87],
  ] as const) {
    await using atOnce = await broker.client(withMethod(step));
    expect(atOnce.connack.raw.toString('hex')).toBe(
      bytes(0x20, 3, 0, reasonCode, 0).toString('hex'),
    );
    expect(await atOnce.expectClose()).toBe('end');
    await using later = await broker.open();
    later.sendConnect(withMethod('continue'));
    await later.expectPacket('auth');
    sendAuth(later, 0x18, step);
    const connack = await later.expectPacket('connack');
    expect(connack.reasonCode).toBe(reasonCode);
    expect(await later.expectClose()).toBe('end');
  }
  expect(broker.broker.levels().sessionsConnected).toBe(0);
});

test.each([
  ['PUBLISH', packet(0x30, 'a', 0)],
  ['SUBSCRIBE', packet(0x82, 0, 1, 0, 'a', 0)],
  ['UNSUBSCRIBE', packet(0xa2, 0, 1, 0, 'a')],
  ['PUBACK', packet(0x40, 0, 1)],
  ['PUBREL', packet(0x62, 0, 1)],
  ['PINGREQ', packet(0xc0)],
  ['a second CONNECT', connect('id')],
])(
  '[MQTT-3.1.2-30][MQTT-3.2.0-1] %s while the method goes on is a protocol error',
  async (_, early) => {
    const seen: string[] = [];
    await using broker = await challengeBroker(seen);
    await using watcher = await broker.client();
    await watcher.subscribe('a');
    await using client = await broker.open();
    client.sendConnect(withMethod());
    await client.expectPacket('auth');
    client.send(early);
    const connack = await client.expectPacket('connack');
    expect(connack.reasonCode).toBe(0x82);
    expect(await client.expectClose()).toBe('end');
    await watcher.expectNothing();
    expect(seen.at(-1)).toBe('abandon');
  },
);

test('[MQTT-3.1.2-30] DISCONNECT while the method goes on ends the connection without any answer', async () => {
  const seen: string[] = [];
  await using broker = await challengeBroker(seen);
  await using client = await broker.open();
  client.sendConnect(withMethod());
  await client.expectPacket('auth');
  client.send(packet(0xe0));
  expect(await client.expectClose()).toBe('end');
  expect(seen.at(-1)).toBe('abandon');
});

test.each([0x00, 0x19, 0x01, 0x80])(
  '[MQTT-4.12.0-3][MQTT-3.15.2-1] AUTH %s in place of 0x18 before CONNACK is a protocol error',
  async (reasonCode) => {
    await using broker = await challengeBroker();
    await using client = await broker.open();
    client.sendConnect(withMethod());
    await client.expectPacket('auth');
    sendAuth(client, reasonCode, 'accept');
    const connack = await client.expectPacket('connack');
    expect(connack.reasonCode).toBe(0x82);
    expect(await client.expectClose()).toBe('end');
  },
);

test('[MQTT-4.12.0-5] AUTH with another method, or none, is refused before CONNACK', async () => {
  await using broker = await challengeBroker();
  for (const [auth, reasonCode] of [
    [packet(0xf0, 0x18, properties(0x15, 'OTHER', 0x16, 'accept')), 0x8c],
    [packet(0xf0, 0x18, properties(0x16, 'accept')), 0x82],
    [packet(0xf0, 0x18), 0x82],
    [packet(0xf0), 0x82],
  ] as const) {
    await using client = await broker.open();
    client.sendConnect(withMethod());
    await client.expectPacket('auth');
    client.send(auth);
    const connack = await client.expectPacket('connack');
    expect(connack.reasonCode).toBe(reasonCode);
    expect(await client.expectClose()).toBe('end');
  }
});

test.each([0xf1, 0xf2, 0xf4, 0xf8])(
  '[MQTT-3.15.1-1] AUTH with reserved flags is malformed (first byte %s)',
  async (first) => {
    await using broker = await challengeBroker();
    await using client = await authenticated(broker);
    client.send(packet(first, 0x19, properties(0x15, 'CHALLENGE')));
    await client.expectDisconnect(0x81);
  },
);

test('[MQTT-4.12.0-6][MQTT-4.12.0-7] without a method in CONNECT there is none in CONNACK, and AUTH of the client is refused', async () => {
  await using broker = await challengeBroker();
  for (const reasonCode of [0x18, 0x19]) {
    await using client = await broker.client();
    expect(client.connack.properties).not.toHaveProperty('authenticationMethod');
    expect(client.connack.properties).not.toHaveProperty('authenticationData');
    sendAuth(client, reasonCode, 'accept');
    await client.expectDisconnect(0x82);
    expect(client.received.map(({ cmd }) => cmd)).toEqual(['connack', 'disconnect']);
  }
});

test.each([3, 4] as const)('AUTH does not exist in 3.x (version %s)', async (version) => {
  await using broker = await challengeBroker();
  await using client = await broker.client({ version });
  sendAuth(client, 0x19, 'accept');
  expect(await client.expectClose()).toBe('end');
});

test('[MQTT-4.12.1-1][MQTT-4.12.0-5] a client authenticates once more with AUTH 0x19, and is told with AUTH 0x00', async () => {
  const seen: string[] = [];
  await using broker = await challengeBroker(seen);
  await using client = await authenticated(broker, { username: 'ann' });
  for (let i = 0; i < 2; i++) {
    seen.length = 0;
    sendAuth(client, 0x19, 'continue');
    await expectAuth(client, 0x18, 're: continue');
    sendAuth(client, 0x18, 'accept');
    await expectAuth(client, 0x00, 're: accept');
    expect(seen).toEqual(['begin ann', 'continue', 'accept']);
  }
  await client.expectNothing();
});

test('while a client authenticates once more, everything else goes on', async () => {
  await using broker = await challengeBroker();
  await using client = await authenticated(broker);
  sendAuth(client, 0x19, 'continue');
  await expectAuth(client, 0x18, 're: continue');
  await client.subscribe('a', { qos: 1 });
  await client.publishFully({ topic: 'a', qos: 1 });
  await client.expectPublish({ topic: 'a' });
  sendAuth(client, 0x18, 'accept');
  await expectAuth(client, 0x00, 're: accept');
});

test('[MQTT-4.12.1-1] authenticating once more with another method is refused', async () => {
  await using broker = await challengeBroker();
  await using client = await authenticated(broker);
  sendAuth(client, 0x19, 'accept', 'OTHER');
  await client.expectDisconnect(0x82);
});

test('[MQTT-4.12.0-3][MQTT-4.12.1-1] AUTH out of turn is a protocol error after CONNACK too', async () => {
  await using broker = await challengeBroker();
  await using early = await authenticated(broker);
  sendAuth(early, 0x18, 'accept');
  await early.expectDisconnect(0x82);
  await using twice = await authenticated(broker);
  sendAuth(twice, 0x19, 'continue');
  await expectAuth(twice, 0x18, 're: continue');
  sendAuth(twice, 0x19, 'accept');
  await twice.expectDisconnect(0x82);
});

test.each([
  // Refused with 0x86, which no DISCONNECT may have.
  ['refuse', 0x87],
  ['throw', 0x87],
] as const)(
  '[MQTT-4.12.1-2][MQTT-3.14.2-1] authenticating once more without success ends the connection, with the reason (%s)',
  async (step, reasonCode) => {
    await using broker = await challengeBroker();
    await using client = await authenticated(broker);
    sendAuth(client, 0x19, step);
    await client.expectDisconnect(reasonCode);
    await using other = await authenticated(broker);
    sendAuth(other, 0x19, 'continue');
    await expectAuth(other, 0x18, 're: continue');
    sendAuth(other, 0x18, step);
    await other.expectDisconnect(reasonCode);
  },
);

test('a method that never ends is ended: in rounds and in time', async () => {
  await using broker = await challengeBroker();
  await using client = await broker.open();
  client.sendConnect(withMethod());
  let rounds = 0;
  for (;;) {
    const answer = await client.expectPacket();
    if (answer.cmd !== 'auth') {
      expect(answer).toMatchObject({ cmd: 'connack', reasonCode: 0x8c });
      break;
    }
    rounds += 1;
    expect(rounds).toBeLessThan(100);
    sendAuth(client, 0x18, 'continue');
  }
  await client.expectClose();
});

test('a client that does not answer AUTH is not waited for', async () => {
  const seen: string[] = [];
  await using broker = await TestBroker.start({
    config: { limits: { connectTimeoutMs: 200 } },
    hooks: {
      enhancedAuthentication: () => ({
        step: () => ({ outcome: 'continue' }),
        abandon: () => seen.push('abandon'),
      }),
    },
  });
  await using client = await broker.open();
  client.sendConnect(withMethod());
  const auth = await client.expectPacket('auth');
  expect(auth.properties).not.toHaveProperty('authenticationData');
  await client.expectClose();
  expect(seen).toEqual(['abandon']);
});
