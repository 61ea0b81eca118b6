import { describe, expect, test } from '@jest/globals';
import { FACT_BUCKETS } from '@shoalmq/core';
import type {
  ClusterState,
  FactChange,
  LogPosition,
  NodeDescriptor,
  NodeIdentity,
  OwnerToken,
  SharedFact,
} from '@shoalmq/core';
import * as fc from 'fast-check';
import { SeededRandom } from '../seeded-random.ts';
import { FactReader } from './fact-reader.ts';

/** An empty cluster state, and what a test does to it besides calling it. */
export interface ClusterStateHarness {
  /** As one more node sees it: what an adapter keeps for one node is not shared. */
  readonly connect: () => ClusterState;
  /** What the state store does before a claim, and after a release. */
  readonly own: (token: OwnerToken, clientId: string) => Promise<void>;
  readonly disown: (token: OwnerToken, clientId: string) => Promise<void>;
  /** Lets at least that much time pass for leases, and less than a few seconds more. */
  readonly passTime: (ms: number) => Promise<void>;
  /** All is gone, as when Redis comes back empty. */
  readonly lose: () => Promise<void>;
  readonly close: () => Promise<void>;
}

export interface ClusterStateContractOptions {
  /** Random operation sequences to try. */
  readonly runs: number;
}

/** Changes that the log of a bucket keeps at least; and it keeps less than `LOG_OVERFLOWS`. */
const LOG_LENGTH_MAX = 200;
const LOG_OVERFLOWS = 1_000;

/** Time for a test that asks the store for much, on a machine that does much else. */
const SLOW_MS = 60_000;

/** Long enough that no lease ends by itself in a test. */
const LONG_MS = 600_000;

/**
 * The contract of the `ClusterState` port as tests. `makeState` makes an empty one for each test, whose logs keep
 * about `logLengthMax` changes for each bucket.
 */
export function describeClusterState(
  name: string,
  makeState: (options: { readonly logLengthMax: number }) => Promise<ClusterStateHarness>,
  { runs }: ClusterStateContractOptions,
): void {
  async function on(run: (harness: ClusterStateHarness) => Promise<void>): Promise<void> {
    const harness = await makeState({ logLengthMax: LOG_LENGTH_MAX });
    try {
      await run(harness);
    } finally {
      await harness.close();
    }
  }

  describe(`${name}: membership`, () => {
    test('a node that renews its lease is listed as it last described itself', () =>
      on(async ({ connect }) => {
        const state = connect();
        const n1 = descriptorOf('n1', 'a', { state: 'joining' });
        expect(await state.renewLease(n1, LONG_MS)).toMatchObject({ nodes: [n1], dead: [] });
        const serving = descriptorOf('n1', 'a', { state: 'serving', address: '[::1]:1' });
        expect(await state.renewLease(serving, LONG_MS)).toMatchObject({
          nodes: [serving],
          dead: [],
        });
      }));

    test('every node sees all nodes that hold a lease', () =>
      on(async ({ connect }) => {
        const descriptors = ['n1', 'n2', 'a.b-c_D', 'n'].map((id) => descriptorOf(id, 'x'));
        const states = descriptors.map(() => connect());
        for (const [index, state] of states.entries()) {
          await state.renewLease(descriptors[index]!, LONG_MS);
        }
        for (const [index, state] of states.entries()) {
          const { nodes, dead } = await state.renewLease(descriptors[index]!, LONG_MS);
          expect(byId(nodes)).toEqual(byId(descriptors));
          expect(dead).toEqual([]);
        }
      }));

    test('a node whose lease ran out is dead until it is buried', () =>
      on(async ({ connect, passTime }) => {
        const [n1, n2] = [connect(), connect()];
        await n1.renewLease(descriptorOf('n1', 'a'), 60);
        expect((await n2.renewLease(descriptorOf('n2', 'b'), LONG_MS)).nodes).toHaveLength(2);
        await passTime(60);
        for (let i = 0; i < 2; i++) {
          expect(await n2.renewLease(descriptorOf('n2', 'b'), LONG_MS)).toMatchObject({
            nodes: [descriptorOf('n2', 'b')],
            dead: [{ id: 'n1', incarnation: 'a' }],
          });
        }
        for (let i = 0; i < 2; i++) {
          await n2.bury({ id: 'n1', incarnation: 'a' });
          expect(await n2.renewLease(descriptorOf('n2', 'b'), LONG_MS)).toMatchObject({
            nodes: [descriptorOf('n2', 'b')],
            dead: [],
          });
        }
      }));

    test('a node that renews again after its lease ran out is not dead, buried or not', () =>
      on(async ({ connect, passTime }) => {
        const [n1, n2] = [connect(), connect()];
        for (const buried of [false, true]) {
          await n1.renewLease(descriptorOf('n1', 'a'), 1);
          await passTime(1);
          const { dead } = await n2.renewLease(descriptorOf('n2', 'b'), LONG_MS);
          expect(dead).toEqual([{ id: 'n1', incarnation: 'a' }]);
          if (buried) await n2.bury({ id: 'n1', incarnation: 'a' });
          const { nodes, dead: none } = await n1.renewLease(descriptorOf('n1', 'a'), LONG_MS);
          expect(byId(nodes)).toEqual([descriptorOf('n1', 'a'), descriptorOf('n2', 'b')]);
          expect(none).toEqual([]);
        }
      }));

    test('a node that lives cannot be buried', () =>
      on(async ({ connect }) => {
        const [n1, n2] = [connect(), connect()];
        await n1.renewLease(descriptorOf('n1', 'a'), LONG_MS);
        await n2.bury({ id: 'n1', incarnation: 'a' });
        const { nodes } = await n2.renewLease(descriptorOf('n2', 'b'), LONG_MS);
        expect(nodes).toHaveLength(2);
      }));

    test('a node that starts again is alive, and its former life dead at once', () =>
      on(async ({ connect }) => {
        const other = connect();
        for (const incarnation of ['a', 'b', 'c']) {
          await connect().renewLease(descriptorOf('n1', incarnation), LONG_MS);
        }
        const { nodes, dead } = await other.renewLease(descriptorOf('n2', 'x'), LONG_MS);
        expect(byId(nodes)).toEqual([descriptorOf('n1', 'c'), descriptorOf('n2', 'x')]);
        expect(byId(dead)).toEqual([
          { id: 'n1', incarnation: 'a' },
          { id: 'n1', incarnation: 'b' },
        ]);
        await other.bury({ id: 'n1', incarnation: 'a' });
        await other.bury({ id: 'n1', incarnation: 'b' });
        expect(await other.renewLease(descriptorOf('n2', 'x'), LONG_MS)).toMatchObject({
          nodes: expect.arrayContaining([descriptorOf('n1', 'c')]) as unknown,
          dead: [],
        });
      }));

    test('a former life that was only paused cannot take its id back from the later one', () =>
      on(async ({ connect, passTime }) => {
        const [paused, later, other] = [connect(), connect(), connect()];
        await paused.renewLease(descriptorOf('n1', 'a'), LONG_MS);
        await later.renewLease(descriptorOf('n1', 'b'), LONG_MS);
        await expect(paused.renewLease(descriptorOf('n1', 'a'), LONG_MS)).rejects.toMatchObject({
          code: 'SHOAL_NODE_REPLACED',
        });
        await other.bury({ id: 'n1', incarnation: 'a' });
        await expect(paused.renewLease(descriptorOf('n1', 'a'), LONG_MS)).rejects.toMatchObject({
          code: 'SHOAL_NODE_REPLACED',
        });
        const { nodes, dead } = await other.renewLease(descriptorOf('n2', 'x'), LONG_MS);
        expect(byId(nodes)).toEqual([descriptorOf('n1', 'b'), descriptorOf('n2', 'x')]);
        expect(dead).toEqual([]);

        await later.renewLease(descriptorOf('n1', 'b'), 1);
        await passTime(1);
        expect(await paused.renewLease(descriptorOf('n1', 'a'), LONG_MS)).toMatchObject({
          dead: [{ id: 'n1', incarnation: 'b' }],
        });
      }));

    test('a node that ends its lease is neither alive nor dead', () =>
      on(async ({ connect }) => {
        const [n1, n2] = [connect(), connect()];
        await n1.renewLease(descriptorOf('n1', 'a'), LONG_MS);
        for (let i = 0; i < 2; i++) await n1.endLease({ id: 'n1', incarnation: 'a' });
        expect(await n2.renewLease(descriptorOf('n2', 'b'), LONG_MS)).toMatchObject({
          nodes: [descriptorOf('n2', 'b')],
          dead: [],
        });
      }));

    test('a lease that ends leaves the one of another life of the node', () =>
      on(async ({ connect }) => {
        const [n1, n2] = [connect(), connect()];
        await n1.renewLease(descriptorOf('n1', 'b'), LONG_MS);
        await n1.endLease({ id: 'n1', incarnation: 'a' });
        expect((await n2.renewLease(descriptorOf('n2', 'x'), LONG_MS)).nodes).toHaveLength(2);
      }));

    test('the generation is the same for all, and another when the store comes back empty', () =>
      on(async ({ connect, lose }) => {
        const [n1, n2] = [connect(), connect()];
        const { generation } = await n1.renewLease(descriptorOf('n1', 'a'), LONG_MS);
        expect(generation).not.toBe('');
        expect((await n2.renewLease(descriptorOf('n2', 'b'), LONG_MS)).generation).toBe(generation);
        expect((await n1.renewLease(descriptorOf('n1', 'a'), LONG_MS)).generation).toBe(generation);

        await lose();
        const after = await n2.renewLease(descriptorOf('n2', 'b'), LONG_MS);
        expect(after.generation).not.toBe(generation);
        expect(after).toMatchObject({ nodes: [descriptorOf('n2', 'b')], dead: [] });
        const all = await n1.renewLease(descriptorOf('n1', 'a'), LONG_MS);
        expect(all.generation).toBe(after.generation);
        expect(all.nodes).toHaveLength(2);
      }));

    test(
      'any sequence of leases, ends and burials, also when each runs twice, leaves what a model says',
      () =>
        on(async ({ connect, passTime }) => {
          const life = fc.record({
            id: fc.constantFrom('n1', 'n2'),
            incarnation: fc.constantFrom('a', 'b', 'c'),
          });
          const step = fc.record({
            what: fc.constantFrom('renew', 'renew', 'renew', 'lapse', 'end', 'bury'),
            life,
            twice: fc.boolean(),
          });
          let run = 0;
          await fc.assert(
            fc.asyncProperty(fc.array(step, { maxLength: 20 }), async (steps) => {
              // A life of a node does not begin twice.
              run += 1;
              const states = new Map<string, ClusterState>();
              const model = new Map<string, { node: NodeIdentity; lives: boolean }>();
              const renew = async (node: NodeIdentity, ttlMs: number): Promise<void> => {
                const key = `${node.id} ${node.incarnation}`;
                const rivals = [...model.values()].filter(
                  (other) =>
                    other.lives &&
                    other.node.id === node.id &&
                    other.node.incarnation !== node.incarnation,
                );
                const began = states.has(key);
                const state = states.get(key) ?? connect();
                states.set(key, state);
                const renewed = state.renewLease(descriptorOf(node.id, node.incarnation), ttlMs);
                if (began && rivals.length > 0) {
                  await expect(renewed).rejects.toThrow();
                  return;
                }
                for (const rival of rivals) rival.lives = false;
                model.set(key, { node, lives: true });
                const { nodes, dead } = await renewed;
                const expected = (lives: boolean): readonly NodeIdentity[] =>
                  [...model.values()]
                    .filter((each) => each.lives === lives)
                    .map(({ node }) => node);
                expect(byId(nodes)).toMatchObject(byId(expected(true)));
                expect(byId(dead)).toEqual(byId(expected(false)));
              };
              for (const { what, life: named, twice } of steps) {
                const node = { ...named, incarnation: `${named.incarnation}${run}` };
                const key = `${node.id} ${node.incarnation}`;
                for (let i = 0; i < (twice ? 2 : 1); i++) {
                  if (what === 'renew') {
                    await renew(node, LONG_MS);
                  } else if (what === 'lapse') {
                    if (model.get(key)?.lives !== true) continue;
                    await renew(node, 1);
                    await passTime(1);
                    model.set(key, { node, lives: false });
                  } else if (what === 'end') {
                    await connect().endLease(node);
                    model.delete(key);
                  } else {
                    await connect().bury(node);
                    if (model.get(key)?.lives === false) model.delete(key);
                  }
                }
              }
              for (const { node } of model.values()) await connect().endLease(node);
            }),
            { numRuns: runs, seed: 1 },
          );
        }),
      SLOW_MS,
    );
  });

  describe(`${name}: facts`, () => {
    test(
      'facts of any text come back as they were written',
      () =>
        on(async ({ connect }) => {
          const state = connect();
          const text = fc.string({ unit: 'binary', maxLength: 20 });
          const fact: fc.Arbitrary<SharedFact> = fc.oneof(
            fc.record({
              kind: fc.constant('node' as const),
              node: fc.record({ id: fc.constantFrom('n', 'n.1', '1-_'), incarnation: text }),
              filter: text,
              weight: fc.integer({ min: 1, max: 0xffffffff }),
            }),
            fc.record({
              kind: fc.constant('session' as const),
              clientId: text,
              incarnation: text,
              filter: text,
              options: text,
            }),
            fc.record({ kind: fc.constant('retained' as const), filter: text }),
          );
          const reader = new FactReader(state);
          await reader.load();
          await fc.assert(
            fc.asyncProperty(fc.array(fact, { minLength: 1, maxLength: 10 }), async (facts) => {
              await state.changeFacts(facts.map((each) => added(each)));
              await reader.tail();
              // The last of those that are the same is the one that holds.
              expect(reader.facts()).toContainEqual(facts.at(-1));
              expect(await storedFacts(state)).toEqual(reader.facts());
              await state.changeFacts(facts.map((each) => removed(each)));
              await reader.tail();
              expect(reader.facts()).toEqual([]);
            }),
            { numRuns: Math.ceil(runs / 2), seed: 1 },
          );
          expect(await storedFacts(state)).toEqual([]);
        }),
      SLOW_MS,
    );

    test('texts that look alike when joined are different facts', () =>
      on(async ({ connect }) => {
        const state = connect();
        const facts = [
          sessionFact('a', '1:bc', 'x'),
          sessionFact('a1:b', 'c', 'x'),
          sessionFact('a', 'b', 'cx'),
          sessionFact('a', 'bc', 'x'),
          sessionFact('ab', 'c', 'x'),
          sessionFact('', 'abc', 'x'),
          nodeFact('a', 'bc', 'x'),
          nodeFact('ab', 'c', 'x'),
          retainedFact('x'),
          retainedFact('abcx'),
        ];
        await state.changeFacts(facts.map((fact) => added(fact)));
        expect(await storedFacts(state)).toHaveLength(facts.length);
        for (const fact of facts) {
          await state.changeFacts([removed(fact)]);
          expect(await storedFacts(state)).not.toContainEqual(fact);
        }
        expect(await storedFacts(state)).toEqual([]);
      }));

    test('a fact that is added again replaces weight or options; it is removed whatever they were', () =>
      on(async ({ connect }) => {
        const state = connect();
        await state.changeFacts([
          added(nodeFact('n', 'a', '$share/g/x', 1)),
          added(sessionFact('c', 'i', 'x', '1')),
        ]);
        const now = [nodeFact('n', 'a', '$share/g/x', 2), sessionFact('c', 'i', 'x', '')];
        await state.changeFacts(now.map((fact) => added(fact)));
        expect(await storedFacts(state)).toEqual(now.sort(byText));
        await state.changeFacts([
          removed(nodeFact('n', 'a', '$share/g/x', 7)),
          removed(sessionFact('c', 'i', 'x', '7')),
        ]);
        expect(await storedFacts(state)).toEqual([]);
      }));

    test('changes of one bucket are logged in the order given, and what changes nothing is not', () =>
      on(async ({ connect }) => {
        const state = connect();
        const fact = sessionFact('c', 'i', 'x', '1');
        const bucket = await bucketOf(state, 'x');
        const { position } = await state.loadBucket(bucket);
        const changes = [
          added(fact),
          removed(fact),
          added(fact),
          added(sessionFact('c', 'i', 'x', '2')),
          added(retainedFact('x')),
        ];
        const noChanges = [added(retainedFact('x')), removed(nodeFact('n', 'a', 'x'))];
        const first = await state.changeFacts([...changes, ...noChanges]);
        const again = await state.changeFacts(noChanges);
        const read = await readOne(state, bucket, position, 100);
        expect(read).toEqual({ changes: logged(changes), position: first.get(bucket) });
        expect(again).toEqual(first);
        expect(await readOne(state, bucket, first.get(bucket)!, 100)).toEqual({
          changes: [],
          position: first.get(bucket),
        });
      }));

    test('positions are returned for the buckets that were named, and grow as text', () =>
      on(async ({ connect }) => {
        const state = connect();
        expect(await state.changeFacts([])).toEqual(new Map());
        let before = (await state.loadBucket(await bucketOf(state, 'x'))).position;
        for (let i = 0; i < 30; i++) {
          const positions = await state.changeFacts([added(sessionFact(`c${i}`, 'i', 'x'))]);
          expect([...positions.keys()]).toEqual([await bucketOf(state, 'x')]);
          const [after] = [...positions.values()];
          expect(after! > before).toBe(true);
          before = after!;
        }
        const filters = Array.from({ length: 2_000 }, (_, i) => `f/${i}`);
        const many = await state.changeFacts(filters.map((filter) => added(retainedFact(filter))));
        expect(many.size).toBe(FACT_BUCKETS);
        for (const [bucket, position] of many) {
          expect((await state.loadBucket(bucket)).position).toBe(position);
        }
      }));

    test('a bucket and its position stand for each other', () =>
      on(async ({ connect }) => {
        const state = connect();
        const bucket = await bucketOf(state, 'x');
        const empty = await state.loadBucket(bucket);
        expect(empty.facts).toEqual([]);
        await state.changeFacts([added(sessionFact('c', 'i', 'x'))]);
        const one = await state.loadBucket(bucket);
        expect(one.facts).toEqual([sessionFact('c', 'i', 'x')]);
        await state.changeFacts([removed(sessionFact('c', 'i', 'x')), added(retainedFact('x'))]);
        expect(await readOne(state, bucket, one.position, 9)).toMatchObject({
          changes: logged([removed(sessionFact('c', 'i', 'x')), added(retainedFact('x'))]),
        });
        expect(await readOne(state, bucket, empty.position, 9)).toMatchObject({
          changes: logged([
            added(sessionFact('c', 'i', 'x')),
            removed(sessionFact('c', 'i', 'x')),
            added(retainedFact('x')),
          ]),
        });
      }));

    test('the log is read in pages', () =>
      on(async ({ connect }) => {
        const state = connect();
        const bucket = await bucketOf(state, 'x');
        let { position } = await state.loadBucket(bucket);
        const changes = Array.from({ length: 25 }, (_, i) => added(sessionFact(`c${i}`, 'i', 'x')));
        const reached = await state.changeFacts(changes);
        const seen: FactChange[] = [];
        for (const count of [10, 10, 5, 0]) {
          const page = await readOne(state, bucket, position, 10);
          if (page === undefined || page === 'lost') throw new Error('the log is not there');
          expect(page.changes).toHaveLength(count);
          seen.push(...page.changes);
          position = page.position;
        }
        expect(seen).toEqual(changes);
        expect(position).toBe(reached.get(bucket));
      }));

    test('many changes in one call keep their order within a bucket', () =>
      on(async ({ connect }) => {
        const state = connect();
        const bucket = await bucketOf(state, 'x');
        const { position } = await state.loadBucket(bucket);
        // Fewer than the log keeps, each undone at once but the last.
        const changes = Array.from({ length: 75 }, (_, i) => [
          added(sessionFact(`c${i % 3}`, 'i', 'x')),
          removed(sessionFact(`c${i % 3}`, 'i', 'x')),
        ]).flat();
        await state.changeFacts([...changes, added(retainedFact('x'))]);
        expect(await readOne(state, bucket, position, 1_000)).toMatchObject({
          changes: logged([...changes, added(retainedFact('x'))]),
        });
        expect((await state.loadBucket(bucket)).facts).toEqual([retainedFact('x')]);
      }));

    test('calls that are not awaited take effect in the order in which they were made', () =>
      on(async ({ connect }) => {
        const state = connect();
        const fact = sessionFact('c', 'i', 'x');
        const bucket = await bucketOf(state, 'x');
        const positions = await Promise.all(
          Array.from({ length: 41 }, (_, i) =>
            state.changeFacts([i % 2 === 0 ? added(fact) : removed(fact)]),
          ),
        );
        const { facts, position } = await state.loadBucket(bucket);
        expect(facts).toEqual([fact]);
        expect(positions.at(-1)!.get(bucket)).toBe(position);
        for (const [index, each] of positions.slice(1).entries()) {
          expect(each.get(bucket)! >= positions[index]!.get(bucket)!).toBe(true);
        }
      }));

    test('a reader that is further behind than the log goes is told so, and a load repairs it', () =>
      on(async ({ connect }) => {
        const state = connect();
        const bucket = await bucketOf(state, 'x');
        const reader = new FactReader(connect());
        await reader.load();
        for (let i = 0; i < LOG_OVERFLOWS; i += 100) {
          await state.changeFacts(
            Array.from({ length: 100 }, (_, k) => added(sessionFact(`c${i + k}`, 'i', 'x'))),
          );
        }
        const { position } = await state.loadBucket(bucket);
        await state.changeFacts([removed(sessionFact('c0', 'i', 'x'))]);
        expect(await readOne(state, bucket, position, 10)).toMatchObject({
          changes: logged([removed(sessionFact('c0', 'i', 'x'))]),
        });
        await reader.tail();
        expect(reader.timesLost).toBe(1);
        expect(reader.facts()).toEqual(await storedFacts(state));
        expect(reader.facts()).toHaveLength(LOG_OVERFLOWS - 1);
      }));

    test('a reader of a log that is as long as the log may get misses nothing', () =>
      on(async ({ connect }) => {
        const state = connect();
        const reader = new FactReader(connect());
        await reader.load();
        await state.changeFacts(
          Array.from({ length: LOG_LENGTH_MAX }, (_, i) => added(sessionFact(`c${i}`, 'i', 'x'))),
        );
        await reader.tail();
        expect(reader.timesLost).toBe(0);
        expect(reader.facts()).toHaveLength(LOG_LENGTH_MAX);
      }));

    test('when the store came back empty, readers are told at the next change', () =>
      on(async ({ connect, lose }) => {
        const state = connect();
        const bucket = await bucketOf(state, 'x');
        const [before] = [...(await state.changeFacts([added(retainedFact('x'))])).values()];
        await lose();
        await state.changeFacts([added(sessionFact('c', 'i', 'x'))]);
        expect(await readOne(state, bucket, before!, 10)).toBe('lost');
        expect((await state.loadBucket(bucket)).facts).toEqual([sessionFact('c', 'i', 'x')]);
      }));

    test(
      'random changes, also when each runs twice, leave what a map would hold, and readers equal to it',
      () =>
        on(async ({ connect }) => {
          const state = connect();
          const change: fc.Arbitrary<FactChange> = fc.record({
            change: fc.constantFrom('add' as const, 'remove' as const),
            fact: fc
              .record({
                kind: fc.nat({ max: 2 }),
                who: fc.nat({ max: 2 }),
                filter: fc.constantFrom('a', 'b', '$share/g/a', '#', 'a}b'),
                value: fc.nat({ max: 2 }),
              })
              .map(({ kind, who, filter, value }) =>
                kind === 0
                  ? nodeFact(`n${who}`, 'i', filter, value + 1)
                  : kind === 1
                    ? sessionFact(`c${who}`, 'i', filter, `${value}`)
                    : retainedFact(filter),
              ),
          });
          const batches = fc.array(
            fc.record({ changes: fc.array(change, { maxLength: 12 }), twice: fc.boolean() }),
            { maxLength: 8 },
          );
          await fc.assert(
            fc.asyncProperty(batches, fc.integer({ min: 1, max: 20 }), async (calls, countMax) => {
              await state.changeFacts((await storedFacts(state)).map((fact) => removed(fact)));
              const early = new FactReader(connect());
              await early.load();
              const model = new Map<string, SharedFact>();
              for (const { changes, twice } of calls) {
                const positions = await state.changeFacts(changes);
                if (twice) await state.changeFacts(changes);
                for (const each of changes) applyTo(model, each);
                await early.tail(countMax);
                for (const [bucket, position] of positions) {
                  expect(early.position(bucket) >= position).toBe(true);
                }
              }
              const expected = [...model.values()].sort(byText);
              expect(early.timesLost).toBe(0);
              expect(early.facts()).toEqual(expected);
              expect(await storedFacts(state)).toEqual(expected);
            }),
            { numRuns: runs, seed: 1 },
          );
        }),
      SLOW_MS,
    );

    test(
      'a large bucket that changes while it is loaded is loaded as it was at its position',
      () =>
        on(async ({ connect }) => {
          const [writer, other] = [connect(), connect()];
          const factsOf = (from: number) =>
            Array.from({ length: 500 }, (_, i) => sessionFact(`c${from + i}`, 'i', 'x'));
          for (let from = 0; from < 3_000; from += 500) {
            await writer.changeFacts(factsOf(from).map((fact) => added(fact)));
          }
          const random = new SeededRandom(1);
          let loading = true;
          const write = async (): Promise<void> => {
            while (loading) {
              const fact = sessionFact(
                `c${random.integer(4_000)}`,
                'i',
                'x',
                `${random.integer(9)}`,
              );
              await writer.changeFacts([random.integer(2) === 0 ? removed(fact) : added(fact)]);
            }
          };
          const writing = write();
          const readers: FactReader[] = [];
          for (let i = 0; i < 5; i++) {
            const reader = new FactReader(other);
            await reader.load();
            readers.push(reader);
          }
          loading = false;
          await writing;
          const facts = await storedFacts(other);
          for (const reader of readers) {
            await reader.tail();
            expect(reader.facts()).toEqual(facts);
          }
        }),
      SLOW_MS,
    );

    test(
      'three nodes that write at once and one that tails come to the same facts',
      () =>
        on(async ({ connect }) => {
          for (let seed = 1; seed <= Math.ceil(runs / 10); seed++) {
            const random = new SeededRandom(seed);
            const reader = new FactReader(connect());
            await reader.load();
            let writing = 3;
            const write = async (state: ClusterState): Promise<void> => {
              for (let i = 0; i < 20; i++) {
                await state.changeFacts(
                  Array.from({ length: 1 + random.integer(8) }, () => {
                    const fact = sessionFact(
                      `c${random.integer(4)}`,
                      'i',
                      `f/${random.integer(6)}`,
                      `${random.integer(3)}`,
                    );
                    return random.integer(3) === 0 ? removed(fact) : added(fact);
                  }),
                );
              }
              writing--;
            };
            const tail = async (): Promise<void> => {
              while (writing > 0) await reader.readOnce(16);
              await reader.tail();
            };
            await Promise.all([write(connect()), write(connect()), write(connect()), tail()]);
            expect(reader.facts()).toEqual(await storedFacts(connect()));
          }
        }),
      SLOW_MS,
    );
  });

  describe(`${name}: connections of a dead node`, () => {
    const dead: NodeIdentity = { id: 'n1', incarnation: 'a' };

    test('are those that were claimed and not released, of that life of the node', () =>
      on(async ({ connect, own, disown }) => {
        const state = connect();
        expect(await everyOrphan(state, dead, 10)).toEqual([]);
        for (let i = 0; i < 2; i++) {
          await own('n1#a#1', 'one');
          await own('n1#a#2', 'two');
          await own('n1#b#1', 'one');
          await own('n2#a#3', 'two');
        }
        await own('n1#a#4', 'one');
        for (let i = 0; i < 2; i++) await disown('n1#a#1', 'one');
        await disown('n1#a#2', 'one');
        expect(await everyOrphan(state, dead, 10)).toEqual([
          { clientId: 'one', token: 'n1#a#4' },
          { clientId: 'two', token: 'n1#a#2' },
        ]);
      }));

    test(
      'have client ids of any text',
      () =>
        on(async ({ connect, own, disown }) => {
          const state = connect();
          const ids = fc.uniqueArray(fc.string({ unit: 'binary', maxLength: 12 }), {
            maxLength: 12,
          });
          await fc.assert(
            fc.asyncProperty(ids, async (clientIds) => {
              for (const clientId of clientIds) await own('n1#a#7', clientId);
              const found = await everyOrphan(state, dead, 5);
              for (const clientId of clientIds) await disown('n1#a#7', clientId);
              expect(found.map(({ clientId }) => clientId).sort()).toEqual([...clientIds].sort());
              expect(await everyOrphan(state, dead, 5)).toEqual([]);
            }),
            { numRuns: Math.ceil(runs / 4), seed: 1 },
          );
        }),
      SLOW_MS,
    );

    test('come in pages that survive the release of what they name', () =>
      on(async ({ connect, own, disown }) => {
        const [first, second] = [connect(), connect()];
        const count = 500;
        await Promise.all(Array.from({ length: count }, (_, i) => own(`n1#a#${i}`, `client ${i}`)));
        const released = new Set<string>();
        let cursor = '';
        do {
          const page = await first.orphans(dead, cursor, 37);
          expect(page.connections.length).toBeLessThanOrEqual(37);
          for (const { clientId, token } of page.connections) {
            expect(clientId).toBe(`client ${token.slice('n1#a#'.length)}`);
            released.add(token);
            await disown(token, clientId);
          }
          cursor = page.next;
        } while (cursor !== '');
        expect(released.size).toBe(count);
        expect(await everyOrphan(second, dead, 100)).toEqual([]);
      }));
  });
}

function descriptorOf(
  id: string,
  incarnation: string,
  more: Partial<NodeDescriptor> = {},
): NodeDescriptor {
  return { id, incarnation, address: `${id}:7883`, version: '1.2.3', state: 'serving', ...more };
}

function byId<T extends NodeIdentity>(nodes: readonly T[]): readonly T[] {
  return [...nodes].sort((a, b) => (a.id + a.incarnation < b.id + b.incarnation ? -1 : 1));
}

function nodeFact(id: string, incarnation: string, filter: string, weight = 1): SharedFact {
  return { kind: 'node', node: { id, incarnation }, filter, weight };
}

function sessionFact(
  clientId: string,
  incarnation: string,
  filter: string,
  options = '0',
): SharedFact {
  return { kind: 'session', clientId, incarnation, filter, options };
}

function retainedFact(filter: string): SharedFact {
  return { kind: 'retained', filter };
}

function added(fact: SharedFact): FactChange {
  return { change: 'add', fact };
}

function removed(fact: SharedFact): FactChange {
  return { change: 'remove', fact };
}

/** Changes as a log may give them: weight and options of a fact that was removed say nothing. */
function logged(changes: readonly FactChange[]): readonly FactChange[] {
  return changes.map(({ change, fact }) =>
    change === 'add'
      ? { change, fact }
      : {
          change,
          fact: { ...fact, weight: undefined, options: undefined } as unknown as SharedFact,
        },
  );
}

function applyTo(model: Map<string, SharedFact>, { change, fact }: FactChange): void {
  const key = JSON.stringify({ ...fact, weight: undefined, options: undefined });
  if (change === 'add') model.set(key, fact);
  else model.delete(key);
}

function byText(a: SharedFact, b: SharedFact): number {
  return JSON.stringify(a) < JSON.stringify(b) ? -1 : 1;
}

/** Facts of all buckets, sorted. */
async function storedFacts(state: ClusterState): Promise<readonly SharedFact[]> {
  const reader = new FactReader(state);
  await reader.load();
  return reader.facts();
}

/** The bucket of a filter, which a change that changes nothing tells. */
async function bucketOf(state: ClusterState, filter: string): Promise<number> {
  const [bucket] = [...(await state.changeFacts([removed(retainedFact(filter))])).keys()];
  return bucket!;
}

async function readOne(
  state: ClusterState,
  bucket: number,
  position: LogPosition,
  countMax: number,
): Promise<
  { readonly changes: readonly FactChange[]; readonly position: LogPosition } | 'lost' | undefined
> {
  const read = (await state.readLog(new Map([[bucket, position]]), countMax)).get(bucket);
  return read === undefined || read === 'lost' ? read : { ...read, changes: logged(read.changes) };
}

async function everyOrphan(
  state: ClusterState,
  node: NodeIdentity,
  limit: number,
): Promise<readonly { readonly clientId: string; readonly token: string }[]> {
  const found: { readonly clientId: string; readonly token: string }[] = [];
  let cursor = '';
  do {
    const { connections, next } = await state.orphans(node, cursor, limit);
    expect(connections.length).toBeLessThanOrEqual(limit);
    found.push(...connections);
    cursor = next;
  } while (cursor !== '');
  return found.sort((a, b) => (a.clientId + a.token < b.clientId + b.token ? -1 : 1));
}
