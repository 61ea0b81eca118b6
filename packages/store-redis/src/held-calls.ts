import type { RedisCall } from './connection/redis-call.ts';
import type { SessionHandle } from './session-handle.ts';

/**
 * Removals and settled uids that are held back for a moment, so that one script removes what a client acknowledges in
 * that time: a script for each message would be most of the work of Redis.
 *
 * Nobody can see the delay: any call for the session whose result could depend on it sends what is held first. (A native
 * append cannot: it neither looks at bounds nor at uids.) Only a node that dies forgets what it held, and then the next
 * connection gets those messages again, as duplicates.
 */
export class HeldCalls {
  readonly #send: (call: RedisCall) => void;
  readonly #holdMs: number;
  readonly #handles = new Set<SessionHandle>();
  #timer: NodeJS.Timeout | undefined = undefined;

  constructor(send: (call: RedisCall) => void, holdMs: number) {
    this.#send = send;
    this.#holdMs = holdMs;
  }

  /** The handle holds something that it did not hold before. */
  add(handle: SessionHandle): void {
    if (this.#holdMs === 0) {
      this.release(handle);
      return;
    }
    this.#handles.add(handle);
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      this.releaseAll();
    }, this.#holdMs);
  }

  /** Sends what is held for the session. */
  release(handle: SessionHandle): void {
    const { heldRemovals, heldUids } = handle;
    handle.heldRemovals = handle.heldUids = undefined;
    this.#handles.delete(handle);
    if (heldRemovals !== undefined) this.#send(heldRemovals);
    if (heldUids !== undefined) this.#send(heldUids);
  }

  releaseAll(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    for (const handle of this.#handles) this.release(handle);
  }
}
