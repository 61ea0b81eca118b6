import { retainedNameWeight } from '@shoalmq/core';
import type { Clock, Message, TopicTable } from '@shoalmq/core';
import { encodeCommand, PromisedCall } from './connection/redis-call.ts';
import { defineScript } from './connection/script.ts';
import type { RedisConnection } from './connection/redis-connection.ts';
import { BUCKETS, bucketOf } from './keys.ts';
import type { Keys } from './keys.ts';
import { decodeStoredMessage, encodeStoredMessage } from './stored-message.ts';

/** What bounds the retained messages of the whole cluster. */
export interface RetainedLimits {
  readonly retainedMessagesMax: number;
  readonly retainedBytesMax: number;
}

/** Bytes before the message in a stored value: when it expires, and what it counts for. */
const HEAD_BYTES = 12;
const PURGED_MAX = 100;
/** Buckets in which `expire` looks. */
const EXPIRED_BUCKETS = 4;
/** From this part of a limit on the other nodes' share is asked for now and then. */
const NEAR = 0.9;
const REFRESH_MS = 1_000;
/** How old the totals may be that operators see. */
const TOTALS_MS = 10_000;

interface BucketCall {
  readonly keys: Keys;
  readonly bucket: number;
}

/** A message to keep, or '' to clear. */
interface RetainCall {
  readonly topic: string;
  readonly message: Buffer | '';
  readonly size: number;
  readonly expiresAtMs: number;
}

interface Totals {
  readonly messages: number;
  readonly bytes: number;
}

/** See lua/retain-message.lua. */
const retainMessage = defineScript('retain-message', {
  writes: true,
  keys: (
    call: BucketCall & RetainCall & { readonly messagesMax: number; readonly bytesMax: number },
  ) => keysOfBucket(call),
  argv: (call) => [
    call.topic,
    call.message,
    call.size,
    call.expiresAtMs,
    call.messagesMax,
    call.bytesMax,
  ],
  reply: (reply) => {
    const [kept, messages, bytes] = reply as unknown as [number, number, number];
    return { kept: kept === 1, messages, bytes };
  },
});

/** See lua/purge-retained.lua. */
const purgeRetained = defineScript('purge-retained', {
  writes: true,
  keys: (call: BucketCall & { readonly nowMs: number }) => keysOfBucket(call),
  argv: ({ nowMs }) => [nowMs, PURGED_MAX],
  reply: (reply) => {
    const [messages, bytes, topics] = reply as unknown as [number, number, readonly Buffer[]];
    return { messages, bytes, topics: topics.map(String) };
  },
});

/**
 * Retained messages, in 64 buckets by topic.
 *
 * The limits hold for all buckets together. Each has exact totals of its own, which change in one step with its
 * messages, so there is no global counter to drift; a node remembers the totals of all buckets from the replies it gets,
 * and tells the script what the others leave to this one. What other nodes stored since it last asked is unknown: near a
 * limit it asks again, at most once a second, so several nodes together may pass a limit by what they store in that time.
 */
export class RetainedStore {
  readonly #redis: RedisConnection;
  readonly #keys: Keys;
  readonly #limits: RetainedLimits;
  readonly #clock: Pick<Clock, 'wallMs'>;
  readonly #topics: TopicTable;
  readonly #totals = new Array<Totals>(BUCKETS).fill({ messages: 0, bytes: 0 });
  #messages = 0;
  #bytes = 0;
  #known = false;
  #refreshing: Promise<void> | undefined = undefined;
  #refreshedAtMs = -Infinity;
  /** Topics whose message expired and went, and nobody was told. */
  readonly #expired: string[] = [];
  #nextBucket = 0;
  /** Calls that wait until the totals are known for the first time, in order. */
  readonly #waiting: ((error: Error | undefined) => void)[] = [];

  constructor(
    redis: RedisConnection,
    parts: {
      readonly keys: Keys;
      readonly limits: RetainedLimits;
      readonly clock: Pick<Clock, 'wallMs'>;
      readonly topics: TopicTable;
    },
  ) {
    this.#redis = redis;
    this.#keys = parts.keys;
    this.#limits = parts.limits;
    this.#clock = parts.clock;
    this.#topics = parts.topics;
  }

  /**
   * Bytes of all retained messages, as of some seconds ago; `undefined` before the store has been asked for the first
   * time. Asks it now and then, so that it does not cost more the more often somebody wants to know.
   */
  get bytes(): number | undefined {
    if (performance.now() - this.#refreshedAtMs > TOTALS_MS) void this.#refresh();
    return this.#known ? this.#bytes : undefined;
  }

  /** See `StateStore.retain`. */
  retain(message: Message): Promise<{ readonly outcome: 'kept' | 'cleared' | 'full' }> {
    const topic = message.topic.name;
    const cleared = message.payloadBytes === 0;
    const call: RetainCall = {
      topic,
      message: cleared ? '' : encodeStoredMessage(message, undefined, ''),
      size:
        message.payloadBytes +
        message.properties.length +
        message.topic.bytes.length +
        retainedNameWeight(topic),
      expiresAtMs: message.expiresAtMs,
    };
    if (this.#known) return this.#send(call);
    return new Promise((resolve, reject) => {
      this.#waiting.push((error) => {
        if (error === undefined) resolve(this.#send(call));
        else reject(error);
      });
      void this.#refresh();
    });
  }

  /** See `StateStore.readRetained`. */
  async read(topics: readonly string[]): Promise<readonly Message[]> {
    const asked = new Map<number, string[]>();
    for (const topic of topics) {
      const bucket = bucketOf(topic);
      const others = asked.get(bucket);
      if (others === undefined) asked.set(bucket, [topic]);
      else others.push(topic);
    }
    const found = new Map<string, Buffer>();
    await Promise.all(
      Array.from(asked, async ([bucket, names]) => {
        const values = await this.#readBucket(bucket, names);
        for (const [index, name] of names.entries()) {
          const value = values[index];
          if (value) found.set(name, value);
        }
      }),
    );
    const nowMs = this.#clock.wallMs();
    const messages: Message[] = [];
    const expired = new Set<number>();
    for (const topic of topics) {
      const value = found.get(topic);
      if (value === undefined) continue;
      const expiresAtMs = value.readUInt32BE(0) * 2 ** 32 + value.readUInt32BE(4);
      if (expiresAtMs === 0 || expiresAtMs > nowMs) {
        messages.push(decodeStoredMessage(value.subarray(HEAD_BYTES), this.#topics));
      } else {
        expired.add(bucketOf(topic));
      }
    }
    for (const bucket of expired) this.#purge(bucket).catch(() => undefined);
    return messages;
  }

  #readBucket(bucket: number, topics: readonly string[]): Promise<readonly (Buffer | null)[]> {
    const key = this.#keys.retained(bucket);
    const bytes = encodeCommand(['HMGET', key, ...topics]);
    const call = new PromisedCall('hmget', () => bytes, {
      slot: this.#redis.slotOf(key),
      durable: false,
      operation: 'read-retained',
    });
    this.#redis.send(call);
    return call.reply as Promise<readonly (Buffer | null)[]>;
  }

  async #send(call: RetainCall): Promise<{ readonly outcome: 'kept' | 'cleared' | 'full' }> {
    const bucket = bucketOf(call.topic);
    const own = this.#totals[bucket] as Totals;
    const { retainedMessagesMax, retainedBytesMax } = this.#limits;
    const result = await retainMessage(this.#redis, {
      ...call,
      keys: this.#keys,
      bucket,
      messagesMax: retainedMessagesMax - (this.#messages - own.messages),
      bytesMax: retainedBytesMax - (this.#bytes - own.bytes),
    });
    this.#note(bucket, result);
    const near =
      this.#messages > retainedMessagesMax * NEAR || this.#bytes > retainedBytesMax * NEAR;
    if (near || !result.kept) void this.#refresh();
    if (!result.kept) return { outcome: 'full' };
    return { outcome: call.message === '' ? 'cleared' : 'kept' };
  }

  /** See `StateStore.expireRetained`. Looks at all buckets in turn. */
  async expire(): Promise<readonly string[]> {
    const buckets: number[] = [];
    for (let i = 0; i < EXPIRED_BUCKETS; i++) {
      buckets.push(this.#nextBucket);
      this.#nextBucket = (this.#nextBucket + 1) % BUCKETS;
    }
    await Promise.all(buckets.map((bucket) => this.#purge(bucket)));
    return this.#expired.splice(0);
  }

  async #purge(bucket: number): Promise<void> {
    const nowMs = this.#clock.wallMs();
    const purged = await purgeRetained(this.#redis, { keys: this.#keys, bucket, nowMs });
    for (const topic of purged.topics) this.#expired.push(topic);
    this.#note(bucket, purged);
  }

  /** Asks for the totals of all buckets, and removes what has expired. Not more often than once a second. */
  #refresh(): Promise<void> {
    const nowMs = performance.now();
    if (this.#known && nowMs - this.#refreshedAtMs < REFRESH_MS) return Promise.resolve();
    this.#refreshing ??= this.#ask().finally(() => {
      this.#refreshing = undefined;
    });
    return this.#refreshing;
  }

  async #ask(): Promise<void> {
    this.#refreshedAtMs = performance.now();
    let failure: Error | undefined;
    try {
      await Promise.all(Array.from({ length: BUCKETS }, (_, bucket) => this.#purge(bucket)));
      this.#known = true;
    } catch (error) {
      failure = error as Error;
    }
    for (const each of this.#waiting.splice(0)) each(failure);
  }

  #note(bucket: number, totals: Totals): void {
    const before = this.#totals[bucket] as Totals;
    this.#messages += totals.messages - before.messages;
    this.#bytes += totals.bytes - before.bytes;
    this.#totals[bucket] = { messages: totals.messages, bytes: totals.bytes };
  }
}

function keysOfBucket({ keys, bucket }: BucketCall): readonly string[] {
  return [keys.retained(bucket), keys.retainedExpiries(bucket), keys.retainedTotals(bucket)];
}
