import type { Peers } from '../ports/peers.ts';
import type { StateStore } from '../ports/state-store.ts';
import type { RetainedIndex } from './retained-index.ts';

/** Milliseconds between two questions to the store. */
const INTERVAL_MS = 1_000;

/**
 * Takes the names of retained messages that have expired out of the index of every node: the store forgets the messages by
 * itself, and names of which there is no end would otherwise stay for ever.
 */
export class RetainedExpiry {
  readonly #store: Pick<StateStore, 'expireRetained' | 'readRetained'>;
  readonly #index: RetainedIndex;
  readonly #peers: Pick<Peers, 'announceRetained'>;
  #nextAtMs = 0;

  constructor(
    store: Pick<StateStore, 'expireRetained' | 'readRetained'>,
    index: RetainedIndex,
    peers: Pick<Peers, 'announceRetained'>,
  ) {
    this.#store = store;
    this.#index = index;
    this.#peers = peers;
  }

  /** Some that have expired go, once in a while. Rejects when the store fails. */
  async run(nowMs: number): Promise<void> {
    if (nowMs < this.#nextAtMs) return;
    this.#nextAtMs = nowMs + INTERVAL_MS;
    const expired = await this.#store.expireRetained();
    const gone = await this.#without(expired);
    for (const topic of gone) this.#index.delete(topic);
    // Somebody may have stored a new message in between, and found the name there.
    const still = new Set(await this.#without(gone));
    for (const topic of gone) {
      if (still.has(topic)) void this.#peers.announceRetained(topic, false);
      else this.#index.add(topic);
    }
  }

  /** Those of the topics that have no retained message. */
  async #without(topics: readonly string[]): Promise<readonly string[]> {
    if (topics.length === 0) return topics;
    const present = new Set<string>();
    for (const { topic } of await this.#store.readRetained(topics)) present.add(topic.name);
    return topics.filter((topic) => !present.has(topic));
  }
}
