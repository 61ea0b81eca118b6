import { claimSession, createBareNode } from './bare-node.ts';
import { subscriptionTo, uniqueFilter } from './filters.ts';
import type { SubscriptionMemory } from './subscription-figures.ts';

const SESSIONS = 1_000;
const WILDCARD_PERCENT = 10;

/**
 * Subscribes 1,000 persistent sessions to different filters, 10 % of them with wildcards, first in the route table,
 * then in the store, in which order the steps can be told apart.
 *
 * @throws Error when this process runs without `--expose-gc`.
 */
export async function measureSubscriptionMemory(
  subscriptions: number,
): Promise<SubscriptionMemory> {
  const { node, store } = createBareNode();
  const sessions = [];
  for (let index = 0; index < SESSIONS; index += 1) {
    const session = await claimSession(store, `client-${String(index)}`);
    sessions.push({ session, target: node.targetOf(session.clientId, session.incarnation) });
  }
  const emptyBytes = usedBytes();
  let count = 0;
  while (count < subscriptions) {
    for (const { target } of sessions) {
      if (count === subscriptions) break;
      node.addSubscription(target, subscriptionTo(uniqueFilter(count, WILDCARD_PERCENT)));
      count += 1;
    }
  }
  const routedBytes = usedBytes();
  for (const { session, target } of sessions) {
    for (const filter of target.subscriptions.keys()) {
      const result = await store.changeSubscriptions(
        session,
        session.token,
        [subscriptionTo(filter)],
        [],
      );
      if (result !== 'ok') throw new Error(`the store says ${result}`);
    }
  }
  const storedBytes = usedBytes();
  // Used to the end, so that nothing above is garbage when it is measured.
  if (node.table.size !== subscriptions) throw new Error('not all subscriptions are there');
  return {
    subscriptions,
    routeBytes: (routedBytes - emptyBytes) / subscriptions,
    storeBytes: (storedBytes - routedBytes) / subscriptions,
  };
}

function usedBytes(): number {
  const collect = globalThis.gc;
  if (collect === undefined) throw new Error('this needs node --expose-gc');
  // Once is not enough: weak references and array buffers go a collection later.
  for (let round = 0; round < 3; round += 1) collect();
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}
