import { setTimeout as delay } from 'node:timers/promises';

import type { IdleCase } from '../cases.ts';
import { nowUs } from '../clock.ts';
import { EMPTY_MEASUREMENT } from '../measurement.ts';
import type { Measurement, Plan } from '../measurement.ts';
import { readAllResidentBytes } from '../process-usage.ts';
import { ignorePackets, RawClient } from '../raw-client.ts';
import { connectAll } from './connect-all.ts';
import { perMessage, startUsageWindow } from './usage-window.ts';

const SETTLE_MS = 2_000;

/**
 * Opens idle connections and measures what they add to the broker's memory, and its CPU at rest.
 *
 * The baseline is taken after a first hundred connections have come and gone, so that the code and
 * the pools that the first clients bring in are not charged to the others.
 */
export async function runIdleLoad(idle: IdleCase, plan: Plan): Promise<Measurement> {
  const clients: RawClient[] = [];
  const open = async (index: number): Promise<void> => {
    clients.push(
      await RawClient.connect({
        port: plan.nodes[0].port,
        clientId: `i${String(index)}`,
        level: plan.level,
        keepAliveSeconds: 600,
        sink: ignorePackets,
      }),
    );
  };
  try {
    await connectAll(100, 50, open);
    for (const client of clients.splice(0)) client.end();
    await delay(SETTLE_MS);
    const baseBytes = readAllResidentBytes(plan.nodes);
    const startUs = nowUs();
    const connecting = startUsageWindow(plan);
    await connectAll(idle.connections, 50, open);
    const connected = connecting();
    const connectSeconds = (nowUs() - startUs) / 1e6;
    await delay(SETTLE_MS);
    const residentBytes = readAllResidentBytes(plan.nodes);
    const resting = startUsageWindow(plan);
    await delay(plan.measureMs);
    const { brokerCpuPercent, otherCpuPercent } = perMessage(resting(), 1);
    return {
      ...EMPTY_MEASUREMENT,
      brokerCpuPercent,
      otherCpuPercent,
      residentBytes,
      figures: {
        connectionRssBytes: (residentBytes - baseBytes) / idle.connections,
        connectsPerSecond: idle.connections / connectSeconds,
        connectCpuUs: (connected.brokerUserUs + connected.brokerSystemUs) / idle.connections,
      },
    };
  } finally {
    for (const client of clients) client.end();
  }
}
