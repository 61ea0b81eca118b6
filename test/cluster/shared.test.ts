import { expect, test } from '@jest/globals';
import { RedisProcess, SeededRandom, hasRedisServer } from '@shoalmq/testkit';
import { startNodes } from './nodes.ts';
import type { Nodes } from './nodes.ts';
import { VolumeClient } from './volume-client.ts';
import type { Received } from './volume-client.ts';

const withRedis = hasRedisServer() ? test : test.skip;

const FILTER = '$share/workers/work/#';
/** Milliseconds between two looks at whether something has come about. */
const LOOK_MS = 20;

/** Who got which message how often. */
class Tally {
  readonly byMessage = new Map<string, string[]>();
  readonly byMember = new Map<string, number>();

  add(member: string, { payload }: Received): void {
    const name = payload.toString();
    const receivers = this.byMessage.get(name);
    if (receivers === undefined) this.byMessage.set(name, [member]);
    else receivers.push(member);
    this.byMember.set(member, (this.byMember.get(member) ?? 0) + 1);
  }

  /** How many messages of QoS 1 have come. */
  get atQos1(): number {
    return [...this.byMessage.keys()].filter((name) => name.startsWith('1')).length;
  }

  /** Messages of several members, or that came to one twice although that is wrong at their QoS. */
  get wrong(): string[] {
    return [...this.byMessage]
      .filter(([name, receivers]) =>
        name.startsWith('2') ? receivers.length > 1 : new Set(receivers).size > 1,
      )
      .map(([name, receivers]) => `${name}: ${receivers.join()}`);
  }

  clear(): void {
    this.byMessage.clear();
    this.byMember.clear();
  }
}

/** A member of the group that comes back wherever it can when its node dies. */
class Member implements AsyncDisposable {
  readonly name: string;
  readonly persistent: boolean;
  readonly #nodes: Nodes;
  readonly #tally: Tally;
  readonly #unreleased = new Set<number>();
  #client: VolumeClient | undefined = undefined;
  #wanted = false;

  constructor(name: string, persistent: boolean, nodes: Nodes, tally: Tally) {
    this.name = name;
    this.persistent = persistent;
    this.#nodes = nodes;
    this.#tally = tally;
  }

  async join(node: number): Promise<void> {
    this.#wanted = true;
    const client = await VolumeClient.connect(this.#nodes.all[node]!.port, {
      clientId: this.name,
      clean: !this.persistent,
      unreleased: this.#unreleased,
      onMessage: (message) => {
        this.#tally.add(this.name, message);
      },
    });
    if (!client.sessionPresent) {
      this.#unreleased.clear();
      await client.subscribe(FILTER, 2);
    }
    this.#client = client;
  }

  /** Clean members leave in good order: what they were sent and have not acknowledged would be lost. */
  async leave(): Promise<void> {
    this.#wanted = false;
    const client = this.#client;
    this.#client = undefined;
    if (client === undefined) return;
    if (!this.persistent) {
      await client.unsubscribe(FILTER);
      await client.ping();
      await client.disconnect();
    }
    await client[Symbol.asyncDispose]();
  }

  /** Connects again, to this node, when the connection was lost. */
  async recover(node: number): Promise<void> {
    if (this.#wanted && this.#client?.lost !== undefined) await this.join(node);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#client?.[Symbol.asyncDispose]();
  }
}

/** Publishes messages of QoS 1 and 2, named by QoS, publisher and number. */
async function publish(client: VolumeClient, from: number, count: number): Promise<void> {
  const failures: unknown[] = [];
  for (let i = 0; i < count; i++) {
    await client.room();
    const qos = i % 2 === 0 ? 1 : 2;
    client
      .publish(`work/${String(i % 7)}`, `${String(qos)} ${String(from)} ${String(i)}`, { qos })
      .catch((error: unknown) => failures.push(error));
    if (i % 100 === 99) await client.ping();
  }
  await client.idle();
  expect(failures).toEqual([]);
}

async function until(holds: () => boolean): Promise<void> {
  const deadline = performance.now() + 30_000;
  while (!holds() && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

function expectBalanced(tally: Tally, members: number, messages: number): void {
  const share = messages / members;
  const counts = [...tally.byMember.values()];
  expect(counts).toHaveLength(members);
  expect(Math.min(...counts)).toBeGreaterThan(share * 0.9);
  expect(Math.max(...counts)).toBeLessThan(share * 1.1);
}

withRedis(
  'a shared group over three nodes: each message to one member, balanced, whoever leaves, dies and comes back',
  async () => {
    await using redis = await RedisProcess.start();
    await using nodes = await startNodes(3, redis.url);
    const tally = new Tally();
    // On the third node, which will be killed, there are no clean members: what those were given dies with it.
    const members = Array.from(
      { length: 12 },
      (_, i) => new Member(`member${String(i)}`, i % 3 === 2 || i < 6, nodes, tally),
    );
    await Promise.all(members.map((member, i) => member.join(i % 3)));
    await using one = await VolumeClient.connect(nodes.all[0]!.port, { clientId: 'publisher 0' });
    await using two = await VolumeClient.connect(nodes.all[1]!.port, { clientId: 'publisher 1' });
    const each = 3_000;
    const publishBoth = () => Promise.all([publish(one, 0, each), publish(two, 1, each)]);
    const complete = () => tally.byMessage.size === 2 * each;

    await publishBoth();
    await until(complete);
    expect(tally.byMessage.size).toBe(2 * each);
    expect(tally.wrong).toEqual([]);
    expectBalanced(tally, members.length, 2 * each);

    tally.clear();
    const random = new SeededRandom(7);
    let published = false;
    const isOver = () => published;
    const publishing = publishBoth().finally(() => {
      published = true;
    });
    // One does not come back until others have what it was not sent.
    const [absent, ...others] = members as [Member, ...Member[]];
    await absent.leave();
    while (!isOver()) {
      const member = others[random.integer(others.length)]!;
      await member.leave();
      await one.ping();
      await member.join(random.integer(member.persistent ? 3 : 2));
    }
    await publishing;
    // Of QoS 1 there is half; what it should get of QoS 2 waits for it.
    await until(() => tally.atQos1 === each);
    await absent.join(0);
    await until(complete);
    expect(tally.byMessage.size).toBe(2 * each);
    expect(tally.wrong).toEqual([]);

    tally.clear();
    const third = nodes.all[2]!;
    const publishingOn = publishBoth();
    await until(() => tally.byMessage.size > each / 2);
    await third.kill();
    await until(() => tally.byMessage.size > each);
    for (const [i, member] of members.entries()) await member.recover(i % 2);
    await publishingOn;
    await until(complete);
    expect(tally.byMessage.size).toBe(2 * each);
    expect(tally.wrong).toEqual([]);

    await nodes.restart(2);
    for (const [i, member] of members.entries()) {
      await member.leave();
      await member.join(i % 3);
    }
    tally.clear();
    await publishBoth();
    await until(complete);
    expect(tally.wrong).toEqual([]);
    expectBalanced(tally, members.length, 2 * each);
  },
  240_000,
);

withRedis(
  'what a persistent member was never sent goes to a member on another node when its client is lost',
  async () => {
    await using redis = await RedisProcess.start();
    await using nodes = await startNodes(3, redis.url, ['limits.inflightMax=10']);
    const [first, second, third] = nodes.all.map(({ port }) => port) as [number, number, number];
    const tally = new Tally();
    const member = (port: number, clientId: string) =>
      VolumeClient.connect(port, {
        clientId,
        clean: false,
        onMessage: (message) => {
          tally.add(clientId, message);
        },
      });
    const slow = await member(first, 'slow');
    slow.acknowledging = false;
    await slow.subscribe(FILTER, 1);
    await using publisher = await VolumeClient.connect(third, { clientId: 'publisher' });
    for (let i = 0; i < 1_000; i++) await publisher.publish('work', `1 ${String(i)}`, { qos: 1 });
    await using other = await member(second, 'other');
    await other.subscribe(FILTER, 1);
    await other.ping();
    expect(tally.byMember.get('slow')).toBe(10);
    await slow[Symbol.asyncDispose]();
    await until(() => tally.byMember.get('other') === 990);
    await using back = await member(third, 'slow');
    await until(() => tally.byMember.get('slow') === 20);
    await back.ping();
    expect([...tally.byMember]).toEqual([
      ['slow', 20],
      ['other', 990],
    ]);
    expect(tally.wrong).toEqual([]);
  },
  120_000,
);
