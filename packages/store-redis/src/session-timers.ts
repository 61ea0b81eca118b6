import type { DueEvents, DueWill } from '@shoalmq/core';
import { defineScript } from './connection/script.ts';
import type { RedisConnection } from './connection/redis-connection.ts';
import { BUCKETS, bucketOf, decodeText, encodeText } from './keys.ts';
import type { Keys } from './keys.ts';
import type { SessionEnd } from './session-scripts.ts';

/** Milliseconds after which a client id that was taken is due again, in case the taker died. */
const TAKEN_MS = 15_000;

/** What looking at one client id found. */
export interface Fired {
  readonly wills: readonly DueWill[];
  readonly ended: SessionEnd | undefined;
  /** When somebody must look again, in ms; '' for never. */
  readonly nextDue: string;
  /** What was found is in the right hands. */
  readonly heard: () => Promise<unknown>;
}

/** Looks at one client id: see lua/fire-timer.lua. */
export type Fire = (clientId: string, willsMax: number) => Promise<Fired>;

/** See lua/set-timer.lua. */
const setTimer = defineScript('set-timer', {
  writes: true,
  keys: ({ key }: { readonly key: string; readonly id: string; readonly due: string }) => [key],
  argv: ({ id, due }) => [id, due],
  reply: () => undefined,
});

/** See lua/take-timers.lua. */
const takeTimers = defineScript('take-timers', {
  library: ['time'],
  writes: true,
  keys: ({
    key,
  }: {
    readonly key: string;
    readonly clockOffsetMs: number;
    readonly limit: number;
  }) => [key],
  argv: ({ clockOffsetMs, limit }, again) => [clockOffsetMs, limit, TAKEN_MS, again ? 1 : 0],
  reply: (reply) => (reply as readonly Buffer[]).map(String),
});

/** See lua/put-back-timer.lua. */
const putBackTimer = defineScript('put-back-timer', {
  writes: true,
  keys: ({
    key,
  }: {
    readonly key: string;
    readonly id: string;
    readonly taken: string;
    readonly due: string;
  }) => [key],
  argv: ({ id, taken, due }) => [id, taken, due],
  reply: () => undefined,
});

/**
 * When somebody must look at which client id, because a will or an expiry is due: one entry for each client id, in 64
 * sorted sets.
 *
 * Sessions are in other slots, so an entry is only a hint: what is due is decided by a script on the session, and an
 * entry without reason costs a look. It is written after the script that needs it and before that is acknowledged. A
 * node that dies between the two leaves a connection that it owns (`OwnedConnections`), and whoever releases that in its
 * place writes the entry.
 */
export class SessionTimers {
  readonly #redis: RedisConnection;
  readonly #keys: Keys;
  readonly #clockOffsetMs: () => number;
  #firstBucket = 0;

  constructor(redis: RedisConnection, keys: Keys, clockOffsetMs: () => number) {
    this.#redis = redis;
    this.#keys = keys;
    this.#clockOffsetMs = clockOffsetMs;
  }

  /** Has somebody look at the client id at `due`, in ms; at '' nobody needs to. */
  async set(clientId: string, due: string): Promise<void> {
    if (due === '') return;
    const key = this.#keys.timers(bucketOf(clientId));
    await setTimer(this.#redis, { key, id: encodeText(clientId), due });
  }

  /** Looks at client ids that are due, with at most `limit` wills and `limit` ends of sessions in the result. */
  async takeDue(limit: number, fire: Fire): Promise<DueEvents> {
    const wills: DueWill[] = [];
    const ended: DueEvents['ended'][number][] = [];
    for (const key of await this.#dueBuckets()) {
      const room = limit - Math.max(wills.length, ended.length);
      if (room <= 0) break;
      const [taken, ...ids] = await takeTimers(this.#redis, {
        key,
        clockOffsetMs: this.#clockOffsetMs(),
        limit: room,
      });
      const willsMax = Math.max(1, Math.floor(room / Math.max(ids.length, 1)));
      const results = await Promise.allSettled(
        ids.map(async (id) => {
          const clientId = decodeText(id);
          const fired = await fire(clientId, willsMax);
          wills.push(...fired.wills);
          if (fired.ended !== undefined) ended.push({ clientId, ...fired.ended });
          // What these two fail to write is looked at again, and then there is nothing to do.
          const put = { key, id, taken: taken ?? '', due: fired.nextDue };
          await Promise.allSettled([putBackTimer(this.#redis, put), fired.heard()]);
        }),
      );
      const [failed] = results.filter((result) => result.status === 'rejected');
      if (failed !== undefined && wills.length + ended.length === 0) throw failed.reason;
    }
    return { wills, ended };
  }

  /** Keys of the buckets in which something is due, another one first each time. */
  async #dueBuckets(): Promise<readonly string[]> {
    const first = this.#firstBucket;
    this.#firstBucket = (first + 1) % BUCKETS;
    const keys = Array.from({ length: BUCKETS }, (_, index) =>
      this.#keys.timers((first + index) % BUCKETS),
    );
    const [time, ...earliest] = await Promise.all([
      this.#redis.command(keys[0] as string, ['TIME']),
      ...keys.map((key) => this.#redis.command(key, ['ZRANGE', key, 0, 0, 'WITHSCORES'])),
    ]);
    const [seconds, microseconds] = (time as readonly Buffer[]).map(Number) as [number, number];
    const nowMs = seconds * 1_000 + Math.ceil(microseconds / 1_000) + this.#clockOffsetMs();
    return keys.filter((_, index) => {
      const [, score] = earliest[index] as readonly Buffer[];
      return score !== undefined && Number(score) <= nowMs;
    });
  }
}
