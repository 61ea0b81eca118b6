import { describe, expect, test } from '@jest/globals';
import { KNOWN_BAD } from './known-bad.ts';
import { failureOf, findSeed, runSeeds } from './run-seeds.ts';
import { simulate } from './simulation.ts';
import type { SimulationMode } from './simulation.ts';

/** One seed to look at, with its whole trace: how a failure is replayed. */
const REPLAY_SEED = process.env['SHOAL_SIMULATION_SEED'];

if (REPLAY_SEED !== undefined) {
  test('replay', async () => {
    const seed = Number(REPLAY_SEED);
    const mode = (process.env['SHOAL_SIMULATION_MODE'] ?? 'bounded') as SimulationMode;
    const result = await simulate({ seed, mode, keepTrace: true });
    process.stdout.write(`${result.trace.join('\n')}\n`);
    if (result.violations.length > 0) throw new Error(failureOf(seed, mode, result));
  });
} else {
  test('a seed runs the same way each time', async () => {
    const first = await simulate({ seed: 7, mode: 'arbitrary' });
    const other = await simulate({ seed: 8, mode: 'bounded' });
    const second = await simulate({ seed: 7, mode: 'arbitrary' });
    expect(second.traceHash).toBe(first.traceHash);
    expect(second.events).toBe(first.events);
    expect(other.traceHash).not.toBe(first.traceHash);
    expect(first.records).toBeGreaterThan(100);
  });

  test('faults that end: nothing is lost, repeated or out of order, and everything arrives', async () => {
    const ran = await runSeeds({
      ...{ mode: 'bounded', from: 1, count: 200 },
      ...{ budgetMs: 6_000, countMin: 10 },
    });
    expect(ran).toBeGreaterThanOrEqual(10);
  }, 120_000);

  test('any faults: what must not happen does not', async () => {
    const ran = await runSeeds({
      ...{ mode: 'arbitrary', from: 1, count: 100 },
      ...{ budgetMs: 2_000, countMin: 5 },
    });
    expect(ran).toBeGreaterThanOrEqual(5);
  }, 120_000);

  describe('a build that is known to be bad is found out', () => {
    for (const name of ['ack before persist', 'dedupe off', 'will published twice']) {
      test(
        name,
        async () => {
          expect(await findSeed(KNOWN_BAD[name]!, { countMax: 20 })).toBeDefined();
        },
        120_000,
      );
    }
  });
}
