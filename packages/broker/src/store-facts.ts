import { inspectRedis, redisWarnings } from '@shoalmq/store-redis';
import type { RedisConnection, RedisServer } from '@shoalmq/store-redis';

/** Where the state is kept and what that is worth. */
export interface StoreFacts {
  /** `memory`: this process. */
  readonly mode: 'memory' | 'standalone' | 'sentinel' | 'cluster';
  readonly durability: 'memory' | 'primary' | 'replicated';
  /** Replicas that must confirm each write; 0 but for `replicated`. */
  readonly replicas: number;
  /** The store answers. */
  readonly up: boolean;
  /** The primaries of Redis as they were last seen. */
  readonly servers: readonly RedisServer[];
  /** What in the set-up of Redis can cost messages, a line each. */
  readonly warnings: readonly string[];
}

/** Of a node that keeps its state in memory. */
export const MEMORY_FACTS: StoreFacts = {
  mode: 'memory',
  durability: 'memory',
  replicas: 0,
  up: true,
  servers: [],
  warnings: [],
};

/** Redis is asked at most so often, and so long is waited for it. */
const REFRESH_MS = 5_000;
const DEADLINE_MS = 2_000;

/** Asks Redis how it is set up, not more often than every five seconds however many want to know. */
export class RedisFacts {
  readonly #redis: RedisConnection;
  #servers: readonly RedisServer[] = [];
  #askedAtMs = -Infinity;
  #asking: Promise<void> | undefined;

  constructor(redis: RedisConnection) {
    this.#redis = redis;
  }

  /** As it is now, or as it was last seen when Redis does not answer. Never rejects. */
  async read(): Promise<StoreFacts> {
    if (performance.now() - this.#askedAtMs >= REFRESH_MS) {
      this.#asking ??= this.#ask().finally(() => {
        this.#asking = undefined;
      });
    }
    await this.#asking;
    const { options, status } = this.#redis;
    const replicas = options.replicas ?? 0;
    const up = status.state === 'up';
    return {
      mode: options.mode,
      durability: replicas > 0 ? 'replicated' : 'primary',
      replicas,
      up,
      servers: this.#servers,
      warnings: [
        ...(up ? [] : ['Redis does not answer: nothing at QoS 1 and 2 is acknowledged']),
        ...redisWarnings(this.#servers, { replicas }),
      ],
    };
  }

  async #ask(): Promise<void> {
    try {
      this.#servers = await inspectRedis(this.#redis.within(DEADLINE_MS));
      this.#askedAtMs = performance.now();
    } catch {
      // What was seen last stays; `up` says the rest.
    }
  }
}
