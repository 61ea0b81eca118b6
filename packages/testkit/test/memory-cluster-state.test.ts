import { expect, test } from '@jest/globals';
import { DEFAULT_LIMITS } from '@shoalmq/core';
import { createMemoryStore } from '@shoalmq/store-memory';
import {
  describeClusterState,
  FakeClock,
  MemoryClusterState,
  recordingOwners,
  SeededRandom,
} from '../src/index.ts';

describeClusterState(
  'memory cluster state',
  ({ logLengthMax }) => {
    const clock = new FakeClock();
    const state = new MemoryClusterState({ clock, random: new SeededRandom(1), logLengthMax });
    return Promise.resolve({
      connect: () => state,
      own: async (token: string, clientId: string) => state.own(token, clientId),
      disown: async (token: string, clientId: string) => state.disown(token, clientId),
      passTime: async (ms: number) => clock.advance(ms),
      lose: async () => state.lose(),
      close: () => Promise.resolve(),
    });
  },
  { runs: 100 },
);

test('a replica that takes over knows what the snapshot knew, and readers notice', async () => {
  const state = new MemoryClusterState({ clock: new FakeClock(), random: new SeededRandom(1) });
  const n1 = { id: 'n1', incarnation: 'a', address: 'n1:1', version: '1.0.0', state: 'serving' };
  const self = { ...n1, state: 'serving' as const };
  const { generation } = await state.renewLease(self, 5_000);
  const kept = { kind: 'retained', filter: 'x' } as const;
  const forgotten = { kind: 'session', clientId: 'c', incarnation: 'i', filter: 'x', options: '' };
  await state.changeFacts([{ change: 'add', fact: kept }]);
  const snapshot = state.snapshot();
  const session = { ...forgotten, kind: 'session' as const };
  const positions = await state.changeFacts([{ change: 'add', fact: session }]);
  state.failOver(snapshot);

  const [bucket] = [...positions.keys()];
  expect((await state.loadBucket(bucket!)).facts).toEqual([kept]);
  expect((await state.renewLease(self, 5_000)).generation).not.toBe(generation);
  await state.changeFacts([{ change: 'remove', fact: kept }]);
  expect((await state.readLog(positions, 10)).get(bucket!)).toBe('lost');
});

test('what a store claimed and did not release is what a dead node leaves', async () => {
  const options = { clock: new FakeClock(), random: new SeededRandom(1) };
  const state = new MemoryClusterState(options);
  const store = recordingOwners(createMemoryStore({ ...options, limits: DEFAULT_LIMITS }), state);
  const claim = (clientId: string, token: string) =>
    store.claim({
      clientId,
      token,
      cleanStart: false,
      expiryInterval: 100,
      protocolVersion: 5,
      username: '',
      will: undefined,
    });
  for (const clientId of ['kept', 'left', 'moved']) await claim(clientId, 'n1#a#1');
  await store.release({
    clientId: 'left',
    token: 'n1#a#1',
    discardWill: false,
    expiryInterval: undefined,
    sentBelow: 1,
  });
  await claim('moved', 'n2#b#1');
  expect((await state.orphans({ id: 'n1', incarnation: 'a' }, '', 10)).connections).toEqual([
    { clientId: 'kept', token: 'n1#a#1' },
  ]);
  expect((await state.orphans({ id: 'n2', incarnation: 'b' }, '', 10)).connections).toEqual([
    { clientId: 'moved', token: 'n2#b#1' },
  ]);
});
