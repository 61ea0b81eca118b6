import type { Message } from '../message.ts';
import type { QoS } from '../packet.ts';
import type { Scheduler } from '../ports/scheduler.ts';
import type { StateStore } from '../ports/state-store.ts';
import type { Turns } from '../turns.ts';
import type { RetainedIndex } from './retained-index.ts';

/** Retained messages for one new subscription [MQTT-3.3.1-9]. */
export interface RetainedRequest {
  /** The topic filter, without any `$share` prefix. */
  readonly filter: string;
  readonly qos: QoS;
  readonly identifier: number;
}

/** Where the messages go. */
export interface RetainedConsumer {
  /** One more message is wanted now. Who says no calls `RetainedDelivery.resume` when that has changed. */
  readonly hungry: boolean;
  /** May decide against a message: read access is checked for each topic. */
  deliverRetained(message: Message, request: RetainedRequest): void | Promise<void>;
}

/** Messages read and delivered in one turn of the event loop, at most. */
const SLICE_MAX = 200;
/** And about so many bytes of payload, judged by the slice before; the first one is small. */
const SLICE_BYTES = 1_048_576;
const FIRST_SLICE = 8;

/**
 * Sends the retained messages of a connection's new subscriptions, one after the other, a slice per event-loop
 * turn and only while the connection takes them: 100,000 matches neither block others nor pile up here.
 */
export class RetainedDelivery {
  /**
   * Those that have not begun, by filter: a filter that is subscribed again before its turn comes waits once, so that
   * there are never more than the client has subscriptions.
   */
  readonly #requests = new Map<string, RetainedRequest>();
  #current: RetainedRequest | undefined = undefined;
  readonly #index: RetainedIndex;
  readonly #store: Pick<StateStore, 'readRetained'>;
  readonly #scheduler: Scheduler;
  readonly #turns: Turns;
  readonly #consumer: RetainedConsumer;
  readonly #onFailure: () => void;
  #names: Iterator<string> | undefined = undefined;
  /** Taken from `#names` and not delivered, because the consumer had enough. */
  #left: string[] = [];
  /** How many the consumer is thought to want at a time. */
  #slice = FIRST_SLICE;
  #running = false;
  #closed = false;

  constructor(
    parts: {
      readonly index: RetainedIndex;
      readonly store: Pick<StateStore, 'readRetained'>;
      readonly scheduler: Scheduler;
      readonly turns: Turns;
    },
    consumer: RetainedConsumer,
    onFailure: () => void,
  ) {
    this.#index = parts.index;
    this.#store = parts.store;
    this.#scheduler = parts.scheduler;
    this.#turns = parts.turns;
    this.#consumer = consumer;
    this.#onFailure = onFailure;
  }

  add(request: RetainedRequest): void {
    this.#requests.set(request.filter, request);
    this.resume();
  }

  /** Forgets what was asked for because of this filter. */
  cancel(filter: string): void {
    this.#requests.delete(filter);
    if (this.#current?.filter === filter) this.#end();
  }

  /** Goes on when the consumer is hungry again. */
  resume(): void {
    if (this.#running || this.#closed || !this.#consumer.hungry) return;
    if (this.#current === undefined && this.#requests.size === 0) return;
    this.#running = true;
    this.#turns.take(() => {
      this.#run();
    });
  }

  close(): void {
    this.#closed = true;
  }

  #run(): void {
    this.#deliverSlice().then(
      () => {
        this.#scheduler.defer(() => {
          this.#running = false;
          this.resume();
        });
      },
      () => {
        this.#running = false;
        if (!this.#closed) this.#onFailure();
      },
    );
  }

  #begin(): RetainedRequest | undefined {
    for (const [filter, request] of this.#requests) {
      this.#requests.delete(filter);
      this.#names = this.#index.match(filter);
      return request;
    }
    return undefined;
  }

  #end(): void {
    this.#current = undefined;
    this.#names = undefined;
    this.#left = [];
  }

  async #deliverSlice(): Promise<void> {
    if (this.#closed) return;
    const request = (this.#current ??= this.#begin());
    if (request === undefined || this.#names === undefined) return;
    const names = this.#left.splice(0, this.#slice);
    let walked = false;
    while (names.length < this.#slice && !walked) {
      const next = this.#names.next();
      if (next.done === true) walked = true;
      else names.push(next.value);
    }
    if (names.length > 0) await this.#deliver(names, request);
    if (!walked || this.#left.length > 0) return;
    if (this.#current === request) this.#end();
  }

  async #deliver(names: readonly string[], request: RetainedRequest): Promise<void> {
    let bytes = 0;
    for (const message of await this.#store.readRetained(names)) {
      bytes += message.payloadBytes;
      if (this.#closed || this.#current !== request) return;
      if (!this.#consumer.hungry) {
        // Read again when they are wanted: by then something newer may be retained, and may have been sent.
        const delivered = names.indexOf(message.topic.name);
        this.#left = [...names.slice(delivered), ...this.#left];
        this.#slice = Math.max(delivered, 1);
        return;
      }
      const checked = this.#consumer.deliverRetained(message, request);
      if (checked !== undefined) await checked;
    }
    const fitting = Math.floor((SLICE_BYTES * names.length) / Math.max(bytes, 1));
    this.#slice = Math.max(Math.min(this.#slice * 4, SLICE_MAX, fitting), 1);
  }
}
