import { expect, test } from '@jest/globals';
import { History, SeededRandom, checkHistory } from '@shoalmq/testkit';
import { SimulatedClient } from './client.ts';
import type { ClientPlan } from './client.ts';
import { Network } from './network.ts';
import { Redis } from './redis.ts';
import { SimulatedNode } from './simulated-node.ts';
import { VirtualTime } from './virtual-time.ts';

/** Three nodes without any mischief but what the test does. */
class Scenario {
  readonly time = new VirtualTime();
  readonly random = new SeededRandom(1);
  readonly network: Network;
  readonly redis: Redis;
  readonly history = new History(() => this.time.elapsedMs);
  readonly nodes: SimulatedNode[] = [];
  readonly restore = this.time.install(() => this.random.integer(1_000) / 1_000);

  constructor(seed: number) {
    this.network = new Network(this.time, new SeededRandom(seed));
    this.redis = new Redis(this.time, new SeededRandom(seed), this.network, seed);
  }

  async start(): Promise<void> {
    for (let i = 1; i <= 3; i++) {
      const { time, network, redis } = this;
      const node = new SimulatedNode(`n${String(i)}`, i, {
        ...{ time, network, redis, seed: i, defect: {} },
      });
      this.nodes.push(node);
    }
    await this.time.run(5_000);
    expect(this.nodes.every(({ available }) => available)).toBe(true);
  }

  /** A client that connects to the node that `where` says at the time. */
  client(
    plan: Partial<ClientPlan> & { readonly clientId: string },
    where: () => number | undefined,
  ) {
    const base: ClientPlan = {
      ...{ clientId: plan.clientId, clean: false, cleanStartOneIn: 0, filter: '', otherFilter: '' },
      ...{ filterQos: 1, publishes: [], publishEveryMs: 100, ackDelayMaxMs: 0 },
      ...{ receiveMaximum: 100, willDelay: undefined, reconnectMinMs: 20, reconnectMaxMs: 20 },
      ...{ forsakes: false, restlessMs: 0 },
    };
    const client = new SimulatedClient(
      { ...base, ...plan },
      {
        time: this.time,
        random: new SeededRandom(5),
        history: this.history,
        chooseNode: () => this.nodes[(where() ?? 0) - 1],
        dueWills: new Set(),
      },
    );
    client.start();
    return client;
  }
}

test.each([1, 2, 3, 4])(
  'what a node publishes that was taken for dead reaches a session that connected meanwhile (%i)',
  async (seed) => {
    const scenario = new Scenario(seed);
    const { time, network, history } = scenario;
    try {
      await scenario.start();
      let home: number | undefined = 3;
      const subscriber = scenario.client({ clientId: 'subscriber', filter: 't' }, () => home);
      const publisher = scenario.client(
        { clientId: 'publisher', publishes: [{ topic: 't', qos: 1, retain: false }] },
        () => 1,
      );
      await time.run(2_000);
      history.record({ op: 'fault', phase: 'invoke', client: 'n1' });
      home = undefined;
      subscriber.disconnect();
      network.cut('n1', 'redis');
      await time.run(8_000);
      network.heal('n1', 'redis');
      // The node sees that the session is nowhere, and the others do not see the node yet.
      await time.run(150);
      home = 2;
      history.record({ op: 'fault', client: 'n1' });
      await time.run(5_000);
      publisher.finishing = true;
      await time.run(1_000);
      expect(publisher.unsettled).toBe(0);
      expect(checkHistory(history)).toEqual([]);
    } finally {
      scenario.restore();
    }
  },
);
