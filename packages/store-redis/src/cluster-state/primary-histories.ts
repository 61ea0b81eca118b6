import type { RedisCalls } from '../connection/redis-connection.ts';
import { encodeCommand, PromisedCall } from '../connection/redis-call.ts';

const INFO = encodeCommand(['INFO', 'replication']);

/**
 * `master_replid` of every primary of a Redis Cluster: the name of the history of writes that it has. A replica that
 * is promoted gives itself a new one, and so does a server that starts.
 *
 * A primary that does not answer keeps the one it had: that it is away for a moment is no reason to end leases, and if
 * its replica takes over, that is seen in its first answer.
 */
export class PrimaryHistories {
  readonly #redis: RedisCalls;
  /** A slot of each primary, when they were asked last. */
  #slots: readonly number[] = [];
  /** By slot of the primary, which its successor has too. */
  readonly #ids = new Map<number, string>();
  readonly #asking = new Map<number, Promise<void>>();

  constructor(redis: RedisCalls) {
    this.#redis = redis;
  }

  /** Asks every primary that has not still to answer; resolves when all have answered. */
  async ask(): Promise<void> {
    this.#slots = this.#redis.slotsOfPrimaries();
    await Promise.all(this.#slots.map((slot) => this.#ask(slot)));
  }

  /** What is known of every primary, the same for all nodes that know the same; `undefined`: something is not. */
  known(): string | undefined {
    for (const slot of this.#ids.keys()) if (!this.#slots.includes(slot)) this.#ids.delete(slot);
    const ids = this.#slots.map((slot) => this.#ids.get(slot));
    if (ids.length === 0 || ids.includes(undefined)) return undefined;
    return ids.sort().join();
  }

  #ask(slot: number): Promise<void> {
    let asking = this.#asking.get(slot);
    if (asking === undefined) {
      asking = this.#askOnce(slot).finally(() => this.#asking.delete(slot));
      this.#asking.set(slot, asking);
    }
    return asking;
  }

  async #askOnce(slot: number): Promise<void> {
    const call = new PromisedCall('info', () => INFO, { slot, durable: false });
    call.urgent = true;
    this.#redis.send(call);
    const info = (await call.reply) as Buffer;
    const id = /^master_replid:(\w+)/m.exec(info.toString())?.[1];
    if (id !== undefined) this.#ids.set(slot, id);
  }
}
