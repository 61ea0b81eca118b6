import { expect, test } from '@jest/globals';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo, Socket } from 'node:net';
import { parser } from 'mqtt-packet';
import { ByteClient, encodePacket, userPropertiesOf } from '@shoalmq/testkit';
import type { WirePacket, WireVersion } from '@shoalmq/testkit';

const versions: readonly WireVersion[] = [3, 4, 5];

test.each(versions)(
  'connects at protocol level %d and keeps the CONNACK with its bytes',
  async (version) => {
    await using server = await startServer(broker);
    await using client = await ByteClient.connect(server.port, { version, clientId: 'c' });

    expect(client.connack).toMatchObject({ cmd: 'connack', sessionPresent: false });
    expect(client.connack.raw).toEqual(
      Buffer.from(version === 5 ? [0x20, 3, 0, 0, 0] : [0x20, 2, 0, 0]),
    );
    expect(server.received[0]).toMatchObject({
      cmd: 'connect',
      clientId: 'c',
      clean: true,
      keepalive: 0,
      protocolVersion: version,
      protocolId: version === 3 ? 'MQIsdp' : 'MQTT',
    });
  },
);

test('sends every field of CONNECT, and a client id of its own unless told', async () => {
  await using server = await startServer(broker);
  await using client = await ByteClient.connect(server.port, {
    clean: false,
    keepalive: 7,
    username: 'ada',
    password: 'secret',
    will: { topic: 'w', payload: 'gone', qos: 1, retain: true },
    properties: { sessionExpiryInterval: 60 },
  });
  await using another = await ByteClient.connect(server.port);

  const [first, second] = server.received;
  expect(first).toMatchObject({
    clean: false,
    keepalive: 7,
    username: 'ada',
    password: Buffer.from('secret'),
    will: { topic: 'w', payload: Buffer.from('gone'), qos: 1, retain: true },
    properties: { sessionExpiryInterval: 60 },
  });
  expect(first).not.toMatchObject({ clientId: (second as { clientId: string }).clientId });
  expect(client.version).toBe(another.version);
});

test.each(versions)('subscribes, publishes and receives at level %d', async (version) => {
  await using server = await startServer(broker);
  await using client = await ByteClient.connect(server.port, { version });

  const suback = await client.subscribe(['a/#', 'b'], { qos: 1 });
  expect(suback.granted).toEqual([1, 1]);
  expect(suback.messageId).toBe(1);
  await client.unsubscribe('b');

  client.publish({ topic: 'a/b', payload: 'hello', qos: 1, retain: true });
  const publish = await client.expectPublish({ topic: 'a/b', payload: 'hello', qos: 1 });
  expect(publish.payload).toEqual(Buffer.from('hello'));
  expect(publish.raw[0]).toBe(0x33);
  client.puback(publish.messageId!);
  await client.expectNothing();
  expect(server.received.at(-2)).toMatchObject({ cmd: 'puback', messageId: publish.messageId });
});

test('waits for the SUBACK of its own SUBSCRIBE and leaves the rest in line', async () => {
  await using server = await startServer((packet, reply) => {
    if (packet.cmd !== 'subscribe') return broker(packet, reply);
    reply(publishOf('before'));
    reply({ cmd: 'suback', messageId: 4711, granted: [0] });
    broker(packet, reply);
  });
  await using client = await ByteClient.connect(server.port);

  expect((await client.subscribe('a', { messageId: 9 })).messageId).toBe(9);
  await client.expectPublish({ topic: 'before' });
  expect((await client.expectPacket('suback')).messageId).toBe(4711);
  await client.expectNothing();
});

test('publishes fully at every QoS, in the middle of other packets', async () => {
  await using server = await startServer((packet, reply) => {
    switch (packet.cmd) {
      case 'publish':
        reply(publishOf('noise'));
        if (packet.qos === 1)
          reply({ cmd: 'puback', messageId: packet.messageId!, reasonCode: 16 });
        if (packet.qos === 2) reply({ cmd: 'pubrec', messageId: packet.messageId! });
        return;
      case 'pubrel':
        reply(publishOf('noise'));
        reply({ cmd: 'pubcomp', messageId: packet.messageId! });
        return;
      default:
        broker(packet, reply);
    }
  });
  await using client = await ByteClient.connect(server.port);

  expect(await client.publishFully({ topic: 't' })).toBe(0);
  expect(await client.publishFully({ topic: 't', qos: 1 })).toBe(16);
  expect(await client.publishFully({ topic: 't', qos: 2 })).toBe(0);
  for (let i = 0; i < 4; i++) await client.expectPublish({ topic: 'noise' });
  await client.expectNothing();
});

test('a QoS 2 message that the server refuses ends with its PUBREC', async () => {
  await using server = await startServer((packet, reply) => {
    if (packet.cmd !== 'publish') return broker(packet, reply);
    reply({ cmd: 'pubrec', messageId: packet.messageId!, reasonCode: 0x87 });
  });
  await using client = await ByteClient.connect(server.port);

  expect(await client.publishFully({ topic: 't', qos: 2 })).toBe(0x87);
  await client.roundTrip();
  expect(server.received.map(({ cmd }) => cmd)).toEqual(['connect', 'publish', 'pingreq']);
});

test('acknowledges what it expects, on request, as its QoS demands', async () => {
  await using server = await startServer((packet, reply) => {
    if (packet.cmd === 'pubrec') reply({ cmd: 'pubrel', messageId: packet.messageId! });
    else broker(packet, reply);
  });
  await using client = await ByteClient.connect(server.port);

  for (const qos of [0, 1, 2] as const) {
    client.publish({ topic: 't', qos });
    await client.expectPublish({ qos, acknowledge: true });
  }
  await client.expectNothing();
  expect(server.received.map(({ cmd }) => cmd).filter((cmd) => cmd !== 'publish')).toEqual([
    'connect',
    'puback',
    'pubrec',
    'pubcomp',
    'pingreq',
  ]);
});

test('bytes go out as they are, from an array, from text, and from a spoiled packet', async () => {
  await using server = await startServer(() => undefined);
  await using client = await ByteClient.open(server.port);
  const spoiled = encodePacket(publishOf('ab'), 4);
  spoiled[0] = 0x3f;

  expect(() => client.send('c0 0')).toThrow('not hexadecimal: c0 0');
  client.send('c0 01\n00');
  client.send(Uint8Array.of(1, 2));
  client.send(spoiled);
  client.end();

  expect(await server.nextEnd()).toEqual(
    Buffer.from([0xc0, 1, 0, 1, 2, 0x3f, 4, 0, 2, 0x61, 0x62]),
  );
  expect(() => client.send('c0 00')).toThrow('the client has ended its side already');
});

test('puts packets together from single bytes, and takes many from one chunk', async () => {
  const bytes = Buffer.concat([
    encodePacket({ cmd: 'connack', sessionPresent: true, reasonCode: 0 }, 5),
    encodePacket({ ...publishOf('long'), payload: Buffer.alloc(20_000, 'x') }, 5),
    encodePacket({ cmd: 'pingresp' }, 5),
  ]);
  await using server = await startServer((_packet, _reply, socket) => {
    for (const byte of bytes.subarray(0, 200)) socket.write(Uint8Array.of(byte));
    socket.write(bytes.subarray(200));
  });
  await using client = await ByteClient.connect(server.port);

  expect(client.connack.sessionPresent).toBe(true);
  const publish = await client.expectPublish({ topic: 'long' });
  expect(publish.payload).toHaveLength(20_000);
  await client.expectPacket('pingresp');
  expect(Buffer.concat(client.received.map(({ raw }) => raw))).toEqual(bytes);
});

test('lists user properties in the order of the bytes', async () => {
  // mqtt-packet would group the two values of `a`.
  const properties = '02 0000003c 26 0001 61 0001 31 0b 8001 26 0001 62 0001 32 26 0001 61 0001 33';
  const length = properties.replaceAll(' ', '').length / 2;
  const publish = Buffer.from(
    `30 ${hex(length + 4)} 0001 74 ${hex(length)} ${properties}`.replaceAll(' ', ''),
    'hex',
  );
  await using server = await startServer((_packet, reply, socket) => {
    reply({
      cmd: 'connack',
      sessionPresent: false,
      reasonCode: 0,
      properties: { receiveMaximum: 9, assignedClientIdentifier: 'x', userProperties: { k: 'v' } },
    });
    socket.write(publish);
  });
  await using client = await ByteClient.connect(server.port);

  expect(userPropertiesOf(client.connack)).toEqual([['k', 'v']]);
  expect(userPropertiesOf(await client.expectPublish())).toEqual([
    ['a', '1'],
    ['b', '2'],
    ['a', '3'],
  ]);
});

test('another packet than expected is told, with all that came, at the line of the test', async () => {
  await using server = await startServer(broker);
  await using client = await ByteClient.connect(server.port);
  client.publish({ topic: 'a/b', payload: 'hello' });

  const failure = await failureOf(client.expectPacket('puback'));
  expect(failure.message).toContain(
    `expected PUBACK, but PUBLISH { qos: 0, topic: 'a/b', payload: 'hello' }`,
  );
  expect(failure.message).toContain('received so far:\n  CONNACK');
  expect(failure.message).toContain('30 0b 00 03 61 2f 62 00 68 65 6c 6c 6f');
  expect(failure.stack?.split('\n').find((line) => line.startsWith('    at '))).toContain(
    'byte-client.test.ts',
  );
});

test('a PUBLISH with another field than expected is told', async () => {
  await using server = await startServer(broker);
  await using client = await ByteClient.connect(server.port);
  client.publish({ topic: 'a', payload: 'one' });

  const failure = await failureOf(client.expectPublish({ topic: 'a', payload: 'two' }));
  expect(failure.message).toContain(`expected PUBLISH with payload 'two', but PUBLISH`);
});

test('silence is told when patience ends, with what came and what is incomplete', async () => {
  await using server = await startServer((packet, reply, socket) => {
    broker(packet, reply);
    socket.write(Uint8Array.of(0x30, 9, 0));
  });
  await using client = await ByteClient.connect(server.port, { timeoutMs: 20 });
  await using quiet = await ByteClient.open(server.port, { timeoutMs: 20 });

  expect((await failureOf(client.expectPacket('publish'))).message).toMatch(
    /^expected PUBLISH within 20 ms\nreceived so far:\n {2}CONNACK .*\n {2}3 bytes of another packet$/,
  );
  expect((await failureOf(quiet.expectClose())).message).toBe(
    'expected the end within 20 ms\nreceived so far: nothing',
  );
});

test('something where nothing was expected is told', async () => {
  await using server = await startServer(broker);
  await using client = await ByteClient.connect(server.port);
  client.publish({ topic: 'surprise' });

  const failure = await failureOf(client.expectNothing());
  expect(failure.message).toContain(`expected nothing, but PUBLISH { qos: 0, topic: 'surprise'`);
});

test('a round trip leaves in line what came, and counts what came before its PINGRESP', async () => {
  await using server = await startServer((packet, reply) => {
    if (packet.cmd !== 'pingreq') return broker(packet, reply);
    reply(publishOf('before'));
    reply({ cmd: 'pingresp' });
    reply(publishOf('after'));
  });
  await using client = await ByteClient.connect(server.port);

  expect(await client.roundTrip()).toBe(1);
  await client.expectPublish({ topic: 'before' });
  await client.expectPublish({ topic: 'after' });
});

test('the end of the connection is what is expected, or is told', async () => {
  await using server = await startServer((packet, reply, socket) => {
    if (packet.cmd === 'connect') return broker(packet, reply);
    reply({ cmd: 'disconnect', reasonCode: 0x82 });
    socket.end();
  });
  await using expecting = await ByteClient.connect(server.port);
  await using surprised = await ByteClient.connect(server.port);
  await using wrong = await ByteClient.connect(server.port);
  await using old = await ByteClient.connect(server.port, { version: 4 });
  for (const client of [expecting, surprised, wrong, old]) client.publish({ topic: 't' });

  await expecting.expectDisconnect(0x82);
  expect((await failureOf(surprised.expectClose())).message).toContain(
    'expected the end of the connection, but DISCONNECT { reasonCode: 130 }',
  );
  expect((await failureOf(surprised.expectPacket('publish'))).message).toContain(
    'expected PUBLISH, but the connection was ended',
  );
  expect((await failureOf(wrong.expectDisconnect(0x81))).message).toContain(
    'expected DISCONNECT 0x81, but DISCONNECT { reasonCode: 130 }',
  );
  expect((await failureOf(old.expectDisconnect(0x82))).message).toContain('but DISCONNECT');
});

test('tells a reset from an end, and can reset itself', async () => {
  await using server = await startServer((packet, reply, socket) => {
    if (packet.cmd === 'connect') broker(packet, reply);
    else socket.resetAndDestroy();
  });
  await using client = await ByteClient.connect(server.port);
  client.send('c0 00');
  expect(await client.expectClose()).toBe('reset');

  await using another = await ByteClient.connect(server.port);
  another.abort();
  expect(await server.nextError()).toBe('ECONNRESET');
});

test('bytes that are no packet end every wait', async () => {
  await using server = await startServer((packet, reply, socket) => {
    broker(packet, reply);
    // A PUBLISH whose topic is longer than the packet; a Remaining Length of five bytes.
    socket.write(Buffer.from(packet.cmd === 'connect' ? '30020009' : '30ffffffff7f', 'hex'));
  });
  await using client = await ByteClient.connect(server.port);

  expect((await failureOf(client.subscribe('a'))).message).toMatch(
    /^expected SUBACK 1, but UNREADABLE .* 30 02 00 09 came\n/,
  );
});

test('DISCONNECT ends this side; disposing of the client closes the connection', async () => {
  await using server = await startServer(broker);
  await using client = await ByteClient.connect(server.port);
  client.disconnect(4);
  await server.nextEnd();
  expect(server.received.at(-1)).toMatchObject({ cmd: 'disconnect', reasonCode: 4 });

  const another = await ByteClient.connect(server.port);
  const end = server.nextEnd();
  await another[Symbol.asyncDispose]();
  await end;
  await another[Symbol.asyncDispose]();
});

test('nobody listening rejects, and so does a server without CONNACK', async () => {
  await using server = await startServer((_packet, _reply, socket) => socket.end());
  await expect(ByteClient.connect(server.port, { version: 4 })).rejects.toThrow(
    'expected CONNACK, but the connection was ended',
  );
  const { port } = server;
  await server[Symbol.asyncDispose]();
  await expect(ByteClient.open(port)).rejects.toMatchObject({ code: 'ECONNREFUSED' });
});

type Reply = (packet: WirePacket) => void;
type Behaviour = (packet: WirePacket, reply: Reply, socket: Socket) => void;

/** The least of a broker: grants what is asked, echoes every PUBLISH. */
function broker(packet: WirePacket, reply: Reply): void {
  switch (packet.cmd) {
    case 'connect':
      return reply({ cmd: 'connack', sessionPresent: false, reasonCode: 0, returnCode: 0 });
    case 'subscribe':
      return reply({
        cmd: 'suback',
        messageId: packet.messageId!,
        granted: packet.subscriptions.map(({ qos }) => qos),
      });
    case 'unsubscribe':
      return reply({
        cmd: 'unsuback',
        messageId: packet.messageId!,
        granted: packet.unsubscriptions.map(() => 0),
      });
    case 'publish':
      return reply(packet);
    case 'pingreq':
      return reply({ cmd: 'pingresp' });
    default:
  }
}

interface TestServer extends AsyncDisposable {
  readonly port: number;
  readonly received: WirePacket[];
  /** All bytes of the next connection that ends. */
  nextEnd(): Promise<Buffer>;
  /** The code of the next error of a connection. */
  nextError(): Promise<string>;
}

async function startServer(behave: Behaviour): Promise<TestServer> {
  const received: WirePacket[] = [];
  const sockets = new Set<Socket>();
  const ends: ((bytes: Buffer) => void)[] = [];
  const errors: ((code: string) => void)[] = [];
  const server = createServer({ noDelay: true }, (socket) => {
    sockets.add(socket);
    const chunks: Buffer[] = [];
    let version: WireVersion = 5;
    const decoder = parser();
    decoder.on('error', () => undefined);
    decoder.on('packet', (packet) => {
      if (packet.cmd === 'connect') version = packet.protocolVersion!;
      received.push(packet);
      behave(packet, (answer) => socket.write(encodePacket(answer, version)), socket);
    });
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      decoder.parse(chunk);
    });
    socket.on('end', () => ends.shift()?.(Buffer.concat(chunks)));
    socket.on('error', (error: NodeJS.ErrnoException) => errors.shift()?.(error.code ?? ''));
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    received,
    nextEnd: () => new Promise((resolve) => ends.push(resolve)),
    nextError: () => new Promise((resolve) => errors.push(resolve)),
    [Symbol.asyncDispose]: async () => {
      if (!server.listening) return;
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

function publishOf(topic: string): Extract<WirePacket, { cmd: 'publish' }> {
  return { cmd: 'publish', topic, payload: '', qos: 0, dup: false, retain: false };
}

async function failureOf(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => {
      throw new Error('it did not fail');
    },
    (error: unknown) => error as Error,
  );
}

function hex(byte: number): string {
  return byte.toString(16).padStart(2, '0');
}
