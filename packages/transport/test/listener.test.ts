/*
 * Real sockets on loopback; every behaviour is checked with both implementations of a channel. Nothing sleeps: each
 * test waits for the event it is about.
 */
import { afterEach, describe, expect, test } from '@jest/globals';
import type { Channel, ChannelHandler } from '@shoalmq/core';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { networkInterfaces } from 'node:os';
import fc from 'fast-check';
import { type ByteReceiver, type Listener, type ListenOptions, listen } from '@shoalmq/transport';

const HIGH_BYTES = 256 * 1024;
const LOW_BYTES = 64 * 1024;

/** The server's side of one connection, as a test sees it. */
class Peer implements ByteReceiver, ChannelHandler {
  readonly channel: Channel;
  readonly received: Uint8Array[] = [];
  receivedBytes = 0;
  pushes = 0;
  drains = 0;
  resumes = 0;
  closed: { reason: string; error: string | undefined }[] = [];
  onReceived: ((bytes: Uint8Array) => void) | undefined;
  onDrained: (() => void) | undefined;
  #waiting: (() => void)[] = [];

  constructor(channel: Channel) {
    this.channel = channel;
  }

  push(bytes: Uint8Array, start: number, end: number): void {
    const copy = bytes.slice(start, end);
    this.received.push(copy);
    this.receivedBytes += copy.length;
    this.pushes++;
    this.onReceived?.(copy);
    this.#wake();
  }

  resume(): void {
    this.resumes++;
  }

  onDrain(): void {
    this.drains++;
    this.onDrained?.();
    this.#wake();
  }

  onClosed(reason: string, error?: string): void {
    this.closed.push({ reason, error });
    this.#wake();
  }

  /** Resolves when the condition holds after some event of this connection. */
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.#waiting.push(resolve));
  }

  write(bytes: Uint8Array | string): void {
    const source = typeof bytes === 'string' ? new TextEncoder().encode(bytes) : bytes;
    const { channel } = this;
    channel.reserve(source.length);
    channel.bytes.set(source, channel.length);
    channel.length += source.length;
  }

  text(): string {
    return Buffer.concat(this.received).toString();
  }

  #wake(): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const wake of waiting) wake();
  }
}

const listeners: Listener[] = [];
const clients: Socket[] = [];

afterEach(async () => {
  for (const client of clients.splice(0)) client.destroy();
  for (const listener of listeners.splice(0)) {
    listener.destroyAll();
    await listener.close();
  }
});

function deferred<T>(): { promise: Promise<T>; resolve: (value: T) => void } {
  let resolve!: (value: T) => void;
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}

function hasIpv6(): boolean {
  return Object.values(networkInterfaces()).some((addresses) =>
    addresses?.some(({ family }) => family === 'IPv6'),
  );
}

function nextTurn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** Reads until the server closes its side. */
async function readAll(client: Socket): Promise<Buffer> {
  const parts: Buffer[] = [];
  client.on('data', (bytes: Buffer) => parts.push(bytes));
  await once(client, 'end');
  return Buffer.concat(parts);
}

async function readBytes(client: Socket, count: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let total = 0;
  while (total < count) {
    const part = client.read() as Buffer | null;
    if (part === null) await once(client, 'readable');
    else total += parts.push(part) && part.length;
  }
  return Buffer.concat(parts);
}

/** Bytes whose order can be checked. */
function pattern(count: number, seed = 0): Uint8Array {
  const bytes = new Uint8Array(count);
  for (let index = 0; index < count; index++)
    bytes[index] = (index * 7 + (index >> 8) + seed) & 0xff;
  return bytes;
}

describe.each([
  { implementation: 'bare handles', useRawHandles: true },
  { implementation: 'streams', useRawHandles: false },
])('a channel on $implementation', ({ useRawHandles }) => {
  async function start(
    options: Partial<ListenOptions> & { accepted?: (peer: Peer) => void } = {},
  ): Promise<{ listener: Listener; peers: Peer[] }> {
    const peers: Peer[] = [];
    const listener = await listen({
      name: 'mqtt',
      host: '127.0.0.1',
      port: 0,
      connectionsMax: 100,
      useRawHandles,
      accept(channel) {
        const peer = new Peer(channel);
        peers.push(peer);
        options.accepted?.(peer);
        return { receiver: peer, handler: peer };
      },
      ...options,
    });
    listeners.push(listener);
    return { listener, peers };
  }

  async function dial(listener: Listener): Promise<Socket> {
    const client = connect({ host: listener.address, port: listener.port, allowHalfOpen: true });
    clients.push(client);
    await once(client, 'connect');
    return client;
  }

  /** One connection, both ends. */
  async function pair(
    options: Partial<ListenOptions> & { accepted?: (peer: Peer) => void } = {},
  ): Promise<{ client: Socket; peer: Peer; listener: Listener }> {
    const accepted = deferred<Peer>();
    const { listener } = await start({
      ...options,
      accepted(peer) {
        options.accepted?.(peer);
        accepted.resolve(peer);
      },
    });
    const client = await dial(listener);
    return { client, peer: await accepted.promise, listener };
  }

  test('knows who is at the other end', async () => {
    const { client, peer, listener } = await pair();
    expect(peer.channel.remoteAddress).toBe('127.0.0.1');
    expect(peer.channel.remotePort).toBe(client.localPort);
    expect(peer.channel.listener).toBe('mqtt');
    expect(listener.connections).toBe(1);
  });

  test('passes bytes of any size in order, and counts them', async () => {
    const { client, peer, listener } = await pair();
    peer.onReceived = (bytes) => peer.write(bytes);
    let total = 0;
    for (const size of [1, 2, 127, 128, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000]) {
      const sent = pattern(size, size);
      client.write(sent);
      expect((await readBytes(client, size)).equals(sent)).toBe(true);
      total += size;
    }
    expect(listener.bytesReceived).toBe(total);
    await peer.until(() => peer.channel.backlogBytes === 0);
    expect(listener.bytesSent).toBe(total);
  });

  test('sends what is written in one turn together', async () => {
    const { client, peer } = await pair();
    const reads: string[] = [];
    client.on('data', (bytes) => reads.push(bytes.toString()));
    for (const word of ['one ', 'two ', 'three']) peer.write(word);
    expect(peer.channel.backlogBytes).toBe(13);
    await once(client, 'data');
    expect(reads).toEqual(['one two three']);
    expect(peer.channel.backlogBytes).toBe(0);
  });

  test('keeps shared segments and copied bytes in the order of writing', async () => {
    const { client, peer } = await pair();
    const expected: Uint8Array[] = [];
    for (let round = 0; round < 3_000; round++) {
      const copied = pattern(round % 50, round);
      const shared = pattern(round % 300, round + 1);
      peer.write(copied);
      peer.channel.writeShared(shared);
      expected.push(copied, shared);
    }
    const bytes = Buffer.concat(expected);
    expect((await readBytes(client, bytes.length)).equals(bytes)).toBe(true);
  });

  test('delivers any mixture of writes complete and in order, whatever is in flight', async () => {
    const write = fc.record({
      shared: fc.boolean(),
      size: fc.oneof(fc.nat(200), fc.nat(70_000), fc.nat(400_000)),
      endsTurn: fc.boolean(),
    });
    const { listener, peers } = await start();
    await fc.assert(
      fc.asyncProperty(fc.array(write, { maxLength: 40 }), async (writes) => {
        const client = await dial(listener);
        while (peers.length === 0) await nextTurn();
        const peer = peers.pop()!;
        const received = readAll(client);
        const expected: Uint8Array[] = [];
        for (const { shared, size, endsTurn } of writes) {
          const bytes = pattern(size, expected.length);
          expected.push(bytes);
          if (shared) peer.channel.writeShared(bytes);
          else peer.write(bytes);
          if (endsTurn) await nextTurn();
        }
        peer.channel.end(60_000);
        expect((await received).equals(Buffer.concat(expected))).toBe(true);
        client.destroy();
        await peer.until(() => peer.closed.length > 0);
        expect(peer.channel.bytes.length).toBe(0);
      }),
      { numRuns: 20 },
    );
  });

  test('holds no output buffer when everything was sent', async () => {
    const { client, peer } = await pair();
    peer.write('x');
    expect(peer.channel.bytes.length).toBeGreaterThan(0);
    await readBytes(client, 1);
    expect(peer.channel.bytes.length).toBe(0);
  });

  test('counts the backlog of a client that does not read, and reports when it drained', async () => {
    const { client, peer } = await pair();
    const total = 24 * 1024 * 1024;
    const sent: Uint8Array[] = [];
    for (let bytes = 0; bytes < total; bytes += 100_000) {
      const part = pattern(100_000, bytes);
      sent.push(part);
      if (bytes % 200_000 === 0) peer.write(part);
      else peer.channel.writeShared(part);
    }
    await nextTurn();
    expect(peer.channel.backlogBytes).toBeGreaterThan(HIGH_BYTES);
    expect(peer.drains).toBe(0);
    let drainedAt = -1;
    peer.onDrained = () => (drainedAt = peer.channel.backlogBytes);
    const expected = Buffer.concat(sent);
    expect((await readBytes(client, expected.length)).equals(expected)).toBe(true);
    await peer.until(() => peer.drains > 0);
    expect(drainedAt).toBeLessThan(LOW_BYTES);
    expect(peer.drains).toBe(1);
    await nextTurn();
    expect(peer.channel.backlogBytes).toBe(0);
    expect(peer.channel.bytes.length).toBe(0);
  });

  test('reports a drain also when a large output was taken at once', async () => {
    const { client, peer } = await pair();
    peer.write(pattern(HIGH_BYTES + 1));
    await readBytes(client, HIGH_BYTES + 1);
    await peer.until(() => peer.drains === 1);
  });

  test('writes on while an earlier write is in flight', async () => {
    const { client, peer } = await pair();
    const first = pattern(8 * 1024 * 1024);
    peer.channel.writeShared(first);
    await nextTurn();
    expect(peer.channel.backlogBytes).toBeGreaterThan(0);
    peer.write('second ');
    peer.channel.writeShared(Buffer.from('third '));
    peer.write('fourth');
    await nextTurn();
    const bytes = await readBytes(client, first.length + 19);
    expect(bytes.subarray(first.length).toString()).toBe('second third fourth');
  });

  test('gives up a write that makes no progress', async () => {
    const { client, peer, listener } = await pair({ writeStallMs: 1 });
    client.pause();
    peer.channel.writeShared(pattern(24 * 1024 * 1024));
    await peer.until(() => peer.closed.length > 0);
    expect(peer.closed).toEqual([{ reason: 'slow_consumer', error: undefined }]);
    expect(listener.connections).toBe(0);
  });

  test('ends: a client that goes on writing still reads the last bytes', async () => {
    const { client, peer } = await pair();
    client.write('hello');
    await peer.until(() => peer.receivedBytes === 5);
    peer.write('goodbye');
    peer.channel.end(60_000);
    expect(peer.closed).toEqual([]);
    client.write(pattern(1_000_000));
    expect((await readAll(client)).toString()).toBe('goodbye');
    client.end(pattern(1_000_000));
    await peer.until(() => peer.closed.length > 0);
    expect(peer.closed).toEqual([{ reason: 'server', error: undefined }]);
    expect(peer.text()).toBe('hello');
  });

  test('ends: sends a backlog first, and nothing that is written afterwards', async () => {
    const { client, peer } = await pair();
    const backlog = pattern(8 * 1024 * 1024);
    peer.channel.writeShared(backlog);
    await nextTurn();
    peer.write('last');
    peer.channel.end(60_000);
    peer.write('too late');
    peer.channel.writeShared(Buffer.from('too late'));
    const bytes = await readAll(client);
    expect(bytes.length).toBe(backlog.length + 4);
    expect(bytes.subarray(backlog.length).toString()).toBe('last');
  });

  test('ends: closes when the client does not within drainMs', async () => {
    const { client, peer } = await pair();
    client.resume();
    peer.channel.end(1);
    await peer.until(() => peer.closed.length > 0);
    expect(peer.closed).toEqual([{ reason: 'server', error: undefined }]);
  });

  test('ends from within a push, also when reading is paused', async () => {
    const { client, peer } = await pair();
    peer.onReceived = () => {
      peer.channel.pauseReading();
      peer.write('bye');
      peer.channel.end(60_000);
    };
    client.write('x');
    expect((await readAll(client)).toString()).toBe('bye');
    client.end();
    await peer.until(() => peer.closed.length > 0);
    expect(peer.pushes).toBe(1);
  });

  test('destroys at once, and says so once and later', async () => {
    const { client, peer, listener } = await pair();
    const ended = once(client, 'end');
    client.resume();
    peer.channel.destroy();
    peer.channel.destroy();
    peer.channel.end(1_000);
    expect(peer.closed).toEqual([]);
    await ended;
    await peer.until(() => peer.closed.length > 0);
    await nextTurn();
    expect(peer.closed).toEqual([{ reason: 'server', error: undefined }]);
    expect(listener.connections).toBe(0);
    peer.write('nobody listens');
    peer.channel.writeShared(pattern(10));
    peer.channel.resumeReading();
    peer.channel.resumeDecoding();
    await nextTurn();
    expect(peer.resumes).toBe(0);
  });

  test('destroys with a write in flight', async () => {
    const { peer } = await pair();
    peer.channel.writeShared(pattern(24 * 1024 * 1024));
    await nextTurn();
    peer.channel.destroy();
    await peer.until(() => peer.closed.length > 0);
    expect(peer.closed).toEqual([{ reason: 'server', error: undefined }]);
  });

  test('can be refused while it is accepted', async () => {
    const { listener, peers } = await start({ accepted: (peer) => peer.channel.destroy() });
    const client = await dial(listener);
    client.resume();
    await once(client, 'end');
    const [peer] = peers;
    await peer!.until(() => peer!.closed.length > 0);
    expect(peer!.closed).toEqual([{ reason: 'server', error: undefined }]);
  });

  test('takes the end of what the client sends for the end', async () => {
    const { client, peer } = await pair();
    peer.onReceived = () => peer.write('answer');
    const answer = readAll(client);
    client.end('question');
    await peer.until(() => peer.closed.length > 0);
    expect(peer.closed).toEqual([{ reason: 'client_eof', error: undefined }]);
    expect(peer.text()).toBe('question');
    expect((await answer).toString()).toBe('answer');
  });

  test('names the error when the client resets', async () => {
    const { client, peer } = await pair();
    client.resetAndDestroy();
    await peer.until(() => peer.closed.length > 0);
    expect(peer.closed).toEqual([{ reason: 'io_error', error: 'ECONNRESET' }]);
  });

  test('stops and resumes reading', async () => {
    const { client, peer } = await pair({
      accepted: (accepted) => accepted.channel.pauseReading(),
    });
    client.write('one');
    peer.write('x');
    await readBytes(client, 1);
    await nextTurn();
    expect(peer.pushes).toBe(0);
    peer.channel.resumeReading();
    await peer.until(() => peer.text() === 'one');
    peer.channel.pauseReading();
    peer.channel.resumeReading();
    client.write(' two');
    await peer.until(() => peer.text() === 'one two');
  });

  test('has the receiver go on with what it kept', async () => {
    const { client, peer } = await pair();
    peer.channel.resumeDecoding();
    expect(peer.resumes).toBe(1);
    client.write('x');
    await peer.until(() => peer.receivedBytes === 1);
  });

  test('holds connections beyond the maximum until one ends', async () => {
    const { listener, peers } = await start({ connectionsMax: 1 });
    const first = await dial(listener);
    first.write('1');
    const second = await dial(listener);
    second.write('2');
    const third = await dial(listener);
    third.write('3');
    while (listener.connectionsHeld < 2) await nextTurn();
    expect(listener.connections).toBe(1);
    expect(peers.length).toBe(1);
    await peers[0]!.until(() => peers[0]!.text() === '1');
    first.end();
    await peers[0]!.until(() => peers[0]!.closed.length > 0);
    while (peers.length < 2) await nextTurn();
    await peers[1]!.until(() => peers[1]!.text() === '2');
    expect(listener.connections).toBe(1);
    expect(listener.connectionsHeld).toBe(1);
  });

  test('holds only so many, and closes those that wait longest', async () => {
    const { listener } = await start({ connectionsMax: 1, connectionsHeldMax: 1 });
    await dial(listener);
    const longest = await dial(listener);
    longest.resume();
    while (listener.connectionsHeld < 1) await nextTurn();
    await dial(listener);
    await once(longest, 'end');
    expect(listener.connectionsHeld).toBe(1);
  });

  test('a closed listener refuses; its connections live on until destroyed', async () => {
    const { client, peer, listener } = await pair();
    await listener.close();
    const refused = connect({ host: listener.address, port: listener.port });
    clients.push(refused);
    const [error] = (await once(refused, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
    peer.write('alive');
    expect((await readBytes(client, 5)).toString()).toBe('alive');
    listener.destroyAll();
    await peer.until(() => peer.closed.length > 0);
    expect(listener.connections).toBe(0);
  });

  test('a port in use is an error with the code of the system', async () => {
    const { listener } = await start();
    await expect(start({ port: listener.port })).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });

  if (hasIpv6()) {
    test('listens on IPv6 and shows IPv4 clients by their IPv4 address', async () => {
      const accepted = deferred<Peer>();
      const { listener } = await start({ host: '::', accepted: (peer) => accepted.resolve(peer) });
      clients.push(connect({ host: '127.0.0.1', port: listener.port }));
      expect((await accepted.promise).channel.remoteAddress).toBe('127.0.0.1');
    });
  }

  // A stream is destroyed by its first error, with all that was not read.
  if (useRawHandles) {
    test('reads what the client said last although writing to it fails already', async () => {
      const { client, peer } = await pair();
      client.write('first ');
      await peer.until(() => peer.receivedBytes > 0);
      // All in one turn: the bytes and the reset are here before our write, and that comes before our next read.
      client.write('last');
      client.resetAndDestroy();
      peer.write('nobody reads this');
      await peer.until(() => peer.closed.length > 0);
      expect(peer.text()).toBe('first last');
      expect(peer.closed).toEqual([{ reason: 'io_error', error: 'ECONNRESET' }]);
    });
  }
});
