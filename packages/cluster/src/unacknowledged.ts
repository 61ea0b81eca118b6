import type { Message } from '@shoalmq/core';
import type { ItemDecoder, ItemHandler } from './item.ts';

/**
 * Gives a message to another member of a shared group (full filter). `done` is told whether it was kept; perhaps
 * at once.
 */
export type Reassign = (message: Message, group: string, done: (kept: boolean) => void) => void;

/**
 * What a dead peer has not acknowledged. Messages for members of shared groups go to other members, but not at QoS 2:
 * it may have given them to its own [MQTT-4.8.2-5]. All else died with it, or is found by others.
 */
export class Unacknowledged implements ItemHandler {
  readonly #decoder: ItemDecoder;
  readonly #reassign: Reassign;
  #open = 1;
  #kept = true;
  #finished: (kept: boolean) => void = () => undefined;

  constructor(decoder: ItemDecoder, reassign: Reassign) {
    this.#decoder = decoder;
    this.#reassign = reassign;
  }

  /** Items, as they were to be sent. */
  take(bytes: Uint8Array, start: number, end: number, count: number): void {
    this.#decoder.decode(bytes, start, end, count, this);
  }

  /** No more items come. `finished` is told whether all is kept, once that is known. */
  finish(finished: (kept: boolean) => void): void {
    this.#finished = finished;
    this.#settle(true);
  }

  onForward(message: Message, _plain: boolean, groups: readonly string[]): void {
    if (message.qos === 2 || groups.length === 0) return;
    const owned = message.owned();
    for (const group of groups) {
      this.#open += 1;
      this.#reassign(owned, group, (kept) => {
        this.#settle(kept);
      });
    }
  }

  onHint(): void {}
  onDeliverAt(): void {}
  onLooked(): void {}
  onConnected(): void {}
  onTakeOver(): void {}
  onChanged(): void {}
  onApplied(): void {}
  onSettled(): void {}
  onDigest(): void {}

  #settle(kept: boolean): void {
    if (!kept) this.#kept = false;
    this.#open -= 1;
    if (this.#open === 0) this.#finished(this.#kept);
  }
}
