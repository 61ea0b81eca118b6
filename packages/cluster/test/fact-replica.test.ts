import { expect, test } from '@jest/globals';
import type { ClusterState, FactChange, SharedFact } from '@shoalmq/core';
import { FakeClock, MemoryClusterState, SeededRandom } from '@shoalmq/testkit';
import { FactReplica } from '../src/fact-replica.ts';
import { FactWriter } from '../src/fact-writer.ts';

const clock = new FakeClock();

function fact(clientId: string): SharedFact {
  return { kind: 'session', clientId, incarnation: 'i', filter: 'a/b', options: '1 0' };
}

/** Tables that remember which sessions have the one subscription of these tests. */
class Tables {
  readonly clients = new Set<string>();
  readonly history: string[] = [];
  apply({ change, fact }: FactChange): void {
    if (fact.kind !== 'session') return;
    this.history.push(`${change} ${fact.clientId}`);
    if (change === 'add') this.clients.add(fact.clientId);
    else this.clients.delete(fact.clientId);
  }
  replace(facts: readonly SharedFact[]): void {
    this.history.push('replace');
    this.clients.clear();
    for (const fact of facts) this.apply({ change: 'add', fact });
  }
}

function replicaOf(state: ClusterState) {
  const tables = new Tables();
  const report = (): void => undefined;
  const writer = new FactWriter(state, () => Promise.resolve(), report);
  const replica = new FactReplica({ state, tables, writer, clock, pollMs: 3_600_000, report });
  return { tables, writer, replica };
}

function memoryState(): MemoryClusterState {
  return new MemoryClusterState({ clock, random: new SeededRandom(1) });
}

test('what others change is applied in the order of the log', async () => {
  const state = memoryState();
  await state.changeFacts([{ change: 'add', fact: fact('a') }]);
  const { tables, replica } = replicaOf(state);
  await replica.poll();
  const positions = await state.changeFacts([
    { change: 'remove', fact: fact('a') },
    { change: 'add', fact: fact('b') },
  ]);
  await new Promise<void>((resolve) => {
    replica.whenReached(positions, resolve);
  });
  replica.close();

  expect(tables.history).toEqual(['add a', 'remove a', 'add b']);
  expect(replica.missingBucket).toBeUndefined();
});

test('an older change of the log does not undo what this node has done since', async () => {
  const state = memoryState();
  const { tables, writer, replica } = replicaOf(state);
  await replica.poll();
  // Subscribed, unsubscribed and subscribed again here, while the log has only the first two.
  tables.clients.add('a');
  await writer.write([{ change: 'add', fact: fact('a') }]);
  await writer.write([{ change: 'remove', fact: fact('a') }]);
  const last = writer.write([{ change: 'add', fact: fact('a') }]);
  await replica.poll();
  expect(tables.clients.has('a')).toBe(true);
  await last;
  await replica.poll();
  expect(tables.clients.has('a')).toBe(true);
  expect(tables.history).not.toContain('remove a');

  // What another node does after that counts again.
  await state.changeFacts([{ change: 'remove', fact: fact('a') }]);
  await replica.poll();
  replica.close();
  expect(tables.clients.has('a')).toBe(false);
});

test('a log that was trimmed too far is made up for by loading everything again', async () => {
  const state = new MemoryClusterState({ clock, random: new SeededRandom(1), logLengthMax: 2 });
  const { tables, writer, replica } = replicaOf(state);
  await state.changeFacts([{ change: 'add', fact: fact('gone') }]);
  await writer.write([{ change: 'add', fact: fact('own') }]);
  await replica.poll();
  await state.changeFacts([{ change: 'remove', fact: fact('gone') }]);
  for (const name of ['b', 'c', 'd']) {
    await state.changeFacts([{ change: 'add', fact: fact(name) }]);
  }
  await replica.poll();
  await replica.poll();
  replica.close();

  expect(tables.history).toContain('replace');
  expect([...tables.clients].sort()).toEqual(['b', 'c', 'd', 'own']);
});
