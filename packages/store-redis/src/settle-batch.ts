import { encodeCommand, RedisCall } from './connection/redis-call.ts';
import type { SessionHandle } from './session-handle.ts';

const UIDS_MAX = 1_000;

/** Forgets uids of one session that are settled in one turn of the event loop. Best effort: nobody is told. */
export class SettleBatch extends RedisCall {
  override readonly name = 'srem';
  readonly #seen: string;
  readonly #uids: string[];

  constructor(handle: SessionHandle, uid: string) {
    super(handle.slot, false);
    this.#seen = handle.keys.seen(handle.incarnation);
    this.#uids = [uid];
  }

  /** Takes another uid, if this call was not sent and has room for it. */
  add(uid: string): boolean {
    if (this.attempts > 0 || this.#uids.length >= UIDS_MAX) return false;
    this.#uids.push(uid);
    return true;
  }

  override encode(): Buffer | string {
    return encodeCommand(['SREM', this.#seen, ...this.#uids]);
  }

  override onReply(): void {
    // Done.
  }

  override onFailure(): void {
    // They go with the session.
  }
}
