import { violationSummary } from '@shoalmq/testkit';
import { simulate } from './simulation.ts';
import type { Fault, SimulationMode, SimulationResult } from './simulation.ts';
import type { Defect } from './simulated-node.ts';

export interface SeedsOptions {
  readonly mode: SimulationMode;
  readonly from: number;
  readonly count: number;
  /** Milliseconds of real time after which no further seed begins; those that were asked for at least run all the same. */
  readonly budgetMs?: number;
  readonly countMin?: number;
}

/** Runs seeds one after the other. Returns how many. */
export async function runSeeds(options: SeedsOptions): Promise<number> {
  const { mode, from, count, budgetMs = Infinity, countMin = 1 } = options;
  const sinceMs = performance.now();
  let ran = 0;
  while (ran < count && (ran < countMin || performance.now() - sinceMs < budgetMs)) {
    const seed = from + ran;
    const result = await simulate({ seed, mode });
    if (result.violations.length > 0) throw new Error(failureOf(seed, mode, result));
    ran += 1;
  }
  return ran;
}

/** Looks for a seed in which the defect shows. `undefined`: there is none among `countMax`. */
export async function findSeed(
  defect: () => Defect,
  options: {
    readonly faults?: readonly Fault[];
    readonly from?: number;
    readonly countMax: number;
  },
): Promise<{ readonly seed: number; readonly result: SimulationResult } | undefined> {
  const { faults, from = 1, countMax } = options;
  for (let seed = from; seed < from + countMax; seed++) {
    const result = await simulate({
      seed,
      mode: 'bounded',
      defect,
      ...(faults === undefined ? {} : { faults }),
    });
    if (result.violations.length === 0) continue;
    // Only a seed that the right build passes tells the two apart.
    const right = await simulate({
      seed,
      mode: 'bounded',
      ...(faults === undefined ? {} : { faults }),
    });
    if (right.violations.length === 0) return { seed, result };
  }
  return undefined;
}

/** What is wrong, and how to see it again. */
export function failureOf(seed: number, mode: SimulationMode, result: SimulationResult): string {
  return [
    `seed ${String(seed)}, ${mode} faults:`,
    violationSummary(result.violations),
    'Its trace:',
    `SHOAL_SIMULATION_SEED=${String(seed)} SHOAL_SIMULATION_MODE=${mode} NODE_OPTIONS=--experimental-vm-modules npx jest test/simulation/simulation.test.ts --selectProjects=integration`,
  ].join('\n');
}
