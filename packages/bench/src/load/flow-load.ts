import { setTimeout as delay } from 'node:timers/promises';

import type { FlowCase } from '../cases.ts';
import { nowUs } from '../clock.ts';
import type { Measurement, Plan } from '../measurement.ts';
import { readAllResidentBytes } from '../process-usage.ts';
import { ignorePackets, RawClient } from '../raw-client.ts';
import type { PacketSink } from '../raw-client.ts';
import { sum } from '../statistics.ts';
import { connectAll } from './connect-all.ts';
import { DeliveryMeter } from './delivery-meter.ts';
import { otherFilters, ROTATING_FILTERS, rotatingTopics } from './filters.ts';
import { startLinkWindow } from './link-bytes.ts';
import { readMetric } from './node-metrics.ts';
import { nodeOfPublisher, nodeOfSubscriber } from './placement.ts';
import { Publisher } from './publisher.ts';
import { Subscriber } from './subscriber.ts';
import { perMessage, startUsageWindow } from './usage-window.ts';
import { sendWindowed } from './windowed-sender.ts';

const STALL_MS = 2_000;
const DRAIN_MS_MAX = 60_000;
const POLL_MS = 50;
const FILTERS_PER_HOLDER = 1_000;
const FILTERS_PER_SUBSCRIBE = 100;

/** Runs publishers against subscribers, all in this process, and measures the steady phase. */
export async function runFlowLoad(flow: FlowCase, plan: Plan): Promise<Measurement> {
  const load = new FlowLoad(flow, plan);
  await load.connect();
  const sender = flow.ratePerSecond === undefined ? load.sendWindowed() : load.sendAtRate();
  const watch = load.watchForStalls();
  try {
    await load.alive(delay(plan.warmUpMs));
    const links = await startLinkWindow(plan.nodes);
    const forwardsBefore = await load.forwardsReceived();
    const deliveredBefore = load.meter.delivered;
    const usage = startUsageWindow(plan);
    load.meter.recording = true;
    await load.alive(delay(plan.measureMs));
    const used = usage();
    load.meter.recording = false;
    const delivered = load.meter.delivered - deliveredBefore;
    const linkBytes = await links();
    const forwards = (await load.forwardsReceived()).map(
      (count, node) => count - (forwardsBefore[node] ?? 0),
    );
    const residentBytes = readAllResidentBytes(plan.nodes);
    sender.stop();
    await load.alive(load.drained());
    if (delivered === 0) throw new Error('nothing was delivered in the measured phase');
    if (forwards[1] !== undefined && !(forwards[1] >= delivered)) {
      throw new Error('messages between nodes are not counted');
    }
    if (load.meter.strays > 0) throw new Error('messages came to the wrong subscriber');
    return {
      ...perMessage(used, delivered),
      latencyP50Us: load.meter.latencies.quantileUs(0.5),
      latencyP99Us: load.meter.latencies.quantileUs(0.99),
      residentBytes,
      ...load.losses(),
      figures: {
        ...(watch.stalls() > 0 ? { stalls: watch.stalls() } : {}),
        ...(linkBytes.length > 0 ? { linkBytes: sum(linkBytes) / delivered } : {}),
        ...(flow.bystander === true
          ? {
              bystanderBytes: (linkBytes.at(-1) ?? Number.NaN) / delivered,
              bystanderMessages: forwards.at(-1) ?? Number.NaN,
              subscriberMessages: forwards[1] ?? Number.NaN,
            }
          : {}),
      },
    };
  } finally {
    sender.stop();
    watch.stop();
    load.end();
  }
}

class FlowLoad {
  readonly meter = new DeliveryMeter();
  readonly #flow: FlowCase;
  readonly #plan: Plan;
  readonly #publishers: Publisher[] = [];
  readonly #subscribers: Subscriber[] = [];
  readonly #clients: RawClient[] = [];
  #onFailure: (error: Error) => void = () => undefined;
  readonly #failed: Promise<never>;

  constructor(flow: FlowCase, plan: Plan) {
    this.#flow = flow;
    this.#plan = plan;
    this.#failed = new Promise((_resolve, reject) => {
      this.#onFailure = reject;
    });
    this.#failed.catch(() => undefined);
    const everyone = Array.from({ length: flow.publishers }, (_, index) => index);
    for (let index = 0; index < flow.subscribers; index += 1) {
      const publishers = flow.shape === 'pair' ? [index] : everyone;
      this.#subscribers.push(new Subscriber(this.meter, publishers));
    }
    const window = flow.window ?? plan.window;
    for (const index of everyone) {
      const subscribers =
        flow.shape === 'pair' ? this.#subscribers.slice(index, index + 1) : this.#subscribers;
      this.#publishers.push(
        new Publisher({
          index,
          topics: flow.otherFilters === undefined ? [this.#topic(index)] : rotatingTopics(),
          payloadBytes: plan.payloadBytes,
          qos: flow.qos,
          level: plan.level,
          window,
          watchers: subscribers.map((subscriber) => subscriber.checker(index)),
        }),
      );
    }
  }

  /** Connects all clients; when it returns, all subscriptions hold. */
  async connect(): Promise<void> {
    const { otherFilters: others } = this.#flow;
    if (others !== undefined) await this.#holdFilters(otherFilters(others));
    if (this.#flow.bystander === true) {
      const last = this.#plan.nodes.length - 1;
      const client = await this.#open('bystander', ignorePackets, last);
      await client.subscribe(['bench/other/#', 'bench/pair/other', 'bench/+/+/other'], 1);
    }
    await connectAll(this.#subscribers.length, 20, async (index) => {
      const subscriber = this.#subscribers[index];
      if (subscriber === undefined) return;
      const node = nodeOfSubscriber(this.#flow.placement, index, this.#plan.nodes.length);
      const { persistent } = this.#flow;
      subscriber.client = await this.#open(`s${String(index)}`, subscriber, node, persistent);
      const filter =
        others === undefined ? this.#topic(index) : (ROTATING_FILTERS[index] ?? this.#topic(index));
      await subscriber.client.subscribe([filter], this.#flow.qos);
    });
    await connectAll(this.#publishers.length, 20, async (index) => {
      const publisher = this.#publishers[index];
      if (publisher === undefined) return;
      const node = nodeOfPublisher(this.#flow.placement, index, this.#plan.nodes.length);
      publisher.client = await this.#open(`p${String(index)}`, publisher, node);
    });
  }

  sendWindowed(): { stop: () => void } {
    return sendWindowed(this.#publishers, this.#subscribers);
  }

  /**
   * Sends one message after the other, each at its own time, the publishers in turn.
   *
   * Timers of 1 ms would send ten at once and let the broker gather them, which is what this case is
   * to exclude; so the event loop spins, and the generator's own CPU figure says nothing here.
   */
  sendAtRate(): { stop: () => void } {
    let stopped = false;
    const perSecond = (this.#flow.ratePerSecond ?? 0) * this.#publishers.length;
    const intervalUs = 1e6 / perSecond;
    const startUs = nowUs();
    let next = 0;
    const sendDue = (): void => {
      if (stopped) return;
      const now = nowUs();
      while (startUs + next * intervalUs <= now) {
        this.#publishers[next % this.#publishers.length]?.send(now, 1);
        next += 1;
      }
      setImmediate(sendDue);
    };
    setImmediate(sendDue);
    return {
      stop: () => {
        stopped = true;
      },
    };
  }

  /** Messages that each node has been sent by others, as it counts them; none when there is no bystander. */
  forwardsReceived(): Promise<number[]> {
    const nodes = this.#flow.bystander === true ? this.#plan.nodes : [];
    return Promise.all(
      nodes.map(({ httpPort }) =>
        readMetric(httpPort, 'shoal_forwarded_messages_total', 'direction="received"'),
      ),
    );
  }

  /** Gives up what is on the way when nothing has moved for two seconds, so that a loss never hangs. */
  watchForStalls(): { stop: () => void; stalls: () => number } {
    let stalls = 0;
    let seen = -1;
    let sinceUs = nowUs();
    const timer = setInterval(() => {
      const progress = this.#progress();
      if (progress !== seen) {
        seen = progress;
        sinceUs = nowUs();
      } else if (nowUs() - sinceUs > STALL_MS * 1000) {
        sinceUs = nowUs();
        let gaveUp = false;
        for (const publisher of this.#publishers) {
          if (publisher.unsettled > 0 && publisher.giveUp()) gaveUp = true;
        }
        if (gaveUp) stalls += 1;
      }
    }, POLL_MS);
    return {
      stop: () => {
        clearInterval(timer);
      },
      stalls: () => stalls,
    };
  }

  /** Resolves when everything sent has settled, or when nothing moves any more. */
  async drained(): Promise<void> {
    const deadlineUs = nowUs() + DRAIN_MS_MAX * 1000;
    while (nowUs() < deadlineUs) {
      if (this.#publishers.every((publisher) => publisher.unsettled === 0)) return;
      await delay(POLL_MS);
    }
  }

  /** Rejects early when a connection is lost or the broker refuses something. */
  alive<T>(work: Promise<T>): Promise<T> {
    return Promise.race([work, this.#failed]);
  }

  losses(): { lost: number; duplicates: number; outOfOrder: number } {
    const refused = sum(this.#publishers.map((publisher) => publisher.refused));
    if (refused > 0) throw new Error(`the broker refused ${String(refused)} messages`);
    const pairs = this.#publishers.flatMap((publisher, index) =>
      (this.#flow.shape === 'pair'
        ? this.#subscribers.slice(index, index + 1)
        : this.#subscribers
      ).map((subscriber) => ({ sent: publisher.sent, checker: subscriber.checker(index) })),
    );
    return {
      lost: sum(pairs.map(({ sent, checker }) => checker.lost(sent))),
      duplicates: sum(pairs.map(({ checker }) => checker.duplicates)),
      outOfOrder: sum(pairs.map(({ checker }) => checker.outOfOrder)),
    };
  }

  end(): void {
    for (const client of this.#clients) client.end();
  }

  #progress(): number {
    return this.meter.delivered + sum(this.#publishers.map((publisher) => publisher.acknowledged));
  }

  #topic(index: number): string {
    return this.#flow.shape === 'pair' ? `bench/pair/${String(index)}` : 'bench/all';
  }

  async #holdFilters(filters: readonly string[]): Promise<void> {
    await connectAll(Math.ceil(filters.length / FILTERS_PER_HOLDER), 4, async (index) => {
      const client = await this.#open(`h${String(index)}`, ignorePackets);
      const own = filters.slice(index * FILTERS_PER_HOLDER, (index + 1) * FILTERS_PER_HOLDER);
      for (let from = 0; from < own.length; from += FILTERS_PER_SUBSCRIBE) {
        await client.subscribe(own.slice(from, from + FILTERS_PER_SUBSCRIBE), this.#flow.qos);
      }
    });
  }

  async #open(clientId: string, sink: PacketSink, node = 0, persistent = false) {
    const client = await RawClient.connect({
      port: (this.#plan.nodes[node] ?? this.#plan.nodes[0]).port,
      clientId,
      level: this.#plan.level,
      keepAliveSeconds: 600,
      persistent,
      sink,
    });
    client.onLost = this.#onFailure;
    this.#clients.push(client);
    return client;
  }
}
