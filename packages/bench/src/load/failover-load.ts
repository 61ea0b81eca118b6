import { setTimeout as delay } from 'node:timers/promises';

import type { FailoverCase } from '../cases.ts';
import { nowUs } from '../clock.ts';
import { LatencyHistogram } from '../latency-histogram.ts';
import { EMPTY_MEASUREMENT } from '../measurement.ts';
import type { Measurement, Plan } from '../measurement.ts';
import { readAllResidentBytes } from '../process-usage.ts';
import { ignorePackets, RawClient } from '../raw-client.ts';
import { encodePublish } from '../wire.ts';
import { connectAll } from './connect-all.ts';
import { readMetric } from './node-metrics.ts';
import { countLoggedRoutes } from './route-log.ts';
import { perMessage, startUsageWindow } from './usage-window.ts';

const CONCURRENCY = 200;
/** Until the lease of the dead node has ended and it is buried, and some. */
const BURIAL_MS = 10_000;
const DELIVER_MS_MAX = 30_000;
const PUBLISH_WINDOW = 500;

/**
 * Kills the second node, whose clients all have persistent sessions, and connects them to the first one at once.
 *
 * Until the dead node is buried route changes are counted. Then each client is sent a message, so that it is seen that
 * it came back with its subscription.
 */
export async function runFailoverLoad(failover: FailoverCase, plan: Plan): Promise<Measurement> {
  const { redis } = plan;
  const [survivor, victim] = plan.nodes;
  if (victim === undefined || redis === undefined) throw new Error('this needs two nodes');
  let received = 0;
  const sink = {
    packet: (_view: DataView, firstByte: number) => {
      if (firstByte >>> 4 === 3) received += 1;
    },
    readEnd: () => undefined,
  };
  const open = (port: number, index: number): Promise<RawClient> =>
    RawClient.connect({
      port,
      clientId: `f${String(index)}`,
      level: plan.level,
      keepAliveSeconds: 600,
      persistent: true,
      sink,
    });
  const clients = await connectAll(failover.clients, 50, async (index) => {
    const client = await open(victim.port, index);
    await client.subscribe([topicOf(index)], 1);
    return client;
  });
  await delay(plan.warmUpMs);
  const routeChanges = async () => ({
    counted: await readMetric(survivor.httpPort, 'shoal_route_changes_total'),
    logged: await countLoggedRoutes(redis),
  });
  const before = await routeChanges();
  // The survivor has applied the subscriptions of all clients, or these counters do not count.
  if (!(Math.min(before.counted, before.logged) >= failover.clients)) {
    throw new Error('changes of routes are not counted');
  }
  const outages = new LatencyHistogram();
  const survivors = { nodes: [survivor] as const, redis };
  const usage = startUsageWindow(survivors);
  process.kill(victim.pid, 'SIGKILL');
  for (const client of clients) client.end();
  let back: readonly RawClient[] = [];
  try {
    back = await connectAll(failover.clients, CONCURRENCY, async (index) => {
      const startUs = nowUs();
      const client = await open(survivor.port, index);
      outages.add(LatencyHistogram.bucket(nowUs() - startUs), 1);
      return client;
    });
    const reconnected = usage();
    const burying = startUsageWindow(survivors);
    await delay(BURIAL_MS);
    const buried = perMessage(burying(), failover.clients);
    const after = await routeChanges();
    const residentBytes = readAllResidentBytes([survivor]);
    await publishToAll(failover.clients, plan, () => received);
    const { deliveredPerSecond, brokerCpuUs, redisCpuUs, otherCpuPercent } = perMessage(
      reconnected,
      failover.clients,
    );
    return {
      ...EMPTY_MEASUREMENT,
      latencyP50Us: outages.quantileUs(0.5),
      latencyP99Us: outages.quantileUs(0.99),
      residentBytes,
      otherCpuPercent,
      lost: failover.clients - received,
      figures: {
        reconnectsPerSecond: deliveredPerSecond,
        reconnectAllMs: reconnected.elapsedUs / 1000,
        reconnectCpuUs: brokerCpuUs,
        reconnectRedisUs: redisCpuUs,
        burialCpuUs: buried.brokerCpuUs,
        burialRedisUs: buried.redisCpuUs,
        routeChanges: after.counted - before.counted,
        routesLogged: after.logged - before.logged,
      },
    };
  } finally {
    for (const client of back) client.end();
  }
}

/** One message to each client; resolves when all have come or enough time has passed. */
async function publishToAll(count: number, plan: Plan, received: () => number): Promise<void> {
  const publisher = await RawClient.connect({
    port: plan.nodes[0].port,
    clientId: 'publisher',
    level: plan.level,
    keepAliveSeconds: 600,
    sink: ignorePackets,
  });
  const deadlineUs = nowUs() + DELIVER_MS_MAX * 1000;
  for (let sent = 0; received() < count && nowUs() < deadlineUs;) {
    const packets: Buffer[] = [];
    for (; sent < Math.min(count, received() + PUBLISH_WINDOW); sent += 1) {
      const { bytes, packetIdOffset } = encodePublish({
        topic: topicOf(sent),
        payloadBytes: plan.payloadBytes,
        qos: 1,
        level: plan.level,
      });
      bytes.writeUInt16BE((sent % 60_000) + 1, packetIdOffset);
      packets.push(bytes);
    }
    if (packets.length > 0) publisher.write(Buffer.concat(packets));
    await delay(5);
  }
  publisher.end();
}

function topicOf(index: number): string {
  return `bench/client/${String(index)}`;
}
