import { expect, test } from '@jest/globals';
import { ByteClient, ShoalCluster, hasRedisServer, pollUntil } from '@shoalmq/testkit';
import type { ConnectFields } from '@shoalmq/testkit';

const withRedis = hasRedisServer() ? test : test.skip;
const PATIENCE = { timeoutMs: 60_000 };
const PERSISTENT = { clean: false, properties: { sessionExpiryInterval: 600 } };
const WILLS = 1_000;
const BACK_IN_TIME = 100;

/** Who counts wills, by their payload. */
class Watcher {
  readonly client: ByteClient;
  readonly counts = new Map<string, number>();
  lastAtMs = 0;
  readonly #onWill: (count: number) => void;

  private constructor(client: ByteClient, onWill: (count: number) => void) {
    this.client = client;
    this.#onWill = onWill;
    void this.#serve();
  }

  static async start(
    port: number,
    fields: ConnectFields,
    qos: 1 | 2,
    onWill: (count: number) => void = () => undefined,
  ): Promise<Watcher> {
    const client = await ByteClient.connect(port, { ...PATIENCE, ...fields });
    await client.subscribe('wills/#', { qos });
    return new Watcher(client, onWill);
  }

  get repeated(): readonly string[] {
    return [...this.counts].filter(([, count]) => count > 1).map(([will]) => will);
  }

  async #serve(): Promise<void> {
    const { client, counts } = this;
    const held = new Set<number>();
    try {
      for (;;) {
        const packet = await client.expectPacket();
        const { messageId = 0 } = packet;
        if (packet.cmd === 'pubrel') {
          held.delete(messageId);
          client.pubcomp(messageId);
        }
        if (packet.cmd !== 'publish') continue;
        if (!held.has(messageId)) {
          const will = packet.payload.toString();
          counts.set(will, (counts.get(will) ?? 0) + 1);
          this.lastAtMs = performance.now();
          this.#onWill(counts.size);
        }
        if (packet.qos === 1) client.puback(messageId);
        if (packet.qos === 2) {
          held.add(messageId);
          client.pubrec(messageId);
        }
      }
    } catch {
      client.stream.destroy();
    }
  }
}

/** Clients with wills on one node: a thousand whose wills are due when it dies, and some that will be back in time. */
async function connectAll(port: number, qos: 1 | 2): Promise<ByteClient[]> {
  const connect = (n: number): Promise<ByteClient> => {
    const late = n >= WILLS;
    const will = {
      topic: `wills/${String(n)}`,
      payload: Buffer.from(String(n)),
      qos,
      retain: false,
      properties: { willDelayInterval: late ? 20 : n % 2 },
    };
    const session = n % 2 === 0 && !late ? { clean: true } : PERSISTENT;
    return ByteClient.connect(port, {
      ...{ ...PATIENCE, ...session, will },
      clientId: `c${String(n)}`,
    });
  };
  const clients: ByteClient[] = [];
  while (clients.length < WILLS + BACK_IN_TIME) {
    const { length } = clients;
    clients.push(...(await Promise.all(Array.from({ length: 50 }, (_, n) => connect(length + n)))));
  }
  return clients;
}

/** Those with the long delay come back, elsewhere. */
async function comeBack(port: number): Promise<ByteClient[]> {
  return Promise.all(
    Array.from({ length: BACK_IN_TIME }, (_, n) =>
      ByteClient.connect(port, {
        ...{ ...PATIENCE, ...PERSISTENT },
        clientId: `c${String(WILLS + n)}`,
      }),
    ),
  );
}

function endAll(clients: readonly ByteClient[]): void {
  for (const { stream } of clients) stream.destroy();
}

withRedis(
  'P6: a node with 1,000 wills is killed: each is published once within 10 s, none of those who are back in time',
  async () => {
    await using cluster = await ShoalCluster.start({ nodes: 3 });
    const [first, second, third] = cluster.ports as [number, number, number];
    const watchers = [
      await Watcher.start(first, { clientId: 'exactly', ...PERSISTENT }, 2),
      await Watcher.start(second, { clientId: 'clean' }, 1),
    ];
    const clients = await connectAll(third, 1);
    const killedAtMs = performance.now();
    await cluster.kill('n3');
    clients.push(...(await comeBack(second)));

    for (const watcher of watchers) {
      await pollUntil('the wills', () => watcher.counts.size >= WILLS);
      expect(watcher.lastAtMs - killedAtMs).toBeLessThan(10_000);
    }
    // Whatever is published wrongly is published when the delay is over.
    await new Promise((resolve) => setTimeout(resolve, 22_000));
    for (const { counts, repeated } of watchers)
      expect([counts.size, repeated]).toEqual([WILLS, []]);
    endAll([...clients, ...watchers.map(({ client }) => client)]);
  },
  120_000,
);

withRedis.each([1, 2] as const)(
  'P6: the node that publishes the wills is killed half way: none is lost, at QoS %d',
  async (qos) => {
    await using cluster = await ShoalCluster.start({ nodes: 3 });
    const [first, , third] = cluster.ports as [number, number, number];
    const killed: { atMs?: number; count?: number } = {};
    const watcher = await Watcher.start(
      first,
      { clientId: 'exactly', ...PERSISTENT },
      2,
      (count) => {
        if (count < 100 || killed.atMs !== undefined) return;
        killed.atMs = performance.now();
        killed.count = count;
        process.kill(cluster.node('n2').pid, 'SIGKILL');
      },
    );
    const clients = await connectAll(third, qos);
    await cluster.kill('n3');
    clients.push(...(await comeBack(first)));
    await pollUntil('the wills', () => watcher.counts.size >= WILLS);

    expect(killed.count).toBeLessThan(WILLS);
    expect(watcher.lastAtMs - killed.atMs!).toBeLessThan(10_000);
    // Those whose publisher died before it could say that they are done have been published again by now.
    await new Promise((resolve) => setTimeout(resolve, 10_000));
    expect(watcher.counts.size).toBe(WILLS);
    // At QoS 1 a will is published at least once: nothing tells the first from the second.
    if (qos === 2) expect(watcher.repeated).toEqual([]);
    endAll([...clients, watcher.client]);
  },
  120_000,
);
