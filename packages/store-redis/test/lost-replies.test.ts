import { afterAll, beforeAll, describe, expect, jest, test } from '@jest/globals';
import { Message } from '@shoalmq/core';
import type {
  AppendResult,
  ClaimRequest,
  QueuedMessage,
  SessionRef,
  StateStore,
} from '@shoalmq/core';
import {
  hasRedisServer,
  RedisProcess,
  repeatingWrites,
  SeededRandom,
  topicOf,
} from '@shoalmq/testkit';
import { RedisConnection, RedisStore } from '../src/index.ts';
import { LossyProxy } from './lossy-proxy.ts';

const describeWithRedis = hasRedisServer() ? describe : describe.skip;
jest.setTimeout(60_000);

const LIMITS = {
  queueMessagesMax: 3,
  queueBytesMax: 1_000,
  queuePolicy: 'drop-oldest',
  retainedMessagesMax: 10,
  retainedBytesMax: 1_000,
} as const;

/** A write, what goes before it, and how far time goes on in between. */
interface Scenario {
  readonly before?: (store: StateStore) => Promise<unknown>;
  readonly passes?: number;
  readonly write: (store: StateStore) => Promise<unknown>;
}

/** The session of the client id that is claimed first: incarnations are random, and random numbers are not. */
const current: SessionRef = { clientId: 'a', incarnation: new SeededRandom(1).id() };

const scenarios: Readonly<Record<string, Scenario>> = {
  'claim of a new session': { write: (store) => store.claim(claimOf(1)) },
  'claim that takes over, with a will': {
    before: (store) => session(store, 1),
    write: (store) => store.claim(claimOf(2)),
  },
  'claim with clean start': {
    before: (store) => session(store, 1),
    write: (store) => store.claim({ ...claimOf(2), cleanStart: true }),
  },
  'claim of an expired session': {
    before: (store) => session(store, 1).then(() => release(store, 1)),
    passes: 200_000,
    write: (store) => store.claim(claimOf(2)),
  },
  release: {
    before: (store) => session(store, 1),
    write: (store) => release(store, 1),
  },
  'release that ends the session': {
    before: (store) => session(store, 1),
    write: (store) => release(store, 1, 0),
  },
  'changed subscriptions': {
    before: (store) => session(store, 1),
    write: async (store) => store.changeSubscriptions(current, 'n#i#1', [subscription('z')], ['x']),
  },
  'append with a uid, at the bound': {
    before: (store) => session(store, 1),
    // How many it dropped is known only to the reply that was lost.
    write: async (store) => ({
      ...(await append(store, current, 'new', 'uid new')),
      dropped: 1,
    }),
  },
  'settled uid': {
    before: (store) => session(store, 1),
    write: async (store) => {
      store.settleUid(current, 'uid 2');
      return store.read(current, 'n#i#1', 1, 1, 1);
    },
  },
  'removed entries': {
    before: (store) => session(store, 1),
    write: async (store) => store.remove(current, 'n#i#1', [1, 3]),
  },
  'PUBREC came': {
    before: (store) => session(store, 1),
    write: async (store) => store.markReleased(current, 'n#i#1', 3),
  },
  'QoS 2 PUBLISH came': {
    before: (store) => session(store, 1),
    write: async (store) => store.beginIncoming(current, 'n#i#1', 8, 'incoming 8'),
  },
  'QoS 2 fan-out is complete': {
    before: (store) => session(store, 1),
    write: async (store) => store.finishIncoming(current, 'n#i#1', 7),
  },
  'PUBREL came': {
    before: (store) => session(store, 1),
    write: async (store) => store.endIncoming(current, 'n#i#1', 7),
  },
  'settled will': {
    before: (store) => session(store, 1).then(() => release(store, 1)),
    passes: 100_000,
    write: async (store) => {
      const { wills } = await store.takeDue(10);
      for (const { clientId, uid } of wills) await store.settleWill(clientId, uid);
      return wills.length;
    },
  },
  'retained message': {
    before: (store) => store.retain(messageOf('first')),
    write: (store) => store.retain(messageOf('second')),
  },
  'cleared retained message': {
    before: (store) => store.retain(messageOf('first')),
    write: (store) => store.retain(messageOf('')),
  },
};

describeWithRedis('a write', () => {
  let redis: RedisProcess;
  let stores = 0;
  beforeAll(async () => {
    redis = await RedisProcess.start();
  });
  afterAll(() => redis.stop());

  test.each(Object.entries(scenarios))(
    '%s: the same result and the same state when it runs once, twice, or its reply is lost',
    async (_name, scenario) => {
      const once = await run(scenario, (store) => store);
      expect(once.keys.length).toBeGreaterThan(0);
      const twice = await run(scenario, repeatingWrites);
      expect(twice).toEqual(once);
      // Until the write has fewer replies than that: each of them was lost once.
      for (let after = 0; ; after++) {
        const result = await run(scenario, (store) => store, after);
        expect({ after, ...result.state }).toEqual({ after, ...once.state });
        if (result.lost === 0) {
          expect(after).toBeGreaterThan(0);
          break;
        }
      }
    },
  );

  test('a session that a timer ended is told of although the reply was lost, and once', async () => {
    for (let after = 0; ; after++) {
      await using env = await environment();
      await session(env.store, 1);
      await release(env.store, 1);
      env.pass(200_000);
      env.proxy.loseReply({ after });
      const due = [await env.store.takeDue(10)];
      env.proxy.loseNothing();
      env.pass(20_000);
      due.push(await env.store.takeDue(10));
      expect(due.flatMap(({ ended }) => ended)).toMatchObject([
        { clientId: 'a', subscriptions: [{ filter: 'x' }, { filter: 'y' }] },
      ]);
      if (env.proxy.lost === 0) break;
    }
  });

  test('a QoS 1 append whose reply is lost stands in the queue, perhaps twice', async () => {
    await using env = await environment();
    await env.store.claim(claimOf(1));
    const target = current;
    env.proxy.loseReply({ after: 0 });
    expect(await append(env.store, target, 'text', '')).toMatchObject({ outcome: 'kept' });
    const read = await env.store.read(target, 'n#i#1', 1, 10, 1_000);
    expect(env.proxy.lost).toBe(1);
    expect(read.outcome === 'ok' && [1, 2].includes(read.entries.length)).toBe(true);
  });

  /** Runs a scenario on a store of its own; the reply after `loseAfter` others is lost during the write. */
  async function run(scenario: Scenario, wrap: (store: StateStore) => StateStore, loseAfter = -1) {
    await using env = await environment();
    await scenario.before?.(env.store);
    env.pass(scenario.passes ?? 0);
    // Everything that was not waited for has arrived when this has.
    await env.store.readRetained(['none']);
    env.proxy.loseReply({ after: loseAfter });
    const result = await scenario.write(wrap(env.store));
    env.proxy.loseNothing();
    await env.store.readRetained(['none']);
    const keys = await env.dump();
    return { keys, lost: env.proxy.lost, state: { result: plain(result), keys } };
  }

  async function environment() {
    stores += 1;
    const proxy = await LossyProxy.start(redis);
    const keyPrefix = `lost${stores}:`;
    const connection = new RedisConnection({ mode: 'standalone', nodes: [proxy], keyPrefix });
    const direct = new RedisConnection({ mode: 'standalone', nodes: [redis], keyPrefix });
    let offsetMs = 0;
    const store = new RedisStore({
      redis: connection,
      limits: LIMITS,
      random: new SeededRandom(1),
      clock: { wallMs: () => 0 },
      clockOffsetMs: () => offsetMs,
    });
    await store.readRetained(['none']);
    return {
      store,
      proxy,
      pass: (ms: number) => {
        offsetMs += ms;
      },
      dump: () => dump(direct, keyPrefix),
      async [Symbol.asyncDispose]() {
        await store.close();
        await direct.close();
        await proxy[Symbol.asyncDispose]();
      },
    };
  }
});

/** Everything under a prefix, with points in time made equal. */
async function dump(redis: RedisConnection, prefix: string): Promise<readonly string[]> {
  const lines: string[] = [];
  const keys = (await redis.command('', ['KEYS', `${prefix}*`])) as readonly Buffer[];
  for (const key of keys.map(String)) {
    const type = String(await redis.command(key, ['TYPE', key]));
    const commands: Readonly<Record<string, readonly (string | number)[]>> = {
      hash: ['HGETALL', key],
      set: ['SMEMBERS', key],
      zset: ['ZRANGE', key, 0, -1, 'WITHSCORES'],
      stream: ['XRANGE', key, '-', '+'],
      string: ['GET', key],
    };
    const content = await redis.command(key, commands[type] ?? ['TYPE', key]);
    const text = JSON.stringify(content, (_, value: unknown) =>
      value !== null && typeof value === 'object' && 'data' in value
        ? Buffer.from(value.data as number[]).toString('latin1')
        : value,
    );
    const fields = type === 'hash' || type === 'set' ? sorted(text, type === 'hash' ? 2 : 1) : text;
    lines.push(`${key.slice(prefix.length)} ${fields.replaceAll(/\b1[6-9]\d{11}\b/g, 'time')}`);
  }
  return lines.sort();
}

function sorted(list: string, size: number): string {
  const items = JSON.parse(list) as readonly string[];
  const groups = Array.from({ length: items.length / size }, (_, index) =>
    items.slice(index * size, (index + 1) * size).join('='),
  );
  return groups.sort().join(' ');
}

function plain(result: unknown): unknown {
  return JSON.parse(JSON.stringify(result));
}

function claimOf(connection: number): ClaimRequest {
  return {
    clientId: 'a',
    token: `n#i#${connection}`,
    cleanStart: false,
    expiryInterval: 100,
    protocolVersion: 5,
    username: 'user',
    will: {
      topic: 'will',
      payload: Uint8Array.of(1),
      qos: 1,
      retain: false,
      delayInterval: connection === 1 ? 0 : 50,
      messageExpiryInterval: undefined,
      properties: new Uint8Array(0),
    },
  };
}

function release(store: StateStore, connection: number, expiryInterval?: number) {
  return store.release({
    clientId: 'a',
    token: `n#i#${connection}`,
    discardWill: false,
    expiryInterval,
    sentBelow: 2,
  });
}

/** A session with something of everything, owned by a connection. */
async function session(store: StateStore, connection: number): Promise<void> {
  const { incarnation } = await store.claim(claimOf(connection));
  const target = { clientId: 'a', incarnation };
  const token = `n#i#${connection}`;
  await store.changeSubscriptions(target, token, [subscription('x'), subscription('y')], []);
  await append(store, target, 'one', '');
  await append(store, target, 'two', 'uid 2');
  await append(store, target, 'three', 'uid 3');
  await store.markReleased(target, token, 2);
  await store.beginIncoming(target, token, 7, 'incoming 7');
}

function append(store: StateStore, target: SessionRef, text: string, uid: string) {
  const qos = uid === '' ? 1 : 2;
  const queued: QueuedMessage = {
    message: messageOf(text, qos),
    qos,
    retain: false,
    subscriptionIds: [],
  };
  return new Promise<AppendResult>((resolve) => {
    store.append(target, queued, uid, resolve);
  });
}

function messageOf(text: string, qos: 1 | 2 = 1): Message {
  return Message.of(topicOf('t'), new TextEncoder().encode(text), { qos, retain: false });
}

function subscription(filter: string) {
  return {
    filter,
    qos: 1,
    noLocal: false,
    retainAsPublished: false,
    retainHandling: 0,
    subscriptionIdentifier: 0,
  } as const;
}
