import { setImmediate as nextTurn, setTimeout as pause } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { expect } from '@jest/globals';
import { TestBroker } from '@shoalmq/testkit';
import type { ByteClient, TestBrokerOptions } from '@shoalmq/testkit';

/** A password that attackers use and that must be found nowhere. */
export const SECRET = 'hunter2-never-to-be-logged';

/** What an attack may look at besides its clients. */
export interface Victim {
  readonly broker: TestBroker;
  /** Everything that would have become a log line until now. */
  readonly reports: readonly object[];
}

export interface AttackOptions extends TestBrokerOptions {
  /** The number that grows with this attack; growing is what is checked. */
  readonly counted: (counters: TestBroker['broker']['counters']) => number;
  /** Sessions, subscriptions and messages that are meant to outlive the attack. */
  readonly leaves?: readonly (keyof Levels)[];
}

type Levels = ReturnType<typeof levelsOf>;

/**
 * Runs an attack on a broker of its own while bystanders exchange QoS 1 messages and pings, and checks what every
 * attack has in common: nothing was thrown, the bystanders lost nothing and were not disconnected, a metric counted
 * it, what it left behind is gone, and the log has no secret and no control character.
 */
export async function attack(
  { counted, leaves = [], ...options }: AttackOptions,
  run: (victim: Victim) => Promise<void>,
): Promise<void> {
  const reports: object[] = [];
  await using broker = await TestBroker.start({
    ...options,
    report: (report) => {
      reports.push(report);
      options.report?.(report);
    },
  });
  const before = levelsOf(broker);
  await using bystanders = await Bystanders.start(broker);
  const countedBefore = counted(broker.broker.counters);

  await run({ broker, reports });

  await eventually(() => {
    expect(counted(broker.broker.counters)).toBeGreaterThan(countedBefore);
  });
  await bystanders.end();
  await eventually(() => {
    const after = levelsOf(broker);
    const kept = Object.fromEntries(leaves.map((level) => [level, before[level]]));
    expect({ ...after, ...kept }).toEqual(before);
  });
  expectCleanLog(reports);
}

/** No text of a client brings a control character, a terminal sequence or a secret into a report. */
export function expectCleanLog(reports: readonly object[]): void {
  for (const report of reports) {
    for (const value of Object.values(report)) {
      // eslint-disable-next-line no-control-regex -- what must not be there
      if (typeof value === 'string') expect(value).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
    }
  }
  expect(JSON.stringify(reports)).not.toContain(SECRET);
}

/** Repeats an expectation until it holds; for what happens at the other end without an answer. */
export async function eventually(check: () => void, timeoutMs = 10_000): Promise<void> {
  const giveUpMs = performance.now() + timeoutMs;
  for (;;) {
    try {
      check();
      return;
    } catch (error) {
      if (performance.now() > giveUpMs) throw error;
    }
    await pause(10);
  }
}

/** Waits for the end of a connection, whatever comes before it and however it ends. */
export async function ended({ stream }: ByteClient): Promise<void> {
  if (stream.closed || stream.readableEnded) return;
  await new Promise<void>((resolve) => {
    for (const event of ['end', 'close']) stream.once(event, resolve);
  });
}

/** Bytes of heap and buffers that are really in use. */
export async function usedBytes(): Promise<number> {
  setFlagsFromString('--expose-gc');
  const collect = runInNewContext('gc') as () => void;
  for (let i = 0; i < 3; i++) {
    await nextTurn();
    collect();
  }
  const { heapUsed, arrayBuffers } = process.memoryUsage();
  return heapUsed + arrayBuffers;
}

function levelsOf({ broker }: TestBroker) {
  const levels = broker.levels();
  const connected = [...broker.counters.listeners.values()].flatMap((each) => each.connected);
  return {
    connections: connected.reduce((sum, count) => sum + count, 0),
    sessionsConnected: levels.sessionsConnected,
    sessionsOffline: levels.sessionsOffline,
    subscriptions: levels.subscriptions,
    sharedGroups: levels.sharedGroups,
    retainedMessages: levels.retainedMessages,
    inflightMessages: levels.inflightMessages,
    queuedMessages: levels.queuedMessages,
  };
}

/** Two clients that have nothing to do with the attack and go on with their work. */
class Bystanders implements AsyncDisposable {
  readonly #publisher: ByteClient;
  readonly #subscriber: ByteClient;
  readonly #work: Promise<number>;
  #ending = false;

  private constructor(publisher: ByteClient, subscriber: ByteClient) {
    this.#publisher = publisher;
    this.#subscriber = subscriber;
    this.#work = this.#exchange();
    // Looked at in `end`.
    this.#work.catch(() => undefined);
  }

  static async start(broker: TestBroker): Promise<Bystanders> {
    const subscriber = await broker.client({ clientId: 'bystander-in', timeoutMs: 10_000 });
    const publisher = await broker.client({ clientId: 'bystander-out', timeoutMs: 10_000 });
    await subscriber.subscribe('by/stand/er/news', { qos: 1 });
    return new Bystanders(publisher, subscriber);
  }

  /** Finishes the exchange under way; rejects when anything was lost or came unasked. */
  async end(): Promise<void> {
    this.#ending = true;
    expect(await this.#work).toBeGreaterThan(0);
    await this.#publisher.expectNothing();
    await this.#subscriber.expectNothing();
    this.#publisher.disconnect();
    this.#subscriber.disconnect();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#ending = true;
    await this.#publisher[Symbol.asyncDispose]();
    await this.#subscriber[Symbol.asyncDispose]();
  }

  async #exchange(): Promise<number> {
    let count = 0;
    do {
      const payload = String(count);
      this.#publisher.publish({ topic: 'by/stand/er/news', payload, qos: 1 });
      await this.#subscriber.expectPublish({
        topic: 'by/stand/er/news',
        payload,
        acknowledge: true,
      });
      await this.#publisher.expectPacket('puback');
      await this.#publisher.roundTrip();
      count += 1;
      await pause(2);
    } while (!this.#ending);
    return count;
  }
}
