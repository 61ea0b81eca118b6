import type { SessionRef } from '@shoalmq/core';

/** Milliseconds until it is looked again where a session is. */
const RETRY_MS = 100;

/**
 * Hints that found nobody. The store names a dead node as the owner of its sessions until it is buried, and a node whose
 * client is still connecting as the owner before it takes hints: asked again at once, it would name them again, without
 * end. One hint for a session is enough: who gets it finds the others in the queue.
 */
export class HintRetries {
  readonly #waiting = new Map<string, () => void>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Calls the `notHere` of one of the session's hints in a while. */
  add({ clientId, incarnation }: SessionRef, notHere: () => void): void {
    const key = `${incarnation} ${clientId}`;
    if (this.#closed || this.#waiting.has(key)) return;
    this.#waiting.set(key, notHere);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      const waiting = [...this.#waiting.values()];
      this.#waiting.clear();
      for (const retry of waiting) retry();
    }, RETRY_MS);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#waiting.clear();
  }
}
