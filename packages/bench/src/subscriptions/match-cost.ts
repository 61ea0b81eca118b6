import type { Node } from '@shoalmq/core';

import { nowUs } from '../clock.ts';
import { ROTATING_FILTERS, rotatingTopics } from '../load/filters.ts';
import { median } from '../statistics.ts';
import { claimSession, createBareNode } from './bare-node.ts';
import { subscriptionTo, uniqueFilter } from './filters.ts';
import type { MatchCost } from './subscription-figures.ts';

const ROUNDS = 15;
const ROUND_MATCHES = 20_000;

/**
 * Matches topics, to each of which ten filters apply, among more and more filters that do not. The route table is
 * asked itself: the cache of matches that each topic has would hide the cost.
 */
export async function measureMatchCosts(
  wildcardPercent: number,
  otherFilterCounts: readonly number[],
): Promise<MatchCost[]> {
  const { node, store } = createBareNode();
  const session = await claimSession(store, 'client');
  const target = node.targetOf(session.clientId, session.incarnation);
  for (const filter of ROTATING_FILTERS) node.addSubscription(target, subscriptionTo(filter));
  const costs: MatchCost[] = [];
  let count = 0;
  for (const otherFilters of otherFilterCounts) {
    for (; count < otherFilters; count += 1) {
      node.addSubscription(target, subscriptionTo(uniqueFilter(count, wildcardPercent)));
    }
    costs.push({ otherFilters, wildcardPercent, matchUs: matchUs(node) });
  }
  return costs;
}

/** Microseconds per match: the median of several rounds, because others use the machine too. */
function matchUs(node: Node): number {
  const topics = rotatingTopics();
  let matched = 0;
  const visitor = {
    route: () => {
      matched += 1;
    },
    group: () => undefined,
  };
  const roundsUs: number[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    matched = 0;
    const startUs = nowUs();
    for (let index = 0; index < ROUND_MATCHES; index += 1) {
      node.table.match(topics[index % topics.length]!, visitor);
    }
    roundsUs.push((nowUs() - startUs) / ROUND_MATCHES);
    if (matched !== ROUND_MATCHES * ROTATING_FILTERS.length) {
      throw new Error(`${String(matched)} filters matched`);
    }
  }
  return median(roundsUs);
}
