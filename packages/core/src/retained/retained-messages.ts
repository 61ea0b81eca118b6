import type { Message } from '../message.ts';
import type { Clock } from '../ports/clock.ts';
import type { StateStore } from '../ports/state-store.ts';
import { isLocalTopic } from '../topic/name.ts';

/** Topics of `$SYS/` that have a retained message; only the server and the program around it publish there. */
const LOCAL_MAX = 10_000;

/**
 * Retained messages: those of `$SYS/` in the memory of this node, because each node has its own, all others in the store
 * that the nodes share.
 */
export class RetainedMessages implements Pick<StateStore, 'retain' | 'readRetained'> {
  readonly #store: Pick<StateStore, 'retain' | 'readRetained'>;
  readonly #clock: Pick<Clock, 'wallMs'>;
  readonly #local = new Map<string, Message>();

  constructor(store: Pick<StateStore, 'retain' | 'readRetained'>, clock: Pick<Clock, 'wallMs'>) {
    this.#store = store;
    this.#clock = clock;
  }

  /** Number of those of this node. */
  get localCount(): number {
    return this.#local.size;
  }

  /** See `StateStore.retain`. */
  retain(message: Message): Promise<{ readonly outcome: 'kept' | 'cleared' | 'full' }> {
    const { name, local } = message.topic;
    if (!local) return this.#store.retain(message);
    if (message.payloadBytes === 0) {
      this.#local.delete(name);
      return Promise.resolve({ outcome: 'cleared' });
    }
    if (this.#local.size >= LOCAL_MAX && !this.#local.has(name)) {
      return Promise.resolve({ outcome: 'full' });
    }
    this.#local.set(name, message.owned());
    return Promise.resolve({ outcome: 'kept' });
  }

  /** See `StateStore.readRetained`. Either all topics are local or none: no filter matches both kinds. */
  readRetained(topics: readonly string[]): Promise<readonly Message[]> {
    const [first] = topics;
    if (first === undefined || !isLocalTopic(first)) return this.#store.readRetained(topics);
    const nowMs = this.#clock.wallMs();
    return Promise.resolve(
      topics.flatMap((topic) => {
        const message = this.#local.get(topic);
        if (message === undefined) return [];
        return message.expiresAtMs !== 0 && message.expiresAtMs <= nowMs ? [] : [message];
      }),
    );
  }
}
