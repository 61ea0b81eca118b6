import { setTimeout as delay } from 'node:timers/promises';

import type { OfflineCase } from '../cases.ts';
import { nowUs } from '../clock.ts';
import type { Measurement, Plan } from '../measurement.ts';
import { readAllResidentBytes } from '../process-usage.ts';
import { RawClient } from '../raw-client.ts';
import { sum } from '../statistics.ts';
import { connectAll } from './connect-all.ts';
import { DeliveryMeter } from './delivery-meter.ts';
import { Publisher } from './publisher.ts';
import { Subscriber } from './subscriber.ts';
import { perMessage, startUsageWindow } from './usage-window.ts';
import { sendWindowed } from './windowed-sender.ts';

const QOS = 1;
const KEEP_ALIVE_SECONDS = 600;
const POLL_MS = 10;
const STALL_US = 5e6;

/**
 * Publishes to persistent sessions that are away, and has them come back.
 *
 * What counts as delivered is what was acknowledged to the publishers, and thus is kept. The return, with all that
 * was sent from the first message on, gives the figures of its own, the losses and the order.
 */
export async function runOfflineLoad(offline: OfflineCase, plan: Plan): Promise<Measurement> {
  const meter = new DeliveryMeter();
  const clients: RawClient[] = [];
  let failed: (error: Error) => void = () => undefined;
  const failure = new Promise<never>((_resolve, reject) => {
    failed = reject;
  });
  failure.catch(() => undefined);
  const everyone = Array.from({ length: offline.sessions }, (_, index) => index);
  const subscribers = everyone.map((index) => new Subscriber(meter, [index]));
  const publishers = everyone.map(
    (index) =>
      new Publisher({
        index,
        topics: [topicOf(index)],
        payloadBytes: plan.payloadBytes,
        qos: QOS,
        level: plan.level,
        window: plan.window,
        watchers: [],
      }),
  );
  const open = async (clientId: string, sink: Publisher | Subscriber): Promise<RawClient> => {
    const client = await RawClient.connect({
      port: plan.nodes[0].port,
      clientId,
      level: plan.level,
      keepAliveSeconds: KEEP_ALIVE_SECONDS,
      persistent: sink instanceof Subscriber,
      sink,
      attach: (attached) => {
        sink.client = attached;
      },
    });
    client.onLost = failed;
    clients.push(client);
    return client;
  };
  const come = (): Promise<RawClient[]> =>
    connectAll(offline.sessions, 20, (index) => open(`s${String(index)}`, subscribers[index]!));

  try {
    for (const [index, client] of (await come()).entries()) {
      await client.subscribe([topicOf(index)], QOS);
      client.end();
    }
    await connectAll(offline.sessions, 20, (index) =>
      open(`p${String(index)}`, publishers[index]!),
    );
    const acknowledged = (): number => sum(publishers.map((each) => each.acknowledged));
    const sender = sendWindowed(publishers, []);
    await Promise.race([delay(plan.warmUpMs), failure]);
    const before = acknowledged();
    const appending = startUsageWindow(plan);
    await Promise.race([delay(plan.measureMs), failure]);
    const used = appending();
    const appended = acknowledged() - before;
    sender.stop();
    await settled(() => publishers.every((each) => each.unsettled === 0), acknowledged);
    const residentBytes = readAllResidentBytes(plan.nodes);
    if (appended === 0) throw new Error('nothing was acknowledged in the measured phase');
    const refused = sum(publishers.map((each) => each.refused));
    if (refused > 0) throw new Error(`the broker refused ${String(refused)} messages`);

    const sent = sum(publishers.map((each) => each.sent));
    const returning = startUsageWindow(plan);
    await come();
    await settled(
      () => meter.delivered === sent,
      () => meter.delivered,
    );
    const returned = perMessage(returning(), meter.delivered);
    const checkers = everyone.map((index) => subscribers[index]!.checker(index));
    return {
      ...perMessage(used, appended),
      latencyP50Us: Number.NaN,
      latencyP99Us: Number.NaN,
      residentBytes,
      lost: sent - sum(checkers.map((each) => each.unique)),
      duplicates: sum(checkers.map((each) => each.duplicates)),
      outOfOrder: sum(checkers.map((each) => each.outOfOrder)),
      figures: {
        resumedPerSecond: returned.deliveredPerSecond,
        resumeCpuUs: returned.brokerCpuUs,
        resumeRedisUs: returned.redisCpuUs,
      },
    };
  } finally {
    for (const client of clients) client.end();
  }
}

function topicOf(index: number): string {
  return `bench/pair/${String(index)}`;
}

/** Resolves when it is done, or when there has been no progress for five seconds. */
async function settled(done: () => boolean, progress: () => number): Promise<void> {
  let seen = progress();
  let sinceUs = nowUs();
  while (!done() && nowUs() - sinceUs < STALL_US) {
    await delay(POLL_MS);
    if (progress() === seen) continue;
    seen = progress();
    sinceUs = nowUs();
  }
}
