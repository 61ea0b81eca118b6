import { CASES, isLoadCase } from './cases.ts';
import { pinProcess } from './core-pinning.ts';
import { errorMessage } from './error-message.ts';
import { runConnectsLoad } from './load/connects-load.ts';
import { runFailoverLoad } from './load/failover-load.ts';
import { runFillLoad } from './load/fill-load.ts';
import { runFlowLoad } from './load/flow-load.ts';
import { runIdleLoad } from './load/idle-load.ts';
import { runOfflineLoad } from './load/offline-load.ts';
import { runRetainedLoad } from './load/retained-load.ts';
import type { Measurement, Plan } from './measurement.ts';

/** What the generator process sends to its parent, once. */
export type GeneratorReply = { readonly measurement: Measurement } | { readonly failure: string };

// Started by `runGenerator` with an IPC channel: one plan in, one reply out, then the end.
process.on('disconnect', () => {
  process.exit(1);
});
process.once('message', (plan) => {
  void run(plan as Plan)
    .then((measurement): GeneratorReply => ({ measurement }))
    .catch((error: unknown): GeneratorReply => ({ failure: errorMessage(error) }))
    .then((reply) => {
      process.send?.(reply, () => {
        process.exit(0);
      });
    });
});

async function run(plan: Plan): Promise<Measurement> {
  if (plan.pin) await pinProcess(process.pid, 'generator');
  const found = CASES.filter(isLoadCase).find((each) => each.name === plan.caseName);
  if (found === undefined) throw new Error(`unknown case ${plan.caseName}`);
  switch (found.kind) {
    case 'flow':
      return runFlowLoad(found, plan);
    case 'idle':
      return runIdleLoad(found, plan);
    case 'offline':
      return runOfflineLoad(found, plan);
    case 'connects':
      return runConnectsLoad(found, plan);
    case 'failover':
      return runFailoverLoad(found, plan);
    case 'join':
      return runFillLoad(found, plan);
    case 'retained':
      return runRetainedLoad(found, plan);
  }
}
