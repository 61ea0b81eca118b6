import { describe, expect, test } from '@jest/globals';
import { Message, NOBODY } from '@shoalmq/core';
import type {
  AppendResult,
  ClaimedSession,
  ClaimRequest,
  DueWill,
  QueuedMessage,
  QueueEntry,
  ReleaseRequest,
  SessionRef,
  StateStore,
  StoredSubscription,
  Will,
} from '@shoalmq/core';
import * as fc from 'fast-check';
import { topicOf } from '../topic.ts';
import { repeatingWrites } from './repeated-writes.ts';
import { runOperations, operations } from './state-store-operations.ts';
import type { StateStoreLimits } from './state-store-model.ts';

/** An empty store, and the time it lives in. */
export interface StateStoreHarness {
  readonly store: StateStore;
  /** The store's wall clock. It may run by itself too, but by less than a few seconds in a test. */
  readonly nowMs: () => number;
  /** Lets that much time pass for the store. */
  readonly advance: (ms: number) => void | Promise<void>;
  readonly close: () => Promise<void>;
}

export interface StateStoreContractOptions {
  /** Time after which a will that was handed out and not settled is handed out again: a multiple of 10,000. */
  readonly willLeaseMs: number;
  /** Random operation sequences to try, in each of two ways. */
  readonly runs: number;
}

const NEVER = 0xffffffff;
const LIMITS: StateStoreLimits = {
  queueMessagesMax: 1_000,
  queueBytesMax: 1_000_000,
  queuePolicy: 'drop-oldest',
  retainedMessagesMax: 1_000,
  retainedBytesMax: 1_000_000,
};

/**
 * The contract of the `StateStore` port as tests: one by one, and as random operation sequences that must give what
 * a simple model gives, also when each write runs twice. `makeStore` makes an empty store for each test.
 */
export function describeStateStore(
  name: string,
  makeStore: (limits: StateStoreLimits) => Promise<StateStoreHarness>,
  { willLeaseMs, runs }: StateStoreContractOptions,
): void {
  /** Runs a test on a store of its own. */
  async function on(
    run: (harness: StateStoreHarness) => Promise<void>,
    limits: Partial<StateStoreLimits> = {},
  ): Promise<void> {
    const harness = await makeStore({ ...LIMITS, ...limits });
    try {
      await run(harness);
    } finally {
      await harness.close();
    }
  }

  describe(`${name}: sessions`, () => {
    test('[MQTT-3.1.2-6] [MQTT-3.2.2-3] the first claim of a client id starts a session that is not present', () =>
      on(async ({ store }) => {
        const claimed = await store.claim(claimOf('a', 1));
        expect(claimed).toMatchObject({
          sessionPresent: false,
          previousToken: '',
          subscriptions: [],
          endedSubscriptions: [],
          endedIncarnation: undefined,
          incoming: [],
          sentBelow: 1,
          released: [],
          wills: [],
        });
        expect(claimed.incarnation).not.toBe('');
      }));

    test('[MQTT-3.1.2-5] [MQTT-3.1.2-23] [MQTT-3.2.2-3] a released session is resumed with all that was in it', () =>
      on(async ({ store, advance }) => {
        const { incarnation, ref } = await claimed(store, claimOf('a', 1));
        await store.changeSubscriptions(ref, 'a#1', [subscription('x/#', 2)], []);
        await append(store, ref, queued('one'));
        await append(store, ref, queued('two', 2), 'u1');
        await append(store, ref, queued('three'));
        await store.markReleased(ref, 'a#1', 2);
        await store.beginIncoming(ref, 'a#1', 7, 'u2');
        await store.release(releaseOf('a', 1, { sentBelow: 3 }));
        await advance(50_000);

        expect(await store.claim(claimOf('a', 2))).toEqual({
          incarnation,
          sessionPresent: true,
          previousToken: '',
          subscriptions: [subscription('x/#', 2)],
          endedSubscriptions: [],
          endedIncarnation: undefined,
          incoming: [{ packetId: 7, uid: 'u2', state: 'pending' }],
          sentBelow: 3,
          released: [2],
          wills: [],
        });
        expect(await payloads(store, ref, 'a#2')).toEqual(['1 one', '2 two', '3 three']);
      }));

    test('[MQTT-3.1.2-4] clean start ends the session: other incarnation, nothing in it, its subscriptions reported', () =>
      on(async ({ store }) => {
        const old = await claimed(store, claimOf('a', 1));
        await store.changeSubscriptions(old.ref, 'a#1', [subscription('x', 1)], []);
        await append(store, old.ref, queued('one'));
        await store.beginIncoming(old.ref, 'a#1', 7, 'u1');
        await store.release(releaseOf('a', 1));

        const fresh = await claimed(store, claimOf('a', 2, { cleanStart: true }));
        expect(fresh.incarnation).not.toBe(old.incarnation);
        expect(fresh).toMatchObject({
          sessionPresent: false,
          subscriptions: [],
          endedSubscriptions: [subscription('x', 1)],
          endedIncarnation: old.incarnation,
          incoming: [],
          sentBelow: 1,
        });
        expect(await payloads(store, fresh.ref, 'a#2')).toEqual([]);
        expect(await append(store, fresh.ref, queued('new'))).toEqual(kept(1));
      }));

    test('[MQTT-4.1.0-2] an expired session is not resumed, also when nobody took notice of its end', () =>
      on(async ({ store, advance }) => {
        const old = await claimed(store, claimOf('a', 1, { expiryInterval: 10 }));
        await store.changeSubscriptions(old.ref, 'a#1', [subscription('x', 1)], []);
        await store.release(releaseOf('a', 1));
        await advance(10_000);

        const fresh = await store.claim(claimOf('a', 2));
        expect(fresh).toMatchObject({
          sessionPresent: false,
          endedIncarnation: old.incarnation,
          endedSubscriptions: [subscription('x', 1)],
        });
        expect(await store.takeDue(10)).toEqual({ wills: [], ended: [] });
      }));

    test('[MQTT-4.1.0-2] takeDue hands out the end of an expired session once, with its subscriptions', () =>
      on(async ({ store, advance }) => {
        const { ref, incarnation } = await claimed(store, claimOf('a', 1, { expiryInterval: 100 }));
        await store.changeSubscriptions(ref, 'a#1', [subscription('x', 1)], []);
        await store.release(releaseOf('a', 1));
        await advance(90_000);
        expect((await store.takeDue(10)).ended).toEqual([]);
        await advance(10_000);
        expect((await store.takeDue(10)).ended).toEqual([
          { clientId: 'a', incarnation, subscriptions: [subscription('x', 1)] },
        ]);
        expect((await store.takeDue(10)).ended).toEqual([]);
        expect(await append(store, ref, queued('late'))).toEqual({ outcome: 'gone' });
        expect(await store.claim(claimOf('a', 2))).toMatchObject({
          sessionPresent: false,
          endedIncarnation: undefined,
        });
      }));

    test('[MQTT-4.1.0-1] a session does not expire while a connection owns it', () =>
      on(async ({ store, advance }) => {
        const { ref } = await claimed(store, claimOf('a', 1, { expiryInterval: 10 }));
        await store.release(releaseOf('a', 1));
        await advance(5_000);
        await store.claim(claimOf('a', 2, { expiryInterval: 10 }));
        await advance(1_000_000);
        expect(await store.takeDue(10)).toEqual({ wills: [], ended: [] });
        expect(await append(store, ref, queued('one'))).toEqual(kept(1));
      }));

    test('an expiry interval of 0xFFFFFFFF never ends the session', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { expiryInterval: NEVER }));
        await store.release(releaseOf('a', 1));
        await advance(NEVER * 2_000);
        expect((await store.takeDue(10)).ended).toEqual([]);
        expect(await store.claim(claimOf('a', 2))).toMatchObject({ sessionPresent: true });
      }));

    test('an expiry interval given at release replaces the one of the connection', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { expiryInterval: 1_000 }));
        await store.release(releaseOf('a', 1, { expiryInterval: 10 }));
        await store.claim(claimOf('b', 1, { expiryInterval: 10 }));
        await store.release(releaseOf('b', 1, { expiryInterval: 1_000 }));
        await advance(20_000);
        expect((await store.takeDue(10)).ended.map(({ clientId }) => clientId)).toEqual(['a']);
      }));

    test('release with expiry 0, from CONNECT or from DISCONNECT, ends the session at once', () =>
      on(async ({ store }) => {
        const a = await claimed(store, claimOf('a', 1, { expiryInterval: 0 }));
        expect(await store.release(releaseOf('a', 1))).toEqual({
          outcome: 'ok',
          wills: [],
          ended: [{ clientId: 'a', incarnation: a.incarnation, subscriptions: [] }],
        });
        const b = await claimed(store, claimOf('b', 1));
        await store.changeSubscriptions(b.ref, 'b#1', [subscription('x', 1)], []);
        expect(await store.release(releaseOf('b', 1, { expiryInterval: 0 }))).toEqual({
          outcome: 'ok',
          wills: [],
          ended: [
            { clientId: 'b', incarnation: b.incarnation, subscriptions: [subscription('x', 1)] },
          ],
        });
        expect(await store.claim(claimOf('b', 2))).toMatchObject({ sessionPresent: false });
      }));

    test('a session that began clean has no queue', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1, { expiryInterval: 0 }));
        expect(await append(store, ref, queued('one'))).toEqual({ outcome: 'gone' });
        expect(await payloads(store, ref, 'a#1')).toEqual([]);
      }));

    test('a session resumed with expiry 0 keeps its queue and ends with that connection', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        await append(store, ref, queued('one'));
        await store.release(releaseOf('a', 1));
        expect(await store.claim(claimOf('a', 2, { expiryInterval: 0 }))).toMatchObject({
          sessionPresent: true,
        });
        expect(await append(store, ref, queued('two'))).toEqual(kept(2));
        expect(await payloads(store, ref, 'a#2')).toEqual(['1 one', '2 two']);
        await store.release(releaseOf('a', 2));
        expect(await append(store, ref, queued('three'))).toEqual({ outcome: 'gone' });
      }));

    test('a takeover names the previous connection, and fences it', () =>
      on(async ({ store }) => {
        const { ref, incarnation } = await claimed(store, claimOf('a', 1));
        await append(store, ref, queued('one'));
        const second = await store.claim(claimOf('a', 2));
        expect(second).toMatchObject({ incarnation, sessionPresent: true, previousToken: 'a#1' });
        expect(await everyFencedWrite(store, ref, 'a#1')).toEqual(ALL_FENCED);
        expect(await store.read(ref, 'a#1', 1, 10, 1_000)).toEqual({ outcome: 'fenced' });
        expect(await store.release(releaseOf('a', 1))).toEqual({ outcome: 'fenced' });
        expect(await payloads(store, ref, 'a#2')).toEqual(['1 one']);
        expect(await store.claim(claimOf('a', 3))).toMatchObject({
          previousToken: 'a#2',
          incoming: [],
          released: [],
          subscriptions: [],
        });
      }));

    test('what a released, an unknown and another incarnation of a session get is fenced', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        await store.release(releaseOf('a', 1));
        expect(await everyFencedWrite(store, ref, 'a#1')).toEqual(ALL_FENCED);
        expect(await everyFencedWrite(store, ref, '')).toEqual(ALL_FENCED);
        await store.claim(claimOf('a', 2, { cleanStart: true }));
        expect(await everyFencedWrite(store, ref, 'a#2')).toEqual(ALL_FENCED);
        const unknown = { clientId: 'nobody', incarnation: ref.incarnation };
        expect(await everyFencedWrite(store, unknown, 'a#2')).toEqual(ALL_FENCED);
        expect(await store.release(releaseOf('nobody', 1))).toEqual({ outcome: 'fenced' });
      }));

    test('a token is compared as text: neither a prefix nor a higher number is the owner', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, { ...claimOf('a', 1), token: 'n#x#10' });
        for (const token of ['n#x#1', 'n#x#100', 'n#x#11', 'N#x#10', 'n#x#10 ']) {
          expect(await store.remove(ref, token, [1])).toBe('fenced');
        }
        expect(await store.remove(ref, 'n#x#10', [1])).toBe('ok');
      }));

    test('taking over a connection with expiry 0 ends its session', () =>
      on(async ({ store }) => {
        const old = await claimed(store, claimOf('a', 1, { expiryInterval: 0 }));
        expect(await store.claim(claimOf('a', 2))).toMatchObject({
          sessionPresent: false,
          previousToken: 'a#1',
          endedIncarnation: old.incarnation,
        });
      }));

    test('after a takeover everything appended before may have been sent', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        for (const text of ['one', 'two', 'three']) await append(store, ref, queued(text));
        expect((await store.claim(claimOf('a', 2))).sentBelow).toBe(4);
        await append(store, ref, queued('four'));
        await store.release(releaseOf('a', 2, { sentBelow: 2 }));
        expect((await store.claim(claimOf('a', 3))).sentBelow).toBe(4);
      }));

    test('a release that does not know what was sent covers what was appended and no more', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        await append(store, ref, queued('one'));
        await store.release(releaseOf('a', 1, { sentBelow: Number.MAX_SAFE_INTEGER }));
        await append(store, ref, queued('two'));
        expect((await store.claim(claimOf('a', 2))).sentBelow).toBe(2);
      }));

    test('a claim made again with the same token changes nothing and answers the same', () =>
      on(async ({ store }) => {
        const old = await claimed(store, claimOf('a', 1, { will: willOf('w') }));
        await store.changeSubscriptions(old.ref, 'a#1', [subscription('x', 1)], []);
        const request = claimOf('a', 2, { cleanStart: true });
        const once = await store.claim(request);
        const again = await store.claim(request);
        expect(once.wills).toHaveLength(1);
        expect(plain(again)).toEqual(plain(once));
        expect((await store.takeDue(10)).wills).toEqual([]);
      }));

    test('a release made again starts nothing again, and neither does a late one', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w'), expiryInterval: 100 }));
        const once = await store.release(releaseOf('a', 1));
        await advance(20_000);
        const again = await store.release(releaseOf('a', 1));
        expect(dueTopics(once)).toEqual(['w']);
        expect(dueTopics(again)).toEqual(['w']);
        await advance(80_000);
        const due = await store.takeDue(10);
        expect(due.ended).toHaveLength(1);
        expect(await store.release(releaseOf('a', 1))).toEqual({ outcome: 'fenced' });
      }));

    test('subscriptions are replaced by filter, removed by filter, and keep their options', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        const options = {
          noLocal: true,
          retainAsPublished: true,
          subscriptionIdentifier: 268_435_455,
        };
        const full: StoredSubscription = {
          ...subscription('$share/g/+/x', 2),
          ...options,
          retainHandling: 2,
        };
        await store.changeSubscriptions(
          ref,
          'a#1',
          [subscription('x', 0), subscription('y', 1)],
          [],
        );
        await store.changeSubscriptions(ref, 'a#1', [full, subscription('x', 2)], ['y', 'unknown']);
        await store.release(releaseOf('a', 1));
        const { subscriptions } = await store.claim(claimOf('a', 2));
        expect(byFilter(subscriptions)).toEqual(byFilter([full, subscription('x', 2)]));
      }));

    test('client ids, filters and topics are arbitrary text', () =>
      on(async ({ store }) => {
        const names = [
          '__proto__',
          'constructor',
          'a}b',
          '{a}',
          '}',
          'a:b',
          'a b\tc',
          '',
          'ü€😀',
          '*?[a]',
        ];
        for (const id of names) {
          const { ref } = await claimed(store, claimOf(id, 1, { will: willOf(`w${id}`) }));
          await store.changeSubscriptions(ref, `${id}#1`, [subscription(id, 1)], []);
          expect(await append(store, ref, queued(id))).toEqual(kept(1));
        }
        for (const id of names) {
          const session = await claimed(store, claimOf(id, 2));
          expect(session.subscriptions).toEqual([subscription(id, 1)]);
          expect(session.wills.map(({ clientId, will }) => [clientId, will.topic])).toEqual([
            [id, `w${id}`],
          ]);
          expect(await payloads(store, session.ref, `${id}#2`)).toEqual([`1 ${id}`]);
        }
      }));
  });

  describe(`${name}: wills`, () => {
    test('[MQTT-3.1.2-8] a will without delay is due when the connection ends', () =>
      on(async ({ store }) => {
        const will = willOf('w');
        await store.claim({ ...claimOf('a', 1, { will }), username: 'alice' });
        const released = await store.release(releaseOf('a', 1));
        expect(dueWills(released)).toMatchObject([{ clientId: 'a', username: 'alice', will }]);
      }));

    test('[MQTT-3.14.4-3] [MQTT-3.1.2-10] a discarded will is never due', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w', 10), expiryInterval: 20 }));
        const released = await store.release(releaseOf('a', 1, { discardWill: true }));
        expect(dueWills(released)).toEqual([]);
        await advance(1_000_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }));

    test('[MQTT-3.1.2-8] a will with a delay is due when the delay has passed, and not before', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w', 60) }));
        expect(dueWills(await store.release(releaseOf('a', 1)))).toEqual([]);
        await advance(50_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
        await advance(10_000);
        expect(topics((await store.takeDue(10)).wills)).toEqual(['w']);
      }));

    test('[MQTT-3.1.2-8] a will is due when its session ends, delay or not', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('wa', 600), expiryInterval: 10 }));
        await store.release(releaseOf('a', 1));
        await advance(10_000);
        const due = await store.takeDue(10);
        expect([topics(due.wills), due.ended.length]).toEqual([['wa'], 1]);

        await store.claim(claimOf('b', 1, { will: willOf('wb', 600), expiryInterval: 0 }));
        expect(dueTopics(await store.release(releaseOf('b', 1)))).toEqual(['wb']);

        await store.claim(claimOf('c', 1, { will: willOf('wc', 600) }));
        const ended = await store.release(releaseOf('c', 1, { expiryInterval: 0 }));
        expect(dueTopics(ended)).toEqual(['wc']);
      }));

    test('[MQTT-3.1.3-9] a client that is back before the delay has passed cancels its will', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w', 60) }));
        await store.release(releaseOf('a', 1));
        await advance(30_000);
        expect((await store.claim(claimOf('a', 2))).wills).toEqual([]);
        await store.release(releaseOf('a', 2));
        await advance(50_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }));

    test('[MQTT-3.1.3-9] a takeover that resumes the session cancels a delayed will', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w', 60) }));
        expect((await store.claim(claimOf('a', 2))).wills).toEqual([]);
        await advance(100_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }));

    test('[MQTT-3.1.2-8] a will whose delay had passed when the client came back is due', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w', 10) }));
        await store.release(releaseOf('a', 1));
        await advance(20_000);
        const back = await store.claim(claimOf('a', 2));
        expect([back.sessionPresent, topics(back.wills)]).toEqual([true, ['w']]);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }));

    test.each([
      ['of a takeover, delay or not', { release: false, delay: 60, expiry: 100 }],
      ['that follows a release', { release: true, delay: 60, expiry: 100 }],
    ])('[MQTT-3.1.2-8] the will is due at a clean start %s', (_title, { release, delay, expiry }) =>
      on(async ({ store }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w', delay), expiryInterval: expiry }));
        if (release) await store.release(releaseOf('a', 1));
        const fresh = await store.claim(claimOf('a', 2, { cleanStart: true }));
        expect(topics(fresh.wills)).toEqual(['w']);
      }),
    );

    test('[MQTT-3.1.2-8] the will is due at a takeover of a connection with expiry 0, and of one without delay', () =>
      on(async ({ store }) => {
        await store.claim(claimOf('a', 1, { will: willOf('wa', 60), expiryInterval: 0 }));
        expect(topics((await store.claim(claimOf('a', 2))).wills)).toEqual(['wa']);
        await store.claim(claimOf('b', 1, { will: willOf('wb') }));
        expect(topics((await store.claim(claimOf('b', 2))).wills)).toEqual(['wb']);
      }));

    test.each([
      ['of a session that goes on', { expiry: 1_000, delay: 0, cleanStart: false }],
      ['of a clean session', { expiry: 0, delay: 0, cleanStart: true }],
      ['of a session that a clean start ends', { expiry: 1_000, delay: 5, cleanStart: true }],
      ['of a session that ends before', { expiry: 10, delay: 60, cleanStart: false }],
    ])('a will with a grace %s is cancelled by a client that is back in time', (_title, will) =>
      on(async ({ store, advance }) => {
        const { expiry: expiryInterval, delay, cleanStart } = will;
        await store.claim(claimOf('a', 1, { will: willOf('w', delay), expiryInterval }));
        const released = await store.release(releaseOf('a', 1, { willGraceMs: 30_000 }));
        expect(dueWills(released)).toEqual([]);
        await advance(20_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
        expect((await store.claim(claimOf('a', 2, { cleanStart }))).wills).toEqual([]);
        await advance(100_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }),
    );

    test.each([
      ['of a session that goes on', { expiry: 1_000, delay: 0 }],
      ['of a clean session', { expiry: 0, delay: 0 }],
      ['with a delay that is longer', { expiry: 1_000, delay: 35 }],
    ])('a will with a grace %s is due when that is over, once', (_title, { expiry, delay }) =>
      on(async ({ store, advance }) => {
        const will = willOf('w', delay);
        await store.claim(claimOf('a', 1, { will, expiryInterval: expiry }));
        await store.release(releaseOf('a', 1, { willGraceMs: 30_000 }));
        await advance(25_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
        await advance(15_000);
        const [due] = (await store.takeDue(10)).wills;
        expect([due?.will.topic, due?.username]).toEqual(['w', '']);
        expect((await store.claim(claimOf('a', 2))).wills).toEqual([]);
        await store.settleWill('a', due!.uid);
        await advance(2 * willLeaseMs);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }),
    );

    test('a will whose grace is over when the client comes back is due then', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w'), expiryInterval: 0 }));
        await store.release(releaseOf('a', 1, { willGraceMs: 30_000 }));
        await advance(40_000);
        expect(topics((await store.claim(claimOf('a', 2))).wills)).toEqual(['w']);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }));

    test('a late release of the previous connection does not publish the will of the new one', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('old', 60) }));
        await store.claim(claimOf('a', 2, { will: willOf('new', 60) }));
        expect(await store.release(releaseOf('a', 1))).toEqual({ outcome: 'fenced' });
        await advance(100_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
        expect(dueTopics(await store.release(releaseOf('a', 2, { expiryInterval: 0 })))).toEqual([
          'new',
        ]);
      }));

    test('a will that is not settled is handed out again, under the same uid, after the lease and not before', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w') }));
        const [first] = dueWills(await store.release(releaseOf('a', 1)));
        await advance(willLeaseMs - 5_000);
        expect((await store.takeDue(10)).wills).toEqual([]);
        await advance(5_000);
        const [second] = (await store.takeDue(10)).wills;
        expect([second?.uid, second?.will]).toEqual([first?.uid, first?.will]);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }));

    test('[MQTT-3.1.2-10] a will that is settled is never handed out again', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w') }));
        const [will] = dueWills(await store.release(releaseOf('a', 1)));
        await store.settleWill('a', 'unknown');
        await store.settleWill('b', String(will?.uid));
        await advance(willLeaseMs);
        expect(topics((await store.takeDue(10)).wills)).toEqual(['w']);
        await store.settleWill('a', String(will?.uid));
        await store.settleWill('a', String(will?.uid));
        await advance(10 * willLeaseMs);
        expect((await store.takeDue(10)).wills).toEqual([]);
      }));

    test('a claim does not call back a will that was handed out', () =>
      on(async ({ store, advance }) => {
        await store.claim(claimOf('a', 1, { will: willOf('w', 10) }));
        await store.release(releaseOf('a', 1));
        await advance(10_000);
        const { wills } = await store.takeDue(10);
        expect((await store.claim(claimOf('a', 2))).wills).toEqual([]);
        await store.claim(claimOf('a', 3, { cleanStart: true }));
        await advance(willLeaseMs);
        const again = (await store.takeDue(10)).wills;
        expect(again.map(({ uid }) => uid)).toEqual(wills.map(({ uid }) => uid));
      }));

    test('each will has a uid of its own, also the same will of two connections', () =>
      on(async ({ store }) => {
        const uids = new Set<string>();
        for (let connection = 1; connection <= 5; connection++) {
          await store.claim(claimOf('a', connection, { will: willOf('w') }));
          for (const { uid } of dueWills(await store.release(releaseOf('a', connection)))) {
            uids.add(uid);
          }
        }
        expect(uids.size).toBe(5);
      }));

    test('takeDue hands out at most as many as asked, and in the end everything once', () =>
      on(async ({ store, advance }) => {
        const ids = Array.from({ length: 25 }, (_, index) => `c${String(index)}`);
        for (const id of ids) {
          await store.claim(claimOf(id, 1, { will: willOf(id, 10), expiryInterval: 10 }));
          await store.release(releaseOf(id, 1));
        }
        await advance(20_000);
        const wills: string[] = [];
        const ended: string[] = [];
        for (let round = 0; round < 3; round++) {
          const due = await store.takeDue(10);
          expect(due.wills.length).toBeLessThanOrEqual(10);
          expect(due.ended.length).toBeLessThanOrEqual(10);
          wills.push(...topics(due.wills));
          ended.push(...due.ended.map(({ clientId }) => clientId));
        }
        expect(wills.sort()).toEqual([...ids].sort());
        expect(ended.sort()).toEqual([...ids].sort());
        expect(await store.takeDue(10)).toEqual({ wills: [], ended: [] });
      }));

    test('a will keeps everything it was given', () =>
      on(async ({ store }) => {
        const will: Will = {
          topic: 'w/ü',
          payload: Uint8Array.of(0, 255, 10, 128),
          qos: 2,
          retain: true,
          delayInterval: 0,
          messageExpiryInterval: 0xffffffff,
          properties: Uint8Array.of(1, 1),
        };
        await store.claim(claimOf('a', 1, { will }));
        const [due] = dueWills(await store.release(releaseOf('a', 1)));
        expect({ ...due?.will }).toEqual({ ...will });
      }));
  });

  describe(`${name}: queues`, () => {
    test('sequences are consecutive from 1, connected or not, and begin again with the incarnation', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        expect(await append(store, ref, queued('one'))).toEqual(kept(1));
        await store.release(releaseOf('a', 1));
        expect(await append(store, ref, queued('two', 2), 'u')).toEqual(kept(2));
        await store.claim(claimOf('a', 2));
        expect(await append(store, ref, queued('three'))).toEqual(kept(3));
        const fresh = await claimed(store, claimOf('a', 3, { cleanStart: true }));
        expect(await append(store, fresh.ref, queued('one'))).toEqual(kept(1));
      }));

    test('sequences of removed entries are not used again, also when the queue is empty', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        for (let sequence = 1; sequence <= 200; sequence++) {
          expect(await append(store, ref, queued('x'))).toEqual(kept(sequence));
          expect(await store.remove(ref, 'a#1', [sequence])).toBe('ok');
        }
        expect(await payloads(store, ref, 'a#1')).toEqual([]);
      }));

    test('a late append to a session that ended gets gone and comes up nowhere', () =>
      on(async ({ store }) => {
        const old = await claimed(store, claimOf('a', 1));
        const fresh = await claimed(store, claimOf('a', 2, { cleanStart: true }));
        expect(await append(store, old.ref, queued('late'))).toEqual({ outcome: 'gone' });
        expect(await append(store, old.ref, queued('late', 2), 'u')).toEqual({ outcome: 'gone' });
        const nobody = { clientId: 'nobody', incarnation: old.incarnation };
        expect(await append(store, nobody, queued('late'))).toEqual({ outcome: 'gone' });
        expect(await payloads(store, fresh.ref, 'a#2')).toEqual([]);
        expect(await append(store, fresh.ref, queued('first'))).toEqual(kept(1));
      }));

    test('an entry keeps everything it was given, and owns its bytes', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        const buffer = Uint8Array.of(9, 1, 2, 3, 9);
        const properties = Uint8Array.of(1, 0);
        const borrowed = new Message(topicOf('t/ü'));
        Object.assign(borrowed, {
          ...{ bytes: buffer, start: 1, end: 4, qos: 2, retain: true, properties },
          ...{ expiresAtMs: 1_234_567_890_123, publisher: 'p}' },
        });
        const appended = append(
          store,
          ref,
          { message: borrowed, qos: 2, retain: true, subscriptionIds: [3, 1, 268_435_455] },
          'u',
        );
        buffer.fill(0);
        properties.fill(0);
        borrowed.topic = topicOf('other');
        expect(await appended).toEqual(kept(1));

        const [entry] = await entries(store, ref, 'a#1');
        expect(entry).toMatchObject({ sequence: 1, qos: 2, retain: true });
        expect(entry?.subscriptionIds).toEqual([3, 1, 268_435_455]);
        const message = entry?.message as Message;
        expect([...message.bytes.subarray(message.start, message.end)]).toEqual([1, 2, 3]);
        expect([...message.properties]).toEqual([1, 0]);
        expect(message).toMatchObject({
          ...{ qos: 2, expiresAtMs: 1_234_567_890_123, publisher: 'p}' },
          topic: { name: 't/ü' },
        });
      }));

    test('appends made without waiting are answered, and stand, in the order of the calls', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        const answered: number[] = [];
        await Promise.all(
          Array.from({ length: 100 }, async (_, index) => {
            const uid = index % 3 === 0 ? `u${String(index)}` : '';
            const result = await append(store, ref, queued(String(index), uid === '' ? 1 : 2), uid);
            if (result.outcome === 'kept') answered.push(result.sequence);
          }),
        );
        const order = Array.from({ length: 100 }, (_, index) => index);
        expect(answered).toEqual(order.map((index) => index + 1));
        expect(await payloads(store, ref, 'a#1')).toEqual(
          order.map((index) => `${String(index + 1)} ${String(index)}`),
        );
      }));

    test('calls made without waiting take effect in their order', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        const results = [
          append(store, ref, queued('one')),
          store.remove(ref, 'a#1', [1]),
          append(store, ref, queued('two', 2), 'u'),
          store.markReleased(ref, 'a#1', 2),
          store.release(releaseOf('a', 1, { sentBelow: 3 })),
          append(store, ref, queued('three')),
        ];
        const back = store.claim(claimOf('a', 2));
        await Promise.all(results);
        expect(await back).toMatchObject({ sentBelow: 3, released: [2] });
        expect(await payloads(store, ref, 'a#2')).toEqual(['2 two', '3 three']);
      }));

    test('a uid is appended once until it is settled, although its entry has left, whatever time passes', () =>
      on(async ({ store, advance }) => {
        const { ref } = await claimed(store, claimOf('a', 1, { expiryInterval: NEVER }));
        expect(await append(store, ref, queued('one', 2), 'u')).toEqual(kept(1));
        expect(await append(store, ref, queued('one', 2), 'u')).toEqual({ outcome: 'duplicate' });
        await store.markReleased(ref, 'a#1', 1);
        await store.release(releaseOf('a', 1));
        await advance(1_000_000_000);
        expect(await append(store, ref, queued('one', 2), 'u')).toEqual({ outcome: 'duplicate' });
        expect(await append(store, ref, queued('two', 2), 'v')).toEqual(kept(2));
        await store.claim(claimOf('a', 2));
        await store.remove(ref, 'a#2', [1]);
        expect(await append(store, ref, queued('one', 2), 'u')).toEqual({ outcome: 'duplicate' });
        store.settleUid(ref, 'u');
        expect(await append(store, ref, queued('again', 2), 'u')).toEqual(kept(3));
        expect(await append(store, ref, queued('two', 2), 'v')).toEqual({ outcome: 'duplicate' });
        expect(await payloads(store, ref, 'a#2')).toEqual(['2 two', '3 again']);
      }));

    test('the owner is the connection that claimed last and has not released', () =>
      on(async ({ store }) => {
        const owner = (ref: SessionRef) =>
          new Promise((resolve) => {
            store.owner(ref, (token, replaced) => {
              resolve(replaced === true ? 'replaced' : token);
            });
          });
        const { ref } = await claimed(store, claimOf('a', 1, { expiryInterval: NEVER }));
        expect(await owner(ref)).toBe('a#1');
        await store.claim(claimOf('a', 2, { expiryInterval: NEVER }));
        expect(await owner(ref)).toBe('a#2');
        await store.release(releaseOf('a', 2));
        expect(await owner(ref)).toBe('');
        expect(await owner({ ...ref, incarnation: 'another' })).toBe('');
        await store.claim(claimOf('a', 3, { cleanStart: true }));
        expect(await owner(ref)).toBe('replaced');
      }));

    test('a uid counts in its own session only, and no uid is never a duplicate', () =>
      on(async ({ store }) => {
        const a = await claimed(store, claimOf('a', 1));
        const b = await claimed(store, claimOf('b', 1));
        expect(await append(store, a.ref, queued('one', 2), 'u')).toEqual(kept(1));
        expect(await append(store, b.ref, queued('one', 2), 'u')).toEqual(kept(1));
        expect(await append(store, a.ref, queued('one'))).toEqual(kept(2));
        expect(await append(store, a.ref, queued('one'))).toEqual(kept(3));
      }));

    test('nobody reads and removes what was never sent, while there is no owner', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        for (const payload of ['a', 'b', 'c', 'd']) await append(store, ref, queued(payload));
        expect(await store.read(ref, NOBODY, 1, 10, 1_000)).toEqual({ outcome: 'fenced' });
        expect(await store.remove(ref, NOBODY, [3])).toBe('fenced');
        await store.release(releaseOf('a', 1, { sentBelow: 3 }));
        expect(await payloads(store, ref, NOBODY)).toEqual(['3 c', '4 d']);
        expect(await payloads(store, ref, NOBODY, 4)).toEqual(['4 d']);
        expect(await store.remove(ref, NOBODY, [1, 3])).toBe('ok');
        expect(await payloads(store, ref, NOBODY)).toEqual(['4 d']);
        await store.claim(claimOf('a', 2));
        expect(await store.read(ref, NOBODY, 1, 10, 1_000)).toEqual({ outcome: 'fenced' });
        expect(await store.remove(ref, NOBODY, [4])).toBe('fenced');
        expect(await payloads(store, ref, 'a#2')).toEqual(['1 a', '2 b', '4 d']);
      }));

    test('an entry keeps the shared subscription it was queued for', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        await append(store, ref, { ...queued('a'), group: '$share/g/#' });
        await append(store, ref, queued('b'));
        const read = await entries(store, ref, 'a#1');
        expect(read.map(({ group }) => group)).toEqual(['$share/g/#', undefined]);
      }));

    test('drop-oldest: at the limit of messages the oldest go and are counted, the reader sees a gap', () =>
      on(
        async ({ store }) => {
          const { ref } = await claimed(store, claimOf('a', 1));
          for (const text of ['one', 'two', 'three']) await append(store, ref, queued(text));
          await store.remove(ref, 'a#1', [2]);
          expect(await append(store, ref, queued('four'))).toEqual(kept(4));
          expect(await append(store, ref, queued('five'))).toEqual(kept(5, 1));
          expect(await append(store, ref, queued('six'))).toEqual(kept(6, 1));
          expect(await payloads(store, ref, 'a#1')).toEqual(['4 four', '5 five', '6 six']);
        },
        { queueMessagesMax: 3 },
      ));

    test('drop-oldest: at the limit of bytes as many go as are needed; properties count', () =>
      on(
        async ({ store }) => {
          const { ref } = await claimed(store, claimOf('a', 1));
          for (let i = 0; i < 10; i++) await append(store, ref, queued('x'.repeat(100)));
          expect(await append(store, ref, queued('y'.repeat(250)))).toEqual(kept(11, 3));
          const heavy = queued('z');
          heavy.message.properties = new Uint8Array(500);
          expect(await append(store, ref, heavy)).toEqual(kept(12, 5));
        },
        { queueBytesMax: 1_000 },
      ));

    test('drop-oldest: a message that no queue could hold is refused, and nothing is dropped for it', () =>
      on(
        async ({ store }) => {
          const { ref } = await claimed(store, claimOf('a', 1));
          await append(store, ref, queued('one'));
          expect(await append(store, ref, queued('x'.repeat(1_001)))).toEqual({ outcome: 'full' });
          expect(await append(store, ref, queued('two'))).toEqual(kept(2));
          expect(await payloads(store, ref, 'a#1')).toEqual(['1 one', '2 two']);
        },
        { queueBytesMax: 1_000 },
      ));

    test('drop-oldest: a dropped entry leaves its uid and its mark as released', () =>
      on(
        async ({ store }) => {
          const { ref } = await claimed(store, claimOf('a', 1));
          await append(store, ref, queued('one', 2), 'u');
          await store.markReleased(ref, 'a#1', 1);
          await append(store, ref, queued('two'));
          expect(await append(store, ref, queued('three'))).toEqual(kept(3, 1));
          expect(await append(store, ref, queued('one', 2), 'u')).toEqual({ outcome: 'duplicate' });
          expect((await store.claim(claimOf('a', 2))).released).toEqual([1]);
          await store.remove(ref, 'a#2', [1]);
          expect((await store.claim(claimOf('a', 3))).released).toEqual([]);
        },
        { queueMessagesMax: 2 },
      ));

    test('reject-new: at the limits the new message is refused until something was removed', () =>
      on(
        async ({ store }) => {
          const { ref } = await claimed(store, claimOf('a', 1));
          await append(store, ref, queued('one', 2), 'u');
          await append(store, ref, queued('two'));
          expect(await append(store, ref, queued('three', 2), 'v')).toEqual({ outcome: 'full' });
          expect(await append(store, ref, queued('one', 2), 'u')).toEqual({ outcome: 'duplicate' });
          await store.remove(ref, 'a#1', [1]);
          expect(await append(store, ref, queued('x'.repeat(998)))).toEqual({ outcome: 'full' });
          expect(await append(store, ref, queued('three', 2), 'v')).toEqual(kept(3));
          expect(await payloads(store, ref, 'a#1')).toEqual(['2 two', '3 three']);
        },
        { queuePolicy: 'reject-new', queueMessagesMax: 2, queueBytesMax: 1_000 },
      ));

    test("the limits are each session's own", () =>
      on(
        async ({ store }) => {
          const a = await claimed(store, claimOf('a', 1));
          const b = await claimed(store, claimOf('b', 1));
          await append(store, a.ref, queued('one'));
          expect(await append(store, a.ref, queued('two'))).toEqual({ outcome: 'full' });
          expect(await append(store, b.ref, queued('one'))).toEqual(kept(1));
        },
        { queuePolicy: 'reject-new', queueMessagesMax: 1 },
      ));

    test('read begins at the sequence, in order, and stops at the count', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        for (let i = 1; i <= 300; i++) await append(store, ref, queued(`m${String(i)}`));
        await store.remove(ref, 'a#1', [5, ...Array.from({ length: 150 }, (_, i) => i + 101)]);
        expect(await payloads(store, ref, 'a#1', 3, 3)).toEqual(['3 m3', '4 m4', '6 m6']);
        expect(await payloads(store, ref, 'a#1', 100, 2)).toEqual(['100 m100', '251 m251']);
        expect(await payloads(store, ref, 'a#1', 180, 1)).toEqual(['251 m251']);
        expect(await payloads(store, ref, 'a#1', 300, 10)).toEqual(['300 m300']);
        expect(await payloads(store, ref, 'a#1', 301, 10)).toEqual([]);
        expect(await payloads(store, ref, 'a#1', 0, 1)).toEqual(['1 m1']);
      }));

    test('read stops at about the bytes, with one entry at least, so that reading on comes to the end', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        for (let i = 0; i < 10; i++) await append(store, ref, queued('x'.repeat(1_000)));
        expect(await payloads(store, ref, 'a#1', 1, 10, 1)).toHaveLength(1);
        const some = await payloads(store, ref, 'a#1', 1, 10, 3_500);
        expect(some.length).toBeGreaterThanOrEqual(3);
        expect(some.length).toBeLessThanOrEqual(4);
      }));

    test('expired messages are read too: the caller drops them', () =>
      on(async ({ store, nowMs, advance }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        const message = queued('one');
        message.message.expiresAtMs = nowMs() + 10_000;
        await append(store, ref, message);
        await advance(20_000);
        expect(await payloads(store, ref, 'a#1')).toEqual(['1 one']);
      }));

    test('entries are removed in any order, in batches, and unknown ones are passed over', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        for (let i = 1; i <= 6; i++) await append(store, ref, queued(`m${String(i)}`));
        expect(await store.remove(ref, 'a#1', [6, 2, 2, 4, 99, 0])).toBe('ok');
        expect(await store.remove(ref, 'a#1', [2])).toBe('ok');
        expect(await store.remove(ref, 'a#1', [])).toBe('ok');
        expect(await payloads(store, ref, 'a#1')).toEqual(['1 m1', '3 m3', '5 m5']);
        expect(await append(store, ref, queued('m7'))).toEqual(kept(7));
      }));

    test('released entries are reported in the order of their PUBRECs until they are removed', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        for (const uid of ['u', 'v', 'w']) await append(store, ref, queued(uid, 2), uid);
        for (const sequence of [3, 1, 2, 3]) {
          expect(await store.markReleased(ref, 'a#1', sequence)).toBe('ok');
        }
        expect((await store.claim(claimOf('a', 2))).released).toEqual([3, 1, 2]);
        await store.remove(ref, 'a#2', [1]);
        expect((await store.claim(claimOf('a', 3))).released).toEqual([3, 2]);
        expect(await payloads(store, ref, 'a#3')).toEqual(['2 v', '3 w']);
      }));
  });

  describe(`${name}: QoS 2 receive state`, () => {
    test('[MQTT-4.3.3-10] until PUBREL a packet identifier gives the uid it came with first, on any connection', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        const pending = { packetId: 7, uid: 'u', state: 'pending' };
        expect(await store.beginIncoming(ref, 'a#1', 7, 'u')).toEqual({
          outcome: 'ok',
          incoming: pending,
          repeated: false,
        });
        expect((await store.claim(claimOf('a', 2))).incoming).toEqual([pending]);
        expect(await store.beginIncoming(ref, 'a#2', 7, 'other')).toEqual({
          outcome: 'ok',
          incoming: pending,
          repeated: true,
        });
        await store.finishIncoming(ref, 'a#2', 7);
        expect(await store.beginIncoming(ref, 'a#2', 7, 'other')).toEqual({
          outcome: 'ok',
          incoming: { ...pending, state: 'done' },
          repeated: true,
        });
        expect((await store.claim(claimOf('a', 3))).incoming).toEqual([
          { ...pending, state: 'done' },
        ]);
      }));

    test('[MQTT-4.3.3-12] after PUBREL the packet identifier is a new message', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        await store.beginIncoming(ref, 'a#1', 7, 'u');
        await store.finishIncoming(ref, 'a#1', 7);
        await store.endIncoming(ref, 'a#1', 7);
        expect(await store.beginIncoming(ref, 'a#1', 7, 'v')).toEqual({
          outcome: 'ok',
          incoming: { packetId: 7, uid: 'v', state: 'pending' },
          repeated: false,
        });
      }));

    test('each step made again gives the same answer', () =>
      on(async ({ store }) => {
        const { ref } = await claimed(store, claimOf('a', 1));
        const once = await store.beginIncoming(ref, 'a#1', 7, 'u');
        expect(await store.beginIncoming(ref, 'a#1', 7, 'u')).toEqual(once);
        for (let run = 0; run < 2; run++) {
          expect(await store.finishIncoming(ref, 'a#1', 7)).toBe('ok');
        }
        for (let run = 0; run < 2; run++) {
          expect(await store.endIncoming(ref, 'a#1', 7)).toBe('ok');
        }
        expect(await store.finishIncoming(ref, 'a#1', 7)).toBe('ok');
        expect((await store.claim(claimOf('a', 2))).incoming).toEqual([]);
      }));
  });

  describe(`${name}: retained messages`, () => {
    test('[MQTT-3.3.1-5] the last message of a topic is kept, with everything it was given', () =>
      on(async ({ store }) => {
        const message = retainedOf('t', 'two', { publisher: 'p' });
        message.properties = Uint8Array.of(1, 1);
        expect(await store.retain(retainedOf('t', 'one'))).toEqual({ outcome: 'kept' });
        expect(await store.retain(message)).toEqual({ outcome: 'kept' });
        const [read, ...rest] = await store.readRetained(['t']);
        expect(rest).toEqual([]);
        expect(textOf(read as Message)).toBe('two');
        expect(read).toMatchObject({ topic: { name: 't' }, qos: 1, retain: true, publisher: 'p' });
        expect([...(read as Message).properties]).toEqual([1, 1]);
      }));

    test('[MQTT-3.3.1-6] [MQTT-3.3.1-7] an empty payload clears the topic and is not kept', () =>
      on(async ({ store }) => {
        await store.retain(retainedOf('t', 'one'));
        expect(await store.retain(retainedOf('t', ''))).toEqual({ outcome: 'cleared' });
        expect(await store.retain(retainedOf('t', ''))).toEqual({ outcome: 'cleared' });
        expect(await store.readRetained(['t'])).toEqual([]);
      }));

    test('topics are read in the order asked, those without a message left out', () =>
      on(async ({ store }) => {
        for (const topic of ['c', 'a', 'b', '__proto__', 'd}']) {
          await store.retain(retainedOf(topic, `of ${topic}`));
        }
        const read = await store.readRetained(['d}', 'b', 'x', 'a', 'constructor', '__proto__']);
        expect(read.map(textOf)).toEqual(['of d}', 'of b', 'of a', 'of __proto__']);
        expect(await store.readRetained([])).toEqual([]);
      }));

    test('calls made without waiting take effect in their order', () =>
      on(async ({ store }) => {
        const calls = Array.from({ length: 50 }, (_, index) =>
          store.retain(retainedOf('t', index % 5 === 3 ? '' : String(index))),
        );
        await Promise.all(calls);
        expect((await store.readRetained(['t'])).map(textOf)).toEqual(['49']);
      }));

    test('the kept message owns its bytes', () =>
      on(async ({ store }) => {
        const borrowed = new Message(topicOf('t'));
        borrowed.bytes = Uint8Array.of(9, 111, 110, 101, 9);
        borrowed.start = 1;
        borrowed.end = 4;
        const kept = store.retain(borrowed);
        borrowed.bytes.fill(0);
        await kept;
        expect((await store.readRetained(['t'])).map(textOf)).toEqual(['one']);
      }));

    test('[MQTT-3.3.2-5] an expired message is not read', () =>
      on(async ({ store, nowMs, advance }) => {
        await store.retain(retainedOf('t', 'one', { expiresAtMs: nowMs() + 20_000 }));
        await store.retain(retainedOf('u', 'two'));
        await advance(10_000);
        expect((await store.readRetained(['t', 'u'])).map(textOf)).toEqual(['one', 'two']);
        await advance(10_000);
        expect((await store.readRetained(['t', 'u'])).map(textOf)).toEqual(['two']);
        await store.retain(retainedOf('t', 'three'));
        expect((await store.readRetained(['t'])).map(textOf)).toEqual(['three']);
      }));

    test('what has expired goes, and its topics are told once, also of what somebody tried to read', () =>
      on(async ({ store, nowMs, advance }) => {
        for (const topic of ['a', 'b', 'c']) {
          await store.retain(retainedOf(topic, 'x', { expiresAtMs: nowMs() + 20_000 }));
        }
        await store.retain(retainedOf('kept', 'x', { expiresAtMs: nowMs() + 200_000 }));
        const expired: string[] = [];
        const expire = async () => {
          for (let i = 0; i < 20; i++) expired.push(...(await store.expireRetained()));
          return expired.sort();
        };
        expect(await expire()).toEqual([]);
        await advance(20_000);
        expect(await store.readRetained(['a'])).toEqual([]);
        expect(await expire()).toEqual(['a', 'b', 'c']);
        expect(await expire()).toEqual(['a', 'b', 'c']);
        expect((await store.readRetained(['kept'])).map(textOf)).toEqual(['x']);
      }));

    test('the expiry is that of the last message', () =>
      on(async ({ store, nowMs, advance }) => {
        await store.retain(retainedOf('t', 'one', { expiresAtMs: nowMs() + 10_000 }));
        await store.retain(retainedOf('t', 'two'));
        await advance(20_000);
        expect((await store.readRetained(['t'])).map(textOf)).toEqual(['two']);
      }));

    test('at the limit of messages a new topic is full, a known one is replaced', () =>
      on(
        async ({ store }) => {
          await store.retain(retainedOf('a', 'one'));
          await store.retain(retainedOf('b', 'one'));
          expect(await store.retain(retainedOf('c', 'one'))).toEqual({ outcome: 'full' });
          expect(await store.retain(retainedOf('b', 'two'))).toEqual({ outcome: 'kept' });
          expect((await store.readRetained(['a', 'b', 'c'])).map(textOf)).toEqual(['one', 'two']);
          await store.retain(retainedOf('a', ''));
          expect(await store.retain(retainedOf('c', 'one'))).toEqual({ outcome: 'kept' });
        },
        { retainedMessagesMax: 2 },
      ));

    test('the levels of a topic count in the limit of bytes', () =>
      on(
        async ({ store }) => {
          const deep = (name: string) => retainedOf(`${'a/'.repeat(60)}${name}`, 'x');
          expect(await store.retain(deep('1'))).toEqual({ outcome: 'kept' });
          expect(await store.retain(deep('2'))).toEqual({ outcome: 'kept' });
          expect(await store.retain(deep('3'))).toEqual({ outcome: 'full' });
          await store.retain(retainedOf(deep('1').topic.name, ''));
          expect(await store.retain(deep('3'))).toEqual({ outcome: 'kept' });
        },
        { retainedBytesMax: 10_000 },
      ));

    test('at the limit of bytes a message that does not fit is full and the topic keeps what it had', () =>
      on(
        async ({ store }) => {
          await store.retain(retainedOf('a', 'x'.repeat(4_000)));
          await store.retain(retainedOf('b', 'x'.repeat(4_000)));
          expect(await store.retain(retainedOf('c', 'x'.repeat(4_000)))).toEqual({
            outcome: 'full',
          });
          expect(await store.retain(retainedOf('b', 'y'.repeat(7_000)))).toEqual({
            outcome: 'full',
          });
          const read = await store.readRetained(['a', 'b', 'c']);
          expect(read.map(textOf)).toEqual(['x'.repeat(4_000), 'x'.repeat(4_000)]);
          expect(await store.retain(retainedOf('b', 'z'.repeat(5_000)))).toEqual({
            outcome: 'kept',
          });
        },
        { retainedBytesMax: 10_000 },
      ));
  });

  describe(`${name}: random operations`, () => {
    test.each([
      ['once', (store: StateStore) => store],
      ['twice, as after a lost reply', repeatingWrites],
    ])('any sequence of them gives what the model gives, each write run %s', async (_, wrap) => {
      await fc.assert(
        fc.asyncProperty(operations, async ({ list, policy }) => {
          const limits: StateStoreLimits = {
            ...LIMITS,
            queueMessagesMax: 4,
            queueBytesMax: 60,
            queuePolicy: policy,
          };
          await on(async (harness) => {
            const store = wrap(harness.store);
            await runOperations(list, { ...harness, store }, { limits, willLeaseMs });
          }, limits);
        }),
        { numRuns: runs },
      );
    });
  });
}

function claimOf(
  clientId: string,
  connection: number,
  options: Partial<Pick<ClaimRequest, 'cleanStart' | 'expiryInterval' | 'will'>> = {},
): ClaimRequest {
  return {
    clientId,
    token: `${clientId}#${String(connection)}`,
    cleanStart: false,
    expiryInterval: 1_000,
    protocolVersion: 5,
    username: '',
    will: undefined,
    ...options,
  };
}

function releaseOf(
  clientId: string,
  connection: number,
  options: Partial<ReleaseRequest> = {},
): ReleaseRequest {
  return {
    clientId,
    token: `${clientId}#${String(connection)}`,
    discardWill: false,
    expiryInterval: undefined,
    sentBelow: 1,
    ...options,
  };
}

function willOf(topic: string, delayInterval = 0): Will {
  return {
    topic,
    payload: new TextEncoder().encode(`will ${topic}`),
    qos: 1,
    retain: false,
    delayInterval,
    messageExpiryInterval: undefined,
    properties: new Uint8Array(0),
  };
}

function subscription(filter: string, qos: 0 | 1 | 2): StoredSubscription {
  return {
    filter,
    qos,
    noLocal: false,
    retainAsPublished: false,
    retainHandling: 0,
    subscriptionIdentifier: 0,
  };
}

function queued(text: string, qos: 1 | 2 = 1): QueuedMessage {
  const payload = new TextEncoder().encode(text);
  const message = Message.of(topicOf('t'), payload, { qos, retain: false });
  return { message, qos, retain: false, subscriptionIds: [] };
}

function retainedOf(
  topic: string,
  text: string,
  { expiresAtMs = 0, publisher = '' }: { expiresAtMs?: number; publisher?: string } = {},
): Message {
  const payload = new TextEncoder().encode(text);
  const message = Message.of(topicOf(topic), payload, { qos: 1, retain: true, publisher });
  message.expiresAtMs = expiresAtMs;
  return message;
}

function kept(sequence: number, dropped = 0): AppendResult {
  return { outcome: 'kept', sequence, dropped };
}

async function claimed(
  store: StateStore,
  request: ClaimRequest,
): Promise<ClaimedSession & { readonly ref: SessionRef }> {
  const session = await store.claim(request);
  return { ...session, ref: { clientId: request.clientId, incarnation: session.incarnation } };
}

function append(
  store: StateStore,
  session: SessionRef,
  message: QueuedMessage,
  uid = '',
): Promise<AppendResult> {
  return new Promise((resolve) => {
    store.append(session, message, uid, resolve);
  });
}

async function entries(
  store: StateStore,
  session: SessionRef,
  token: string,
  from = 1,
  countMax = 1_000,
  bytesMax = 1_000_000,
): Promise<readonly QueueEntry[]> {
  const result = await store.read(session, token, from, countMax, bytesMax);
  if (result.outcome === 'fenced') throw new Error(`${token} is fenced`);
  return result.entries;
}

async function payloads(...args: Parameters<typeof entries>): Promise<readonly string[]> {
  const read = await entries(...args);
  return read.map(({ sequence, message }) => `${String(sequence)} ${textOf(message)}`);
}

function textOf(message: Message): string {
  return new TextDecoder().decode(message.bytes.subarray(message.start, message.end));
}

function topics(wills: readonly DueWill[]): string[] {
  return wills.map(({ will }) => will.topic);
}

function dueWills(result: Awaited<ReturnType<StateStore['release']>>): readonly DueWill[] {
  if (result.outcome === 'fenced') throw new Error('fenced');
  return result.wills;
}

function dueTopics(result: Awaited<ReturnType<StateStore['release']>>): string[] {
  return topics(dueWills(result));
}

function byFilter(subscriptions: readonly StoredSubscription[]): StoredSubscription[] {
  return [...subscriptions].sort((one, other) => (one.filter < other.filter ? -1 : 1));
}

/** Without what a store may have of its own in the objects it returns. */
function plain({ wills, ...session }: ClaimedSession): unknown {
  return { ...session, wills: wills.map(({ uid, will }) => [uid, will.topic]) };
}

const ALL_FENCED = ['fenced', 'fenced', 'fenced', 'fenced', 'fenced', 'fenced'];

async function everyFencedWrite(
  store: StateStore,
  session: SessionRef,
  token: string,
): Promise<readonly string[]> {
  return [
    await store.changeSubscriptions(session, token, [subscription('fenced', 1)], []),
    await store.remove(session, token, [1]),
    await store.markReleased(session, token, 1),
    (await store.beginIncoming(session, token, 1, 'fenced')).outcome,
    await store.finishIncoming(session, token, 1),
    await store.endIncoming(session, token, 1),
  ];
}
