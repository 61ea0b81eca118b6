import { measureMatchCosts } from './match-cost.ts';
import type { SubscriptionFigures } from './subscription-figures.ts';
import { measureSubscriptionMemory } from './subscription-memory.ts';

// node --expose-gc measure.js SUBSCRIPTIONS [OTHER_FILTERS ...]: prints `SubscriptionFigures` as JSON.
const [subscriptions = 0, ...otherFilterCounts] = process.argv.slice(2).map(Number);
const figures: SubscriptionFigures = {
  memory: await measureSubscriptionMemory(subscriptions),
  matching: [
    ...(await measureMatchCosts(0, otherFilterCounts)),
    ...(await measureMatchCosts(10, otherFilterCounts)),
  ],
};
process.stdout.write(`${JSON.stringify(figures)}\n`);
