import type { FencedResult } from '@shoalmq/core';
import { RedisCall } from './connection/redis-call.ts';
import type { RedisReply } from './connection/redis-call.ts';
import type { StoreError } from './errors.ts';
import type { SessionHandle } from './session-handle.ts';
import { removeScript } from './session-scripts.ts';

/** As many sequences as one run of the script takes. */
export const REMOVED_MAX = 1_000;

/** Removes what the owner of a session removed from its queue while the call was held back. */
export class RemoveBatch extends RedisCall {
  override readonly name = 'evalsha';
  override readonly operation = 'remove';
  readonly token: string;
  readonly result: Promise<FencedResult>;
  readonly #handle: SessionHandle;
  readonly #generation: number;
  readonly #sequences: number[];
  #resolve!: (result: FencedResult) => void;
  #reject!: (error: StoreError) => void;

  constructor(
    handle: SessionHandle,
    token: string,
    sequences: readonly number[],
    generation: number,
  ) {
    super(handle.slot, true);
    this.token = token;
    this.#handle = handle;
    this.#generation = generation;
    this.#sequences = [...sequences];
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  get size(): number {
    return this.#sequences.length;
  }

  /** Takes more sequences, if there is room for them. Not after the call was sent. */
  add(sequences: readonly number[]): boolean {
    if (this.size + sequences.length > REMOVED_MAX) return false;
    for (const sequence of sequences) this.#sequences.push(sequence);
    return true;
  }

  override encode(): Buffer | string {
    const { keys, incarnation } = this.#handle;
    return removeScript.encode(
      this,
      [keys.session, keys.queue(incarnation), keys.outgoing],
      [incarnation, this.token, this.#generation, ...this.#sequences],
    );
  }

  override onReply(reply: RedisReply): void {
    this.#resolve(reply === 1 ? 'ok' : 'fenced');
  }

  override onFailure(error: StoreError): void {
    this.#reject(error);
  }
}
