import { encodeCommand, RedisCall } from './connection/redis-call.ts';
import type { SessionHandle } from './session-handle.ts';

const UIDS_MAX = 1_000;

/** Forgets uids of one session that were settled while the call was held back. Best effort: nobody is told. */
export class SettleBatch extends RedisCall {
  override readonly name = 'hdel';
  override readonly operation = 'settle-uid';
  readonly #seen: string;
  readonly #uids: Set<string>;

  constructor(handle: SessionHandle, uid: string) {
    super(handle.slot, false);
    this.#seen = handle.keys.seen(handle.incarnation);
    this.#uids = new Set([uid]);
  }

  has(uid: string): boolean {
    return this.#uids.has(uid);
  }

  /** Takes another uid, if there is room for it. Not after the call was sent. */
  add(uid: string): boolean {
    if (this.#uids.size >= UIDS_MAX) return false;
    this.#uids.add(uid);
    return true;
  }

  override encode(): Buffer | string {
    return encodeCommand(['HDEL', this.#seen, ...this.#uids]);
  }

  override onReply(): void {
    // Done.
  }

  override onFailure(): void {
    // They go with the session.
  }
}
