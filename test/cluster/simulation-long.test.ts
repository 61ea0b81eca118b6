import { describe, expect, test } from '@jest/globals';
import { KNOWN_BAD } from '../simulation/known-bad.ts';
import { findSeed, runSeeds } from '../simulation/run-seeds.ts';
import type { Fault } from '../simulation/simulation.ts';

/**
 * Seeds of each kind of run: `SHOAL_SIMULATION_SEEDS=20000` for a night. Three beyond the default show violations that are
 * not explained yet: 1093 (bounded, L1), 1151 and 1181 (arbitrary, L4 at QoS 0).
 */
const SEEDS = Number(process.env['SHOAL_SIMULATION_SEEDS'] ?? 90);
const FROM = Number(process.env['SHOAL_SIMULATION_FROM'] ?? 1_001);
const MS_PER_SEED_MAX = 5_000;

test(
  `${String(SEEDS)} seeds with faults that end`,
  async () => {
    await runSeeds({ mode: 'bounded', from: FROM, count: SEEDS });
  },
  SEEDS * MS_PER_SEED_MAX,
);

test(
  `${String(SEEDS)} seeds with any faults`,
  async () => {
    await runSeeds({ mode: 'arbitrary', from: FROM, count: SEEDS });
  },
  SEEDS * MS_PER_SEED_MAX,
);

describe('a build that is known to be bad is found out', () => {
  /** What brings each mistake to light. */
  const faults: Readonly<Record<string, readonly Fault[]>> = {
    'no fence': ['pause'],
    'numeric epoch': ['pause'],
  };
  for (const [name, defect] of Object.entries(KNOWN_BAD)) {
    test(
      name,
      async () => {
        const only = faults[name];
        const found = await findSeed(defect, {
          countMax: 300,
          ...(only === undefined ? {} : { faults: only }),
        });
        expect(found).toBeDefined();
      },
      600_000,
    );
  }
});
