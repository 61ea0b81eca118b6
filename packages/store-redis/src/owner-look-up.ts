import type { OwnerToken } from '@shoalmq/core';
import { encodeCommand, RedisCall } from './connection/redis-call.ts';
import type { RedisReply } from './connection/redis-call.ts';
import type { SessionHandle } from './session-handle.ts';

/** Asks for the connection that owns a session; behind the appends that were made before it, like every call. */
export class OwnerLookUp extends RedisCall {
  override readonly name = 'hmget';
  override readonly operation = 'owner';
  readonly #handle: SessionHandle;
  readonly #done: (token: OwnerToken | undefined, replaced?: boolean) => void;

  constructor(
    handle: SessionHandle,
    done: (token: OwnerToken | undefined, replaced?: boolean) => void,
  ) {
    // Durable, so that it is answered after those appends also when replicas must confirm them.
    super(handle.slot, true);
    this.#handle = handle;
    this.#done = done;
  }

  override encode(): Buffer | string {
    return encodeCommand(['HMGET', this.#handle.keys.session, 'incarnation', 'token']);
  }

  override onReply(reply: RedisReply): void {
    const [incarnation, token] = reply as readonly (Buffer | null)[];
    const owner = String(token ?? '');
    if (String(incarnation) === this.#handle.incarnation) this.#done(owner, false);
    else this.#done('', owner !== '');
  }

  override onFailure(): void {
    this.#done(undefined, false);
  }
}
