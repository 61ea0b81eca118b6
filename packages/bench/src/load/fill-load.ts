import type { JoinCase } from '../cases.ts';
import { nowUs } from '../clock.ts';
import { EMPTY_MEASUREMENT } from '../measurement.ts';
import type { Measurement, Plan } from '../measurement.ts';
import { ignorePackets, RawClient } from '../raw-client.ts';
import { uniqueFilter } from '../subscriptions/filters.ts';
import { connectAll } from './connect-all.ts';

/** What a broker grants one session. */
const FILTERS_PER_SESSION = 10_000;
const FILTERS_PER_SUBSCRIBE = 1_000;
const WILDCARD_PERCENT = 10;

/** Fills the routes with subscriptions of persistent sessions, which stay when this process has ended. */
export async function runFillLoad({ routes }: JoinCase, plan: Plan): Promise<Measurement> {
  const startUs = nowUs();
  const sessions = Math.ceil(routes / FILTERS_PER_SESSION);
  await connectAll(sessions, 8, async (session) => {
    const client = await RawClient.connect({
      port: plan.nodes[0].port,
      clientId: `r${String(session)}`,
      level: plan.level,
      keepAliveSeconds: 600,
      persistent: true,
      sink: ignorePackets,
    });
    const end = Math.min(routes, (session + 1) * FILTERS_PER_SESSION);
    for (let from = session * FILTERS_PER_SESSION; from < end; from += FILTERS_PER_SUBSCRIBE) {
      const count = Math.min(FILTERS_PER_SUBSCRIBE, end - from);
      const filters = Array.from({ length: count }, (_, index) =>
        uniqueFilter(from + index, WILDCARD_PERCENT),
      );
      await client.subscribe(filters, 1);
    }
    client.end();
  });
  return {
    ...EMPTY_MEASUREMENT,
    figures: { routesPerSecond: (routes / (nowUs() - startUs)) * 1e6 },
  };
}
