import { expect, test } from '@jest/globals';
import { DEFAULT_LIMITS, Message } from '@shoalmq/core';
import type { AppendResult, ClaimRequest, QueuedMessage, StateStore } from '@shoalmq/core';
import { describeStateStore, FakeClock, SeededRandom, topicOf } from '@shoalmq/testkit';
import { createMemoryStore, WILL_LEASE_MS } from '../src/index.ts';

describeStateStore(
  'memory store',
  (limits) => {
    const clock = new FakeClock();
    return Promise.resolve({
      store: createMemoryStore({ clock, random: new SeededRandom(1), limits }),
      nowMs: () => clock.wallMs(),
      advance: (ms: number) => {
        clock.advance(ms);
      },
      close: () => Promise.resolve(),
    });
  },
  { willLeaseMs: WILL_LEASE_MS, runs: 300 },
);

test('a deadline is met at its millisecond, not before', async () => {
  const { store, clock } = newStore();
  await store.claim(claimOf('a', { expiryInterval: 10 }));
  await store.release(releaseOf('a'));
  clock.advance(9_999);
  expect((await store.takeDue(1)).ended).toEqual([]);
  clock.advance(1);
  expect((await store.takeDue(1)).ended).toHaveLength(1);
});

test('appends are answered before append returns, and removals take effect at once', async () => {
  const { store } = newStore();
  const { incarnation } = await store.claim(claimOf('a'));
  const session = { clientId: 'a', incarnation };
  const results: AppendResult[] = [];
  store.append(session, queuedOf('x'), '', (result) => results.push(result));
  void store.remove(session, 'token of a', [1]);
  store.append(session, queuedOf('y'), '', (result) => results.push(result));
  expect(results).toEqual([
    { outcome: 'kept', sequence: 1, dropped: 0 },
    { outcome: 'kept', sequence: 2, dropped: 0 },
  ]);
  expect(store.sizes().queuedMessages).toBe(1);
});

test('sizes counts what the store holds, and comes back to nothing', async () => {
  const { store, clock } = newStore();
  const nothing = store.sizes();
  const { incarnation } = await store.claim(claimOf('a', { will: true }));
  await store.claim(claimOf('b', { expiryInterval: 0 }));
  const session = { clientId: 'a', incarnation };
  for (const text of ['one', 'four', 'seven']) {
    store.append(session, queuedOf(text), text, () => undefined);
  }
  await store.remove(session, 'token of a', [2]);
  await store.retain(queuedOf('kept').message);
  expect(store.sizes()).toEqual({
    sessionsConnected: 2,
    sessionsOffline: 0,
    queuedMessages: 2,
    queuedBytes: 8,
    retainedMessages: 1,
    retainedBytes: 69,
    willsPending: 0,
  });
  await store.release(releaseOf('a'));
  await store.release(releaseOf('b'));
  expect(store.sizes()).toMatchObject({
    sessionsConnected: 0,
    sessionsOffline: 1,
    queuedMessages: 2,
    willsPending: 1,
  });
  clock.advance(1_000_000);
  const { wills } = await store.takeDue(10);
  for (const { clientId, uid } of wills) await store.settleWill(clientId, uid);
  await store.retain(queuedOf('').message);
  expect(store.sizes()).toEqual(nothing);
});

test('a client that comes and goes leaves no timers behind', async () => {
  const { store } = newStore();
  for (let i = 0; i < 100; i++) {
    await store.claim(claimOf('a', { will: true }));
    await store.release(releaseOf('a'));
  }
  expect(store.sizes()).toMatchObject({ sessionsOffline: 1, willsPending: 1 });
});

test('expired retained messages do not stand in the way of new ones at the limit', async () => {
  const { store, clock } = newStore({ retainedMessagesMax: 2 });
  const expiring = ['a', 'b'].map((topic) => queuedOf('x', topic).message);
  for (const message of expiring) {
    message.expiresAtMs = clock.wallMs() + 1_000;
    await store.retain(message);
  }
  expect(await store.retain(queuedOf('x', 'c').message)).toEqual({ outcome: 'full' });
  clock.advance(1_000);
  expect(await store.retain(queuedOf('x', 'c').message)).toEqual({ outcome: 'kept' });
  expect(await store.retain(queuedOf('x', 'a').message)).toEqual({ outcome: 'kept' });
  expect(store.sizes().retainedMessages).toBe(2);
});

test('room is not made at the cost of a message that replaced an expired one', async () => {
  const { store, clock } = newStore({ retainedMessagesMax: 1 });
  const first = queuedOf('first', 'a').message;
  first.expiresAtMs = clock.wallMs() + 1_000;
  await store.retain(first);
  await store.retain(queuedOf('second', 'a').message);
  clock.advance(2_000);
  expect(await store.retain(queuedOf('x', 'b').message)).toEqual({ outcome: 'full' });
  expect(await store.readRetained(['a'])).toHaveLength(1);
  await store.retain(queuedOf('', 'a').message);
  expect(store.sizes()).toMatchObject({ retainedMessages: 0, retainedBytes: 0 });
});

test('an entry that is never acknowledged does not keep the memory of all that came after it', async () => {
  const { store } = newStore({ queueMessagesMax: 3 });
  const { incarnation } = await store.claim(claimOf('a'));
  const session = { clientId: 'a', incarnation };
  const messages: QueuedMessage[] = [];
  for (let sequence = 1; sequence <= 10_000; sequence++) {
    messages.push(queuedOf('x'));
    store.append(session, messages.at(-1) as QueuedMessage, '', () => undefined);
    if (sequence > 1) await store.remove(session, 'token of a', [sequence]);
  }
  const result = await store.read(session, 'token of a', 1, 10, 1_000);
  expect(result).toMatchObject({ outcome: 'ok', entries: [{ sequence: 1 }] });
  expect(store.sizes()).toMatchObject({ queuedMessages: 1, queuedBytes: 1 });
});

function newStore(limits: Partial<typeof DEFAULT_LIMITS> = {}) {
  const clock = new FakeClock();
  const random = new SeededRandom(1);
  const store = createMemoryStore({ clock, random, limits: { ...DEFAULT_LIMITS, ...limits } });
  return { store, clock } satisfies { store: StateStore; clock: FakeClock };
}

function claimOf(
  clientId: string,
  { expiryInterval = 100, will = false }: { expiryInterval?: number; will?: boolean } = {},
): ClaimRequest {
  return {
    clientId,
    token: `token of ${clientId}`,
    cleanStart: false,
    expiryInterval,
    protocolVersion: 5,
    username: '',
    will: will
      ? {
          topic: 'w',
          payload: new Uint8Array(1),
          qos: 0,
          retain: false,
          delayInterval: 50,
          messageExpiryInterval: undefined,
          properties: new Uint8Array(0),
        }
      : undefined,
  };
}

function releaseOf(clientId: string) {
  const token = `token of ${clientId}`;
  return { clientId, token, discardWill: false, expiryInterval: undefined, sentBelow: 1 };
}

function queuedOf(text: string, topic = 't'): QueuedMessage {
  const payload = new TextEncoder().encode(text);
  const message = Message.of(topicOf(topic), payload, { qos: 1, retain: false });
  return { message, qos: 1, retain: false, subscriptionIds: [] };
}
