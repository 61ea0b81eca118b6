import { describe, expect, jest, test } from '@jest/globals';
import { DEFAULT_LIMITS, Message } from '@shoalmq/core';
import type { AppendResult, ClaimRequest, SessionRef } from '@shoalmq/core';
import { hasRedisServer, RedisCluster, RedisProcess, topicOf } from '@shoalmq/testkit';
import { slotOf } from '../src/connection/hash-slot.ts';
import { RedisConnection, RedisStore, WILL_LEASE_MS } from '../src/index.ts';
import type { RedisOptions, RedisStoreOptions } from '../src/index.ts';

const describeWithRedis = hasRedisServer() ? describe : describe.skip;
jest.setTimeout(60_000);

describeWithRedis('a Redis that fails', () => {
  test('a restart in the middle: calls wait and then succeed, and everything is kept in order', async () => {
    await using redis = await RedisProcess.start({
      args: ['--appendonly', 'yes', '--appendfsync', 'always'],
    });
    await using store = open(redis);
    const ref = await session(store, 'a');
    const results: Promise<AppendResult>[] = [];
    for (let i = 0; i < 300; i++) {
      results.push(append(store, ref, String(i), `uid ${i}`));
      if (i % 10 === 0) await results.at(-1);
      if (i === 150) void redis.restart();
    }
    const sequences = (await Promise.all(results)).map(sequenceOf);
    expect(sequences).toEqual(results.map((_, index) => index + 1));
    expect(await texts(store, ref)).toEqual(results.map((_, index) => String(index)));
    // No event-loop turn was without an answer in the end, and the status says so.
    expect(store.status.state).toBe('up');
  });

  test('at the deadline appends have failed and promises are rejected; later calls work', async () => {
    await using redis = await RedisProcess.start();
    await using store = open(redis, { deadlineMs: 300, replyTimeoutMs: 150 });
    const ref = await session(store, 'a');
    const status: string[] = [];
    store.onStatus(({ state }) => status.push(state));
    redis.pause();
    const unavailable = { code: 'SHOAL_STORE_UNAVAILABLE' };
    await Promise.all([
      expect(append(store, ref, 'x')).resolves.toEqual({ outcome: 'failed' }),
      expect(append(store, ref, 'x', 'uid')).resolves.toEqual({ outcome: 'failed' }),
      expect(store.claim(claimOf('b'))).rejects.toMatchObject(unavailable),
      expect(store.remove(ref, 'n#i#a', [1])).rejects.toMatchObject(unavailable),
      expect(store.retain(messageOf('x'))).rejects.toMatchObject(unavailable),
      expect(new Promise((resolve) => store.owner(ref, resolve))).resolves.toBeUndefined(),
    ]);
    redis.resume();
    await eventually(async () => (await append(store, ref, 'y')).outcome === 'kept');
    expect(status).toEqual(['down', 'up']);
  });

  test('a connection that ended while Redis was away is released when it is back, and its will is due', async () => {
    await using redis = await RedisProcess.start();
    await using store = open(redis, { deadlineMs: 200, replyTimeoutMs: 100 });
    for (const id of ['a', 'b']) await session(store, id, willOf(id));
    redis.pause();
    await expect(store.release(releaseOf('a'))).rejects.toThrow();
    await expect(store.release({ ...releaseOf('b'), expiryInterval: 0 })).rejects.toThrow();
    redis.resume();
    await eventually(async () => store.status.state === 'up');
    const due = await store.takeDue(10);
    expect(due.wills.map(({ clientId }) => clientId).sort()).toEqual(['a', 'b']);
    expect(due.ended).toMatchObject([{ clientId: 'b' }]);
    expect(await store.takeDue(10)).toEqual({ wills: [], ended: [] });
    expect(await store.claim(claimOf('a'))).toMatchObject({ previousToken: '' });
  });

  test('a claim that was not answered owns nothing in the end, and what it ended is told of', async () => {
    await using redis = await RedisProcess.start();
    await using store = open(redis, { deadlineMs: 200, replyTimeoutMs: 100 });
    const { incarnation } = await session(store, 'a', willOf('a'));
    redis.pause();
    const claim = { ...claimOf('a'), token: 'n#i#late', cleanStart: true };
    await expect(store.claim(claim)).rejects.toThrow();
    redis.resume();
    await eventually(async () => store.status.state === 'up');
    const due = await store.takeDue(10);
    const claimed = await store.claim({ ...claimOf('a'), token: 'n#i#next' });
    // Whether the claim ever reached Redis decides who ended the session.
    if (due.ended.length > 0) {
      expect(due.ended).toMatchObject([{ clientId: 'a', incarnation }]);
      expect(claimed.previousToken).toBe('');
    } else {
      expect(claimed).toMatchObject({ incarnation, previousToken: 'n#i#a' });
    }
  });

  test('after SCRIPT FLUSH the scripts of a pipeline are sent again, with the same results in the same order', async () => {
    await using redis = await RedisProcess.start();
    await using store = open(redis);
    const ref = await session(store, 'a');
    await redis.command('SCRIPT', 'FLUSH');
    const results = Array.from({ length: 100 }, (_, index) =>
      append(store, ref, String(index), `uid ${index}`),
    );
    expect((await Promise.all(results)).map(sequenceOf)).toEqual(results.map((_, i) => i + 1));
    await redis.command('SCRIPT', 'FLUSH');
    expect(await texts(store, ref)).toEqual(results.map((_, index) => String(index)));
  });

  test('an unknown error of one call leaves the others alone', async () => {
    await using redis = await RedisProcess.start();
    await using store = open(redis);
    const ref = await session(store, 'a');
    await redis.command('SET', 'shoal:{sYg}:session', 'not a hash');
    await Promise.all([
      expect(store.claim(claimOf('b'))).rejects.toMatchObject({ code: 'SHOAL_STORE_REFUSED' }),
      expect(append(store, ref, 'x')).resolves.toMatchObject({ outcome: 'kept' }),
    ]);
  });

  test('without memory writes wait for it', async () => {
    await using redis = await RedisProcess.start();
    await using store = open(redis);
    const ref = await session(store, 'a');
    await redis.command('CONFIG', 'SET', 'maxmemory', 1);
    const waiting = append(store, ref, 'x', 'uid');
    let answered = false;
    void waiting.then(() => (answered = true));
    await eventually(async () => (await redis.command('INFO', 'errorstats')).includes('OOM'));
    expect(answered).toBe(false);
    await redis.command('CONFIG', 'SET', 'maxmemory', 0);
    expect(await waiting).toEqual({ outcome: 'kept', sequence: 1, dropped: 0 });
  });

  test('replicated: a write counts when the replica has it', async () => {
    await using redis = await RedisProcess.start();
    await using replica = await RedisProcess.start({
      args: ['--replicaof', `${redis.host} ${redis.port}`],
    });
    await eventually(async () =>
      (await replica.command('INFO', 'replication')).includes('master_link_status:up'),
    );
    await using store = open(redis, { replicas: 1, deadlineMs: 5_000 });
    expect(store.durability).toBe('replicated');
    const ref = await session(store, 'a');
    replica.pause();
    const waiting = [append(store, ref, 'one'), append(store, ref, 'two', 'uid')];
    let answered = 0;
    for (const each of waiting) void each.then(() => (answered += 1));
    // The primary has both.
    await eventually(async () => (await redis.command('XLEN', await queueKey(redis))) === ':2');
    expect(answered).toBe(0);
    replica.resume();
    expect((await Promise.all(waiting)).map(sequenceOf)).toEqual([1, 2]);
    expect(await replica.command('XLEN', await queueKey(redis))).toBe(':2');
  });

  test('replicated: a write whose confirmation is lost with its connection is confirmed on the next one', async () => {
    await using redis = await RedisProcess.start();
    await using replica = await RedisProcess.start({
      args: ['--replicaof', `${redis.host} ${redis.port}`],
    });
    await eventually(async () =>
      (await replica.command('INFO', 'replication')).includes('master_link_status:up'),
    );
    await using store = open(redis, { replicas: 1 });
    const ref = await session(store, 'a');
    replica.pause();
    const waiting = Array.from({ length: 20 }, (_, i) => append(store, ref, `${i}`, `uid ${i}`));
    await eventually(async () => (await redis.command('XLEN', await queueKey(redis))) === ':20');
    await redis.command('CLIENT', 'KILL', 'TYPE', 'normal');
    replica.resume();
    expect((await Promise.all(waiting)).map(sequenceOf)).toEqual(waiting.map((_, i) => i + 1));
  });
});

describeWithRedis('a Redis Cluster that changes', () => {
  test('a slot moves to another server, keys and all, while its session is used: order kept, nothing lost', async () => {
    await using cluster = await RedisCluster.start();
    const connection = new RedisConnection({ mode: 'cluster', nodes: cluster.nodes });
    const opened = new RedisStore({ redis: connection, limits: DEFAULT_LIMITS });
    await using store = Object.assign(opened, { [Symbol.asyncDispose]: () => opened.close() });
    const ref = await session(store, 'a');
    const slot = slotOf('{sYQ}');
    const owner = Math.floor(slot / Math.ceil(16_384 / 3));
    const source = cluster.nodes[owner] as RedisProcess;
    const target = cluster.nodes[(owner + 1) % 3] as RedisProcess;
    const [sourceId, targetId] = await Promise.all([idOf(source), idOf(target)]);

    const results: Promise<AppendResult>[] = [];
    const move = { over: false };
    const appending = (async () => {
      while (!move.over || results.length < 200) {
        results.push(append(store, ref, String(results.length), `uid ${results.length}`));
        // Not every one is waited for: some are under way whenever something changes.
        if (results.length % 5 === 0) await new Promise((resolve) => setTimeout(resolve, 1));
      }
    })();
    await target.command('CLUSTER', 'SETSLOT', slot, 'IMPORTING', sourceId);
    await source.command('CLUSTER', 'SETSLOT', slot, 'MIGRATING', targetId);
    for (const key of await keysOn(source, 'sYQ')) {
      await source.command('MIGRATE', target.host, target.port, key, 0, 5_000);
    }
    for (const node of [target, source]) {
      await node.command('CLUSTER', 'SETSLOT', slot, 'NODE', targetId);
    }
    move.over = true;
    await appending;
    expect((await Promise.all(results)).map(sequenceOf)).toEqual(results.map((_, i) => i + 1));
    expect(await texts(store, ref)).toEqual(results.map((_, index) => String(index)));
    expect(await keysOn(target, 'sYQ')).not.toEqual([]);
  });
});

describeWithRedis('what is configured', () => {
  test('a user who may do little, and a database, are enough', async () => {
    await using redis = await RedisProcess.start();
    const rights = ['+@read', '+@write', '+@connection', '+@scripting', '+time', '+info'];
    await redis.command('ACL', 'SETUSER', 'shoal', 'on', '>secret', '~own:*', '-@all', ...rights);
    await using store = open(redis, {
      username: 'shoal',
      password: 'secret',
      keyPrefix: 'own:',
      db: 3,
    });
    const ref = await session(store, 'a', willOf('a'));
    expect(await append(store, ref, 'one', 'uid')).toMatchObject({ outcome: 'kept' });
    expect(await append(store, ref, 'two')).toMatchObject({ outcome: 'kept' });
    expect(await texts(store, ref)).toEqual(['one', 'two']);
    expect(await store.retain(messageOf('x'))).toEqual({ outcome: 'kept' });
    await store.release(releaseOf('a'));
    expect(await store.takeDue(10)).toEqual({ wills: [], ended: [] });
    expect(await redis.command('INFO', 'keyspace')).toMatch(/^\S+\s+# Keyspace\s+db3:/);
  });
});

describeWithRedis('many appends', () => {
  test('two nodes that fill one queue pass its bound by little, and every drop is counted', async () => {
    await using redis = await RedisProcess.start();
    const limits = { ...DEFAULT_LIMITS, queueMessagesMax: 1_000 };
    await using one = open(redis, {}, { limits });
    await using other = open(redis, {}, { limits });
    const ref = await session(one, 'a');
    let kept = 0;
    let dropped = 0;
    for (let round = 0; round < 50; round++) {
      const results = await Promise.all(
        [one, other].flatMap((store) =>
          Array.from({ length: 30 }, () => append(store, ref, 'text')),
        ),
      );
      for (const result of results) {
        if (result.outcome !== 'kept') throw new Error(result.outcome);
        kept += 1;
        dropped += result.dropped;
      }
      expect(kept - dropped).toBeLessThanOrEqual(1_000 * (1 + 2 / 16));
    }
    expect(await redis.command('XLEN', await queueKey(redis))).toBe(`:${kept - dropped}`);
    expect(kept - dropped).toBeGreaterThanOrEqual(900);
    // Most were native.
    const stats = await redis.command('INFO', 'commandstats');
    expect(Number(/cmdstat_xadd:calls=(\d+)/.exec(stats)?.[1])).toBeGreaterThanOrEqual(kept);
  });

  test('the bytes of entries that were appended natively are counted when the queue fills', async () => {
    await using redis = await RedisProcess.start();
    const limits = { ...DEFAULT_LIMITS, queueMessagesMax: 100_000, queueBytesMax: 100_000 };
    await using store = open(redis, {}, { limits });
    const ref = await session(store, 'a');
    const results = await Promise.all(
      Array.from({ length: 3_000 }, () => append(store, ref, 'x'.repeat(100))),
    );
    const dropped = results.reduce(
      (sum, result) => sum + (result.outcome === 'kept' ? result.dropped : 0),
      0,
    );
    expect(dropped).toBe(2_000);
    expect(await texts(store, ref)).toHaveLength(1_000);
  });

  test('removals of a moment are one script, and are done before anything that could see them', async () => {
    await using redis = await RedisProcess.start();
    await using store = open(redis, {}, { holdMs: 1_000_000 });
    const ref = await session(store, 'a');
    for (let i = 0; i < 50; i++) await append(store, ref, 'text', `uid ${i}`);
    await redis.command('CONFIG', 'RESETSTAT');
    const removed = Array.from({ length: 50 }, (_, i) => store.remove(ref, 'n#i#a', [i + 1]));
    expect(await texts(store, ref)).toEqual([]);
    expect(await Promise.all(removed)).toEqual(removed.map(() => 'ok'));
    expect(await redis.command('INFO', 'commandstats')).toContain('cmdstat_xdel:calls=1,');
  });
});

describeWithRedis('what is due', () => {
  test('two nodes that ask at the same time get each end of a session and each will once', async () => {
    await using redis = await RedisProcess.start();
    let offsetMs = 0;
    const options = { clockOffsetMs: () => offsetMs };
    await using one = open(redis, {}, options);
    await using other = open(redis, {}, options);
    const ids = Array.from({ length: 100 }, (_, index) => `client ${index}`);
    for (const id of ids) {
      const will = { ...willOf(id), delayInterval: 10 };
      await one.claim({ ...claimOf(id), expiryInterval: 20, will });
      await one.release(releaseOf(id));
    }
    offsetMs = 60_000;
    const due = await Promise.all(
      Array.from({ length: 20 }, (_, index) => (index % 2 === 0 ? one : other).takeDue(10)),
    );
    const rest = await one.takeDue(1_000);
    const all = [...due, rest];
    const wills = all.flatMap((events) => events.wills.map(({ clientId }) => clientId));
    const ended = all.flatMap((events) => events.ended.map(({ clientId }) => clientId));
    expect(wills.sort()).toEqual([...ids].sort());
    expect(ended.sort()).toEqual([...ids].sort());
  });

  test('a node that buries another one and dies before the will has a timer: whoever goes on sets it', async () => {
    await using redis = await RedisProcess.start();
    let offsetMs = 0;
    await using store = open(redis, {}, { clockOffsetMs: () => offsetMs });
    await session(store, 'a', willOf('a'));
    const released = await store.release({ ...releaseOf('a'), expiryInterval: 0 });
    expect(released).toMatchObject({ outcome: 'ok', wills: [{ clientId: 'a' }] });
    for (const key of (await redis.command('KEYS', '*timers*')).split('\n')) {
      await redis.command('DEL', key);
    }
    offsetMs = WILL_LEASE_MS + 1_000;
    expect(await store.takeDue(10)).toEqual({ wills: [], ended: [] });
    expect(await store.release(releaseOf('a'))).toEqual({ outcome: 'fenced' });
    expect((await store.takeDue(10)).wills).toMatchObject([{ clientId: 'a' }]);
  });

  test('sessions that ended and wills that were settled leave nothing behind', async () => {
    await using redis = await RedisProcess.start();
    let offsetMs = 0;
    await using store = open(redis, {}, { clockOffsetMs: () => offsetMs });
    const before = await redis.command('DBSIZE');
    const ref = await session(store, 'a', willOf('a'));
    await append(store, ref, 'x', 'uid');
    await store.markReleased(ref, 'n#i#a', 1);
    await store.beginIncoming(ref, 'n#i#a', 1, 'incoming');
    await store.release(releaseOf('a'));
    offsetMs = 2_000_000;
    const { wills, ended } = await store.takeDue(10);
    for (const { clientId, uid } of wills) await store.settleWill(clientId, uid);
    expect([wills.length, ended.length]).toEqual([1, 1]);
    offsetMs = 3_000_000;
    expect(await store.takeDue(10)).toEqual({ wills: [], ended: [] });
    await eventually(async () => (await redis.command('DBSIZE')) === before);
  });

  test('a lost session is written again, once, and not when somebody else has it', async () => {
    await using redis = await RedisProcess.start();
    await using store = open(redis);
    const subscription = {
      ...{ filter: 'a/#', qos: 1 as const, noLocal: false, retainAsPublished: false },
      ...{ retainHandling: 0 as const, subscriptionIdentifier: 7 },
    };
    const ref = await session(store, 'a');
    const claim = claimOf('a');
    const known = {
      ...{ ...claim, ...ref, queued: true, will: willOf('w'), nextSequence: 42 },
      ...{ subscriptions: [subscription], released: [40, 12] },
      incoming: [{ packetId: 3, uid: '', state: 'done' as const }],
    };
    await redis.command('FLUSHALL');
    expect(await store.restore(known)).toBe('ok');
    const written = await redis.command('DEBUG', 'DIGEST');
    expect(await store.restore(known)).toBe('ok');
    expect(await redis.command('DEBUG', 'DIGEST')).toBe(written);
    // The queue goes on where its reader is, so that nothing is passed over.
    expect(sequenceOf(await append(store, ref, 'x'))).toBe(42);
    expect(sequenceOf(await append(store, ref, 'y', 'uid'))).toBe(43);
    expect(await store.claim({ ...claimOf('a'), token: 'n#i#next' })).toMatchObject({
      ...{ incarnation: ref.incarnation, sessionPresent: true, previousToken: 'n#i#a' },
      ...{ subscriptions: [subscription], released: [40, 12], incoming: known.incoming },
      ...{ sentBelow: 44, wills: [{ will: { topic: 'w' } }] },
    });
    expect(await store.restore(known)).toBe('fenced');
    expect(await store.restore({ ...known, incarnation: 'another' })).toBe('fenced');
  });

  test('an answer that speaks of a loss is believed when the contents are still the same', async () => {
    await using redis = await RedisProcess.start();
    const contents = { generation: 'one', confirm: () => Promise.resolve() };
    await using store = open(redis, {}, { contents });
    const ref = await session(store, 'a');
    await redis.command('FLUSHALL');
    expect(await append(store, ref, 'x')).toEqual({ outcome: 'gone' });
    expect(await store.read(ref, 'n#i#a', 1, 1, 1)).toEqual({ outcome: 'fenced' });
    contents.confirm = async () => {
      const claim = claimOf('a');
      const nothing = { subscriptions: [], incoming: [], released: [] };
      await store.restore({ ...claim, ...ref, ...nothing, queued: true, nextSequence: 1 });
      contents.generation = 'two';
    };
    const results = ['1', '2', '3'].map((text) => append(store, ref, text));
    expect((await Promise.all(results)).map(sequenceOf)).toEqual([1, 2, 3]);
    expect(await texts(store, ref)).toEqual(['1', '2', '3']);
  });
});

/** A store on a server, to be used with `await using`. */
function open(
  redis: RedisProcess,
  options: Partial<RedisOptions> = {},
  storeOptions: Partial<RedisStoreOptions> = {},
) {
  const connection = new RedisConnection({ mode: 'standalone', nodes: [redis], ...options });
  const store = new RedisStore({ redis: connection, limits: DEFAULT_LIMITS, ...storeOptions });
  return Object.assign(store, { [Symbol.asyncDispose]: () => store.close() });
}

async function session(
  store: RedisStore,
  clientId: string,
  will?: ReturnType<typeof willOf>,
): Promise<SessionRef> {
  const { incarnation } = await store.claim({ ...claimOf(clientId), will });
  return { clientId, incarnation };
}

function claimOf(clientId: string): ClaimRequest {
  return {
    clientId,
    token: `n#i#${clientId}`,
    cleanStart: false,
    expiryInterval: 1_000,
    protocolVersion: 5,
    username: '',
    will: undefined,
  };
}

function releaseOf(clientId: string) {
  return {
    clientId,
    token: `n#i#${clientId}`,
    discardWill: false,
    expiryInterval: undefined,
    sentBelow: 1,
  };
}

function willOf(topic: string) {
  return {
    topic,
    payload: Uint8Array.of(1),
    qos: 1 as const,
    retain: false,
    delayInterval: 0,
    messageExpiryInterval: undefined,
    properties: new Uint8Array(0),
  };
}

function append(store: RedisStore, ref: SessionRef, text: string, uid = ''): Promise<AppendResult> {
  const qos = uid === '' ? 1 : 2;
  const message = messageOf(text);
  return new Promise((resolve) => {
    store.append(ref, { message, qos, retain: false, subscriptionIds: [] }, uid, resolve);
  });
}

function messageOf(text: string): Message {
  return Message.of(topicOf('t'), new TextEncoder().encode(text), { qos: 1, retain: false });
}

function sequenceOf(result: AppendResult): number {
  if (result.outcome !== 'kept') throw new Error(result.outcome);
  return result.sequence;
}

async function texts(store: RedisStore, ref: SessionRef): Promise<readonly string[]> {
  const result = await store.read(ref, `n#i#${ref.clientId}`, 1, 100_000, 1e9);
  if (result.outcome === 'fenced') throw new Error('fenced');
  return result.entries.map(({ message }) =>
    new TextDecoder().decode(message.bytes.subarray(message.start, message.end)),
  );
}

/** The only queue there is. */
async function queueKey(redis: RedisProcess): Promise<string> {
  const keys = await redis.command('KEYS', '*queue*');
  return /\S*queue\S*/.exec(keys)?.[0] ?? '';
}

async function idOf(node: RedisProcess): Promise<string> {
  return (await node.command('CLUSTER', 'MYID')).split('\r\n')[1] ?? '';
}

/** Keys with a tag that a server has. */
async function keysOn(node: RedisProcess, tag: string): Promise<readonly string[]> {
  const reply = await node.command('KEYS', `*{${tag}}*`);
  return reply.split('\r\n').filter((line) => line.includes(tag));
}

async function eventually(holds: () => Promise<boolean>): Promise<void> {
  while (!(await holds())) await new Promise((resolve) => setTimeout(resolve, 10));
}
