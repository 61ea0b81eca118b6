import { createConnection } from 'node:net';
import { setTimeout as pause } from 'node:timers/promises';
import { expect, test } from '@jest/globals';
import type { TestBroker } from '@shoalmq/testkit';
import { bytes, packet } from '../conformance/bytes.ts';
import { SECRET, attack, ended, eventually } from './attack.ts';
import { BrokerChild } from './broker-child.ts';

const MIB = 1_048_576;
const protocolErrors = ({ connectionsClosed }: TestBroker['broker']['counters']) =>
  connectionsClosed.protocol_error;

test.each([
  ['says nothing', Buffer.alloc(0)],
  ['sends its CONNECT byte by byte', packet(0x10, 'MQTT', 5, 2, 0, 0, 0, 'x'.repeat(200))],
])('ATTACK 15: a connection that %s ends at the deadline', async (_, first) => {
  await attack(
    { counted: protocolErrors, config: { limits: { connectTimeoutMs: 300 } } },
    async ({ broker }) => {
      await using client = await broker.open();
      const end = ended(client);
      for (const byte of first) {
        if (client.stream.readableEnded) break;
        client.send(Buffer.of(byte));
        await pause(20);
      }
      await end;
      expect(client.received).toEqual([]);
    },
  );
});

test('ATTACK 16: nothing behind a rejected CONNECT is processed, and who ignores the end is cut off', async () => {
  await attack(
    {
      counted: ({ connectionsClosed }) => connectionsClosed.not_authorized,
      hooks: { authenticate: ({ clientId }) => clientId.startsWith('bystander') },
    },
    async ({ broker }) => {
      await using witness = await broker.client({ clientId: 'bystander-witness' });
      await witness.subscribe('t');
      await using client = await broker.open();
      client.sendConnect({ clientId: 'rejected', username: 'u', password: SECRET });
      client.publish({ topic: 't', retain: true });
      expect(await client.expectPacket('connack')).toMatchObject({ reasonCode: 0x87 });
      const startedMs = performance.now();
      client.stream.on('error', () => undefined);
      while (!client.stream.closed) {
        client.stream.write(packet(0x30, 't', 0));
        await pause(10);
        expect(performance.now() - startedMs).toBeLessThan(10_000);
      }
      await witness.expectNothing();
      expect(broker.broker.counters.publishReceived[0]).toBe(0);
      witness.disconnect();
    },
  );
}, 15_000);

test('ATTACK 17: a keep alive above the maximum is lowered in 5.0 and refused in 3.x', async () => {
  await attack(
    {
      counted: protocolErrors,
      config: { limits: { keepAliveMax: 60 } },
      hooks: { authenticate: () => true },
    },
    async ({ broker }) => {
      for (const keepalive of [0, 61, 65_535]) {
        await using modern = await broker.client({ keepalive });
        expect(modern.connack.properties).toMatchObject({ serverKeepAlive: 60 });
        modern.disconnect();
        await using old = await broker.client({ version: 4, keepalive });
        expect(old.connack.returnCode).toBe(2);
      }
    },
  );
});

test('ATTACK 17: who says nothing for one and a half keep alive times is told 0x8D', async () => {
  await attack(
    { counted: ({ connectionsClosed }) => connectionsClosed.keepalive_timeout },
    async ({ broker }) => {
      await using client = await broker.client({ keepalive: 1 });
      await client.expectDisconnect(0x8d);
    },
  );
});

test('ATTACK 17: a packet that is never completed ends at its deadline, however it dribbles', async () => {
  await attack(
    { counted: protocolErrors, config: { limits: { packetTimeoutMs: 300 } } },
    async ({ broker }) => {
      await using client = await broker.client();
      const end = ended(client);
      client.send('30 ff 7f 00 01 74 00');
      while (!client.stream.readableEnded) {
        client.stream.write(Buffer.of(0));
        await pause(20);
      }
      await end;
      await client.expectDisconnect(0x82);
    },
  );
});

test('ATTACK 19: what comes while authentication takes its time stays in the network', async () => {
  let answer!: (yes: boolean) => void;
  const answered = new Promise<boolean>((resolve) => {
    answer = resolve;
  });
  await attack(
    {
      counted: ({ publishReceived }) => publishReceived[0],
      hooks: {
        authenticate: ({ clientId }) => clientId.startsWith('bystander') || answered,
      },
    },
    async ({ broker }) => {
      const impatient = await Promise.all(Array.from({ length: 20 }, () => broker.open()));
      const publish = packet(0x30, 't', 0, Buffer.alloc(1_000));
      const count = 2_000;
      const flood = Buffer.concat(Array.from({ length: count }, () => publish));
      for (const client of impatient) {
        client.sendConnect();
        client.send(flood);
      }
      await eventually(() => {
        expect(broker.broker.counters.listener('mqtt').bytesReceived).toBeGreaterThan(10_000);
      });
      await pause(500);
      expect(broker.broker.counters.listener('mqtt').bytesReceived).toBeLessThan(4 * MIB);
      expect(broker.broker.counters.publishReceived[0]).toBe(0);
      answer(true);
      for (const client of impatient) {
        await client.expectPacket('connack');
        await client.roundTrip();
        client.disconnect();
      }
      expect(broker.broker.counters.publishReceived[0]).toBe(count * impatient.length);
    },
  );
}, 20_000);

test('ATTACK 19: connections that say nothing keep others out until their deadline only', async () => {
  await attack(
    {
      counted: protocolErrors,
      config: { limits: { connectionsMax: 10, connectTimeoutMs: 300 } },
    },
    async ({ broker }) => {
      const idle = await Promise.all(Array.from({ length: 30 }, () => broker.open()));
      await using client = await broker.client({ timeoutMs: 10_000 });
      expect(client.connack.reasonCode).toBe(0);
      client.disconnect();
      for (const each of idle) await each[Symbol.asyncDispose]();
    },
  );
}, 20_000);

test('ATTACK 19: a storm of CONNECTs with wrong passwords is answered and leaves nothing', async () => {
  await attack(
    {
      counted: ({ connectionsClosed }) => connectionsClosed.not_authorized,
      hooks: { authenticate: ({ clientId }) => clientId.startsWith('bystander') },
    },
    async ({ broker }) => {
      const storm = async () => {
        for (let i = 0; i < 30; i++) {
          await using client = await broker.client({ username: 'u', password: SECRET });
          expect(client.connack.reasonCode).toBe(0x87);
        }
      };
      await Promise.all(Array.from({ length: 10 }, storm));
      expect(broker.broker.counters.connects()).toContainEqual({
        version: 5,
        reasonCode: 0x87,
        count: 300,
      });
    },
  );
}, 20_000);

test('ATTACK 44: odd requests to the operations port are refused, and it goes on answering', async () => {
  await using broker = await BrokerChild.start();
  const request = async (text: string) => {
    const socket = createConnection(broker.httpPort, '127.0.0.1');
    socket.on('error', () => undefined);
    socket.write(text);
    let answer = '';
    for await (const chunk of socket) answer += String(chunk);
    return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1] ?? 0);
  };
  const get = (headers: string, path = '/livez') =>
    `GET ${path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n${headers}\r\n`;
  expect(await request(get('__proto__: x\r\nconstructor: y\r\n'))).toBe(200);
  expect(await request(get(`x: ${'y'.repeat(20_000)}\r\n`))).toBe(400);
  const many = Array.from({ length: 5_000 }, (_, i) => `h${i}: v\r\n`).join('');
  expect([400, 431]).toContain(await request(get(many)));
  expect(await request(get('content-length: 5\r\ntransfer-encoding: chunked\r\n'))).toBe(400);
  expect(await request(get('content-length: 5\r\n'))).toBe(413);
  expect(await request(get('', '/../../etc/passwd'))).toBe(404);
  expect(await request(get('', '/__proto__'))).toBe(404);
  expect(await request(get('upgrade: websocket\r\n'))).not.toBe(101);
  expect(await request(bytes(...packet(0x10, 'MQTT', 5, 2, 0, 0, 0, 'c')).toString('latin1'))).toBe(
    400,
  );
  expect([400, 408]).toContain(await request('GET /livez HTTP/1.1\r\nhost: a\r\nx'));
  expect(await request(get(''))).toBe(200);
  expect(broker.alive).toBe(true);
}, 30_000);
