import { setTimeout as delay } from 'node:timers/promises';

import type { ConnectsCase } from '../cases.ts';
import { EMPTY_MEASUREMENT } from '../measurement.ts';
import type { Measurement, Plan } from '../measurement.ts';
import { readAllResidentBytes } from '../process-usage.ts';
import { ignorePackets, RawClient } from '../raw-client.ts';
import { connectAll } from './connect-all.ts';
import { perMessage, startUsageWindow } from './usage-window.ts';

const CONCURRENCY = 50;
const SETTLE_MS = 2_000;
const WARM_UP_SESSIONS = 1_000;

/** Connects persistent sessions with a subscription each: first when there are none, then to go on with them. */
export async function runConnectsLoad(connects: ConnectsCase, plan: Plan): Promise<Measurement> {
  const warmUp = await connectTwice(plan, 'w', WARM_UP_SESSIONS);
  for (const client of warmUp.clients) client.end();
  await delay(SETTLE_MS);
  const { clients, fresh, resumed } = await connectTwice(plan, 'c', connects.sessions);
  const residentBytes = readAllResidentBytes(plan.nodes);
  for (const client of clients) client.end();
  return {
    ...EMPTY_MEASUREMENT,
    otherCpuPercent: resumed.otherCpuPercent,
    residentBytes,
    figures: {
      newPerSecond: fresh.deliveredPerSecond,
      newCpuUs: fresh.brokerCpuUs,
      newRedisUs: fresh.redisCpuUs,
      resumedPerSecond: resumed.deliveredPerSecond,
      resumeCpuUs: resumed.brokerCpuUs,
      resumeRedisUs: resumed.redisCpuUs,
    },
  };
}

async function connectTwice(plan: Plan, prefix: string, sessions: number) {
  const open = (index: number): Promise<RawClient> =>
    RawClient.connect({
      port: plan.nodes[0].port,
      clientId: `${prefix}${String(index)}`,
      level: plan.level,
      keepAliveSeconds: 600,
      persistent: true,
      sink: ignorePackets,
    });
  const connecting = startUsageWindow(plan);
  const first = await connectAll(sessions, CONCURRENCY, async (index) => {
    const client = await open(index);
    await client.subscribe([`bench/session/${prefix}${String(index)}`], 1);
    return client;
  });
  const fresh = perMessage(connecting(), sessions);
  for (const client of first) client.end();
  await delay(SETTLE_MS);
  const resuming = startUsageWindow(plan);
  const clients = await connectAll(sessions, CONCURRENCY, open);
  return { clients, fresh, resumed: perMessage(resuming(), sessions) };
}
