import { afterAll, beforeAll, expect, test } from '@jest/globals';
import { Client, credentials } from '@grpc/grpc-js';
import type { ClientDuplexStream } from '@grpc/grpc-js';
import { connect } from 'node:net';
import type { Socket } from 'node:net';
import { makeNonce, prove } from '../src/link/handshake.ts';
import {
  decodeReply,
  encodeEmptyFrame,
  encodeHello,
  encodeHelloFrame,
  encodeProof,
} from '../src/link/messages.ts';
import type { Hello, Reply } from '../src/link/messages.ts';
import { LINK_PATH } from '../src/link/service.ts';
import { TestAuthority } from './certificates.ts';
import { ALICE, BOB, SECRET, TestReceiver, TestSender } from './link-harness.ts';

let authority: TestAuthority;
let stranger: TestAuthority;

beforeAll(() => {
  authority = new TestAuthority();
  stranger = new TestAuthority();
});

afterAll(() => {
  authority[Symbol.dispose]();
  stranger[Symbol.dispose]();
});

test.each([
  ['a node with another secret', { security: { secret: 'guessed' } }, 'unauthenticated'],
  ['a node without the secret', { security: {} }, 'unauthenticated'],
  ['a node two minor versions behind', { version: '1.2.9' }, 'version'],
  ['a node two minor versions ahead', { version: '1.6.0' }, 'version'],
  ['a node of another major version', { version: '2.4.0' }, 'version'],
  ['who looks for another node', { peer: { id: 'carol', incarnation: 'b1' } }, 'wrong_receiver'],
  [
    'who looks for an earlier life of this node',
    { peer: { id: 'bob', incarnation: 'b0' } },
    'wrong_receiver',
  ],
])('%s is refused', async (_who, options, reason) => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address, options);
  alice.send('item');
  await alice.until(() => alice.refusals.length > 0);

  expect(alice.refusals[0]).toBe(reason);
  expect(alice.states).not.toContain('up');
  expect(bob.refusals[0]).toBe(reason);
  expect(bob.items).toEqual([]);
  expect(bob.events).toEqual([]);
});

test.each(['1.3.0', '1.5.0'])('a node of version %s is welcome at 1.4.2', async (version) => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address, { version });
  alice.send('item');
  await alice.until(() => alice.settled.length === 1);

  expect(bob.items).toEqual(['item']);
});

test('a sender does not talk to who does not know the secret', async () => {
  await using mallory = await TestReceiver.start({ security: {} });
  using alice = new TestSender(mallory.address);
  await alice.until(() => alice.refusals.length > 0);

  expect(alice.refusals[0]).toBe('unauthenticated');
  expect(alice.states).not.toContain('up');
});

test('a node that is not admitted is refused until it is', async () => {
  await using bob = await TestReceiver.start();
  bob.admits = false;
  using alice = new TestSender(bob.address);
  alice.send('item');
  await alice.until(() => alice.refusals.length > 0);
  expect(alice.refusals[0]).toBe('not_admitted');

  bob.admits = true;
  await alice.until(() => alice.settled.length === 1);
  expect(bob.items).toEqual(['item']);
});

test('a node that was forgotten cannot go on where it was', async () => {
  await using bob = await TestReceiver.start();
  using alice = new TestSender(bob.address);
  alice.send('one');
  await alice.until(() => alice.settled.length === 1);

  bob.server.forget(ALICE);
  alice.send('two');
  await alice.until(() => alice.refusals.length > 0);

  expect(alice.refusals[0]).toBe('forgotten');
  expect(bob.items).toEqual(['one']);
  expect(bob.events).toEqual(['up fresh', 'down']);
});

test('more peers than allowed are refused', async () => {
  await using bob = await TestReceiver.start({ limits: { peersMax: 1 } });
  using alice = new TestSender(bob.address);
  await alice.until(() => alice.link.state === 'up');
  using carol = new TestSender(bob.address, { self: { id: 'carol', incarnation: 'c1' } });
  await carol.until(() => carol.refusals.length > 0);
  expect(carol.refusals[0]).toBe('busy');

  alice.link.close();
  await carol.until(() => carol.link.state === 'up');
});

test('nodes with certificates of one authority talk to each other', async () => {
  await using bob = await TestReceiver.start({ security: { tls: authority.issue('bob') } });
  using alice = new TestSender(bob.address, {
    security: { tls: authority.issue('shoal', ['other', 'alice']) },
  });
  alice.send('x'.repeat(1_000_000));
  await alice.until(() => alice.settled.length === 1);

  expect(bob.items[0]?.length).toBe(1_000_000);
});

test('a certificate of another authority gets nowhere, on either side', async () => {
  const alices = authority.issue('alice');
  await using bob = await TestReceiver.start({ security: { tls: authority.issue('bob') } });
  const { cert, key } = stranger.issue('alice');
  using mallory = new TestSender(bob.address, { security: { tls: { ...alices, cert, key } } });
  using nobody = new TestSender(bob.address);
  await mallory.until(() => mallory.states.length > 1);
  await nobody.until(() => nobody.states.length > 1);

  await using impostor = await TestReceiver.start({
    security: { tls: { ...stranger.issue('bob'), ca: authority.ca } },
  });
  using alice = new TestSender(impostor.address, { security: { tls: alices } });
  await alice.until(() => alice.states.length > 1);

  for (const sender of [mallory, nobody, alice]) expect(sender.states).not.toContain('up');
  await bob.until(() => bob.refusals.length > 1);
  expect(new Set(bob.refusals)).toEqual(new Set(['handshake_failed']));
  expect(bob.events).toEqual([]);
  expect(impostor.events).toEqual([]);
});

test('a certificate of another node gets nowhere, on either side', async () => {
  await using bob = await TestReceiver.start({ security: { tls: authority.issue('bob') } });
  using mallory = new TestSender(bob.address, { security: { tls: authority.issue('carol') } });
  await mallory.until(() => mallory.refusals.length > 0);
  expect(mallory.refusals[0]).toBe('unauthenticated');

  await using carol = await TestReceiver.start({ security: { tls: authority.issue('carol') } });
  using alice = new TestSender(carol.address, { security: { tls: authority.issue('alice') } });
  await alice.until(() => alice.states.length > 1);
  expect(alice.states).not.toContain('up');
  expect(carol.events).toEqual([]);
});

test('one certificate may serve all nodes, when told so', async () => {
  const tls = { ...authority.issue('shoal'), identity: 'cluster' as const };
  await using bob = await TestReceiver.start({ security: { tls } });
  using alice = new TestSender(bob.address, { security: { tls } });
  alice.send('item');
  await alice.until(() => alice.settled.length === 1);

  expect(bob.items).toEqual(['item']);
});

test('both the certificate and the secret are asked for when both are set', async () => {
  const tls = authority.issue('bob');
  await using bob = await TestReceiver.start({ security: { tls, ...SECRET } });
  using mallory = new TestSender(bob.address, {
    security: { tls: authority.issue('alice'), secret: 'guessed' },
  });
  await mallory.until(() => mallory.refusals.length > 0);

  expect(mallory.refusals[0]).toBe('unauthenticated');
});

test('a connection that never says who it is is closed', async () => {
  await using bob = await TestReceiver.start({ limits: { handshakeTimeoutMs: 50 } });
  using silent = new RawConnection(bob.server.port);
  using preface = new RawConnection(bob.server.port, 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n');
  using caller = new RawCall(bob.address);
  await Promise.all([silent.closed, preface.closed, caller.ended]);

  expect(bob.refusals.filter((reason) => reason === 'handshake_timeout').length).toBe(3);
});

test('connections that have not said who they are are bounded, and do not harm those who have', async () => {
  await using bob = await TestReceiver.start({ limits: { pendingConnectionsMax: 3 } });
  using alice = new TestSender(bob.address);
  await alice.until(() => alice.link.state === 'up');
  const crowd = Array.from({ length: 10 }, () => new RawConnection(bob.server.port));
  await Promise.race(crowd.map(({ closed }) => closed));
  await bob.until(() => bob.refusals.length === 7);
  alice.send('item');
  await alice.until(() => alice.settled.length === 1);

  expect(bob.refusals).toEqual(Array<string>(7).fill('too_many_connections'));
  for (const connection of crowd) connection[Symbol.dispose]();
});

test('a frame beyond the bound ends its stream, before and after the handshake', async () => {
  await using bob = await TestReceiver.start({ limits: { frameBytesMax: 50_000 } });
  using before = new RawCall(bob.address);
  before.write(Buffer.alloc(50_001));
  await before.ended;

  using after = new RawCall(bob.address);
  await after.handshake(hello());
  after.write(Buffer.alloc(50_001));
  await after.ended;
  await bob.until(() => bob.events.length === 2);

  expect(bob.events).toEqual(['up fresh', 'down']);
  expect(bob.items).toEqual([]);
});

test('an item that never ends ends its stream', async () => {
  await using bob = await TestReceiver.start({
    limits: { frameBytesMax: 100_000, itemBytesMax: 200_000 },
  });
  using alice = new TestSender(bob.address, { limits: { deadlineMs: 50 } });
  alice.send('x'.repeat(90_000));
  await alice.until(() => alice.settled.length === 1);
  using endless = new RawCall(bob.address);
  await endless.handshake(hello({ sender: { id: 'carol', incarnation: 'c1' } }));
  const piece = Buffer.alloc(90_000);
  for (let sequence = 1; sequence <= 5; sequence++) {
    const fields = { sequence, count: 0, dropped: 0, missed: 0, continues: true, urgent: false };
    // Field 9, 90,000 bytes.
    const head = Buffer.from([0x4a, 0x90, 0xbf, 0x05]);
    endless.write(Buffer.concat([encodeEmptyFrame(fields), head, piece]));
  }
  await endless.ended;

  expect(bob.refusals).toEqual(['malformed']);
  expect(bob.items.length).toBe(1);
});

test.each([
  ['no handshake at all', [frame(1)]],
  ['a proof before the Hello', [encodeProof(makeNonce())]],
  ['two Hellos', [encodeHelloFrame(encodeHello(hello())), encodeHelloFrame(encodeHello(hello()))]],
  ['a Hello without a nonce', [encodeHelloFrame(encodeHello(hello({ nonce: Buffer.alloc(3) })))]],
  ['a Hello without a name', [helloFrame({ sender: { id: '', incarnation: 'a1' } })]],
  ['a Hello without a link', [helloFrame({ link: 0 })]],
  ['noise', [Buffer.from('noise that is no message')]],
  ['an empty message', [Buffer.alloc(0)]],
])('%s is refused', async (_what, messages) => {
  await using bob = await TestReceiver.start();
  using caller = new RawCall(bob.address);
  for (const message of messages) caller.write(message);
  await caller.ended;

  expect(bob.refusals).toEqual(['malformed']);
  expect(caller.replies.at(-1)).toEqual({ kind: 'refused', refusal: 'malformed' });
  expect(bob.events).toEqual([]);
});

test('the proof of an overheard handshake is worth nothing', async () => {
  await using bob = await TestReceiver.start();
  using overheard = new RawCall(bob.address);
  const proof = await overheard.handshake(hello());
  using replay = new RawCall(bob.address);
  replay.write(helloFrame({ attempt: 2 }));
  replay.write(proof);
  await replay.ended;

  expect(replay.replies.at(-1)).toEqual({ kind: 'refused', refusal: 'unauthenticated' });
  expect(bob.events).toEqual(['up fresh']);
});

test('an earlier stream, or an earlier link, cannot replace a later one', async () => {
  await using bob = await TestReceiver.start();
  using later = new RawCall(bob.address);
  await later.handshake(hello({ link: 5, attempt: 7 }));
  for (const fields of [
    { link: 5, attempt: 6 },
    { link: 5, attempt: 7 },
    { link: 4, attempt: 9 },
  ]) {
    using earlier = new RawCall(bob.address);
    await earlier.handshake(hello(fields));
    await earlier.ended;
    expect(earlier.replies.at(-1)).toEqual({ kind: 'refused', refusal: 'stale' });
  }
  later.write(frame(1));
  await later.until(({ kind }) => kind === 'acknowledged');

  expect(bob.events).toEqual(['up fresh']);
});

test('frames that were received are acknowledged and ignored; a hole in their numbers ends the stream', async () => {
  await using bob = await TestReceiver.start();
  using caller = new RawCall(bob.address);
  await caller.handshake(hello());
  for (const sequence of [1, 2, 1, 2, 3]) caller.write(frame(sequence, { dropped: 1 }));
  await caller.until((reply) => reply.kind === 'acknowledged' && reply.acknowledged === 3);
  expect(bob.gaps.length).toBe(3);

  caller.write(frame(5));
  await caller.ended;
  expect(caller.replies.at(-1)).toEqual({ kind: 'refused', refusal: 'malformed' });

  using again = new RawCall(bob.address);
  await again.handshake(hello({ attempt: 2, acknowledged: 3 }));
  expect(again.replies.at(-1)).toMatchObject({ kind: 'welcome', received: 3 });
});

test('a port that is taken is an error', async () => {
  await using bob = await TestReceiver.start();

  await expect(TestReceiver.start({ port: bob.server.port })).rejects.toMatchObject({
    code: 'EADDRINUSE',
  });
});

test('a server that is closed ends its streams, and one that comes back is found', async () => {
  const bob = await TestReceiver.start();
  const { port } = bob.server;
  using alice = new TestSender(bob.address);
  await alice.until(() => alice.link.state === 'up');
  await bob.server.close();
  await alice.until(() => alice.link.state === 'down');
  expect(bob.events).toEqual(['up fresh', 'down']);

  await using back = await TestReceiver.start({ port });
  alice.send('item');
  await alice.until(() => alice.settled.length === 1);
  expect(back.items).toEqual(['item']);
});

function hello(fields: Partial<Hello> = {}): Hello {
  return {
    versionMajor: 1,
    versionMinor: 4,
    sender: ALICE,
    receiver: BOB,
    link: 1,
    attempt: 1,
    acknowledged: 0,
    nonce: makeNonce(),
    ...fields,
  };
}

function helloFrame(fields: Partial<Hello>): Buffer {
  return encodeHelloFrame(encodeHello(hello(fields)));
}

function frame(sequence: number, fields: { dropped?: number } = {}): Buffer {
  return encodeEmptyFrame({
    sequence,
    count: 0,
    dropped: fields.dropped ?? 0,
    missed: 0,
    continues: false,
    urgent: true,
  });
}

/** A stream whose messages a test writes itself. */
class RawCall {
  readonly replies: Reply[] = [];
  readonly ended: Promise<void>;
  readonly #client: Client;
  readonly #call: ClientDuplexStream<Buffer, Reply>;
  #waiting: (() => void)[] = [];

  constructor(address: string) {
    this.#client = new Client(address, credentials.createInsecure(), {
      'grpc.use_local_subchannel_pool': 1,
    });
    this.#call = this.#client.makeBidiStreamRequest(
      LINK_PATH,
      (message: Buffer) => message,
      decodeReply,
    );
    this.#call.on('data', (reply: Reply) => {
      this.replies.push(reply);
      for (const resolve of this.#waiting.splice(0)) resolve();
    });
    this.ended = new Promise((resolve) => {
      this.#call.on('error', () => resolve());
      this.#call.on('end', () => resolve());
    });
    void this.ended.then(() => {
      for (const resolve of this.#waiting.splice(0)) resolve();
    });
  }

  write(message: Buffer): void {
    this.#call.write(message);
  }

  /** Resolves with the frame of the proof when the handshake was answered, in whatever way. */
  async handshake(fields: Hello): Promise<Buffer> {
    const helloBytes = encodeHello(fields);
    this.write(encodeHelloFrame(helloBytes));
    const challenge = await this.until(({ kind }) => kind === 'challenge');
    const nonce = challenge.kind === 'challenge' ? challenge.nonce : makeNonce();
    const proof = encodeProof(prove('sender', SECRET.secret, { helloBytes, nonce }));
    this.write(proof);
    await this.until(({ kind }) => kind === 'welcome' || kind === 'refused');
    return proof;
  }

  async until(condition: (reply: Reply) => boolean): Promise<Reply> {
    for (;;) {
      const reply = this.replies.find(condition);
      if (reply !== undefined) return reply;
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  [Symbol.dispose](): void {
    this.#call.cancel();
    this.#client.close();
  }
}

/** A connection that is no gRPC. */
class RawConnection {
  readonly closed: Promise<void>;
  readonly #socket: Socket;

  constructor(port: number, says?: string) {
    this.#socket = connect({ host: '127.0.0.1', port });
    this.#socket.on('error', () => {});
    this.#socket.resume();
    if (says !== undefined) this.#socket.write(says);
    this.closed = new Promise((resolve) => this.#socket.once('close', () => resolve()));
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}
