import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';

import type { RetainedCase } from '../cases.ts';
import { nowUs } from '../clock.ts';
import { EMPTY_MEASUREMENT } from '../measurement.ts';
import type { Measurement, Plan } from '../measurement.ts';
import { readAllResidentBytes } from '../process-usage.ts';
import { RawClient } from '../raw-client.ts';
import type { PacketSink } from '../raw-client.ts';
import type { ProbeReport, ProbeRequest } from './probe-worker.ts';
import { encodePublish } from '../wire.ts';
import { perMessage, startUsageWindow } from './usage-window.ts';

const STORE_WINDOW = 500;
const STORE_MS_MAX = 120_000;
const DELIVER_MS_MAX = 60_000;
const PROBE_LEAD_MS = 500;

/** Stores retained messages, subscribes to `#`, and has a probe feel how long others wait. */
export async function runRetainedLoad(retained: RetainedCase, plan: Plan): Promise<Measurement> {
  const baseBytes = readAllResidentBytes(plan.nodes);
  await storeRetained(retained, plan);
  await delay(PROBE_LEAD_MS);
  const storedBytes = readAllResidentBytes(plan.nodes);
  const probe = await startProbe({ port: plan.nodes[0].port, level: plan.level });
  let subscriber: RawClient | undefined;
  try {
    await delay(PROBE_LEAD_MS);
    const counter = new RetainedCounter(retained.messages);
    subscriber = await RawClient.connect({
      port: plan.nodes[0].port,
      clientId: 'late',
      level: plan.level,
      keepAliveSeconds: 600,
      sink: counter,
    });
    const usage = startUsageWindow(plan);
    const startUs = nowUs();
    // The SUBACK may come after retained messages; completion is judged by the messages alone.
    const subscribed = subscriber.subscribe(['#'], 0);
    await Promise.race([Promise.all([subscribed, counter.complete]), delay(DELIVER_MS_MAX)]);
    const used = usage();
    const tookUs = nowUs() - startUs;
    await delay(PROBE_LEAD_MS);
    const felt = await probe.stop();
    return {
      ...EMPTY_MEASUREMENT,
      ...perMessage(used, counter.received),
      residentBytes: readAllResidentBytes(plan.nodes),
      lost: retained.messages - counter.received,
      figures: {
        deliverAllMs: tookUs / 1000,
        pingMaxMs: felt.pingMaxUs / 1000,
        echoMaxMs: felt.echoMaxUs / 1000,
        retainedRssBytes: (storedBytes - baseBytes) / retained.messages,
      },
    };
  } finally {
    subscriber?.end();
    await probe.stop();
  }
}

async function storeRetained(retained: RetainedCase, plan: Plan): Promise<void> {
  let acknowledged = 0;
  let wake: () => void = () => undefined;
  const sink: PacketSink = {
    packet: () => {
      acknowledged += 1;
    },
    readEnd: () => {
      wake();
    },
  };
  const client = await RawClient.connect({
    port: plan.nodes[0].port,
    clientId: 'keeper',
    level: plan.level,
    keepAliveSeconds: 600,
    sink,
  });
  const deadlineUs = nowUs() + STORE_MS_MAX * 1000;
  for (let sent = 0; acknowledged < retained.messages;) {
    if (nowUs() > deadlineUs) throw new Error('retained messages were not acknowledged in time');
    const until = Math.min(
      retained.messages,
      acknowledged + Math.min(STORE_WINDOW, client.receiveMaximum),
    );
    const packets: Buffer[] = [];
    for (; sent < until; sent += 1) {
      const { bytes, packetIdOffset } = encodePublish({
        topic: `retained/${String(sent % 1000)}/${String(sent)}`,
        payloadBytes: plan.payloadBytes,
        qos: 1,
        level: plan.level,
        retain: true,
      });
      bytes.writeUInt16BE((sent % 60_000) + 1, packetIdOffset);
      packets.push(bytes);
    }
    const woken = new Promise<void>((resolve) => {
      wake = resolve;
    });
    if (packets.length > 0) client.write(Buffer.concat(packets));
    await Promise.race([woken, delay(1_000)]);
  }
  client.end();
}

class RetainedCounter implements PacketSink {
  received = 0;
  readonly complete: Promise<void>;
  readonly #wanted: number;
  #done: () => void = () => undefined;

  constructor(wanted: number) {
    this.#wanted = wanted;
    this.complete = new Promise((resolve) => {
      this.#done = resolve;
    });
  }

  packet(_view: DataView, firstByte: number): void {
    // The echoes of the probe match `#` too, but they are not retained.
    if ((firstByte & 0xf1) === 0x31) this.received += 1;
  }

  readEnd(): void {
    if (this.received >= this.#wanted) this.#done();
  }
}

async function startProbe(
  request: ProbeRequest,
): Promise<{ readonly stop: () => Promise<ProbeReport> }> {
  const worker = new Worker(new URL('./probe-worker.js', import.meta.url), { workerData: request });
  await nextMessage(worker);
  let report: Promise<ProbeReport> | undefined;
  return {
    stop: () => {
      if (report === undefined) {
        report = nextMessage(worker) as Promise<ProbeReport>;
        worker.postMessage('stop');
      }
      return report;
    },
  };
}

function nextMessage(worker: Worker): Promise<unknown> {
  return new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
    worker.once('exit', () => {
      reject(new Error('the probe ended early'));
    });
  });
}
