import { expect, test } from '@jest/globals';
import { violationSummary } from '@shoalmq/testkit';
import { KNOWN_BAD } from './known-bad.ts';
import { simulate } from './simulation.ts';

test('try', async () => {
  const first = Number(process.env['SHOAL_SEED'] ?? 1);
  const count = Number(process.env['SHOAL_SEEDS'] ?? 1);
  const mode = (process.env['SHOAL_MODE'] ?? 'bounded') as 'bounded' | 'arbitrary';
  let bad = 0;
  const start = performance.now();
  for (let seed = first; seed < first + count; seed++) {
    const result = await simulate({
      seed,
      mode,
      keepTrace: count === 1,
      ...(process.env['SHOAL_FAULTS']
        ? { faults: process.env['SHOAL_FAULTS'].split(',') as never }
        : {}),
      ...(process.env['SHOAL_BAD'] ? { defect: KNOWN_BAD[process.env['SHOAL_BAD']]! } : {}),
    });
    if (count === 1) process.stdout.write(result.trace.join('\n') + '\n');
    if (result.violations.length > 0) {
      bad += 1;
      process.stdout.write(`seed ${seed}: ${violationSummary(result.violations, 2)}\n`);
    }
    if (count === 1) process.stdout.write(`${JSON.stringify({ ...result, trace: 0 })}\n`);
  }
  process.stdout.write(`${bad} bad of ${count}, ${(performance.now() - start) / count} ms each\n`);
  expect(1).toBe(1);
}, 600_000);
