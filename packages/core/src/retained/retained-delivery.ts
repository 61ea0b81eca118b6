import { Deque } from '../delivery/deque.ts';
import type { Message } from '../message.ts';
import type { QoS } from '../packet.ts';
import type { Scheduler } from '../ports/scheduler.ts';
import type { StateStore } from '../ports/state-store.ts';
import type { RetainedIndex } from './retained-index.ts';

/** Retained messages for one new subscription [MQTT-3.3.1-9]. */
export interface RetainedRequest {
  /** The topic filter, without any `$share` prefix. */
  readonly filter: string;
  readonly qos: QoS;
  readonly identifier: number;
}

/** Where the messages go, and whether more are wanted now. */
export interface RetainedConsumer {
  readonly hungry: boolean;
  /** May decide against a message: read access is checked for each topic. */
  deliverRetained(message: Message, request: RetainedRequest): void | Promise<void>;
}

/** Messages read and delivered in one turn of the event loop. */
const SLICE = 200;

/**
 * Sends the retained messages of a connection's new subscriptions, one after the other, a slice per event-loop
 * turn and only while the connection takes them: 100,000 matches neither block others nor pile up here.
 */
export class RetainedDelivery {
  readonly #requests = new Deque<RetainedRequest>();
  readonly #index: RetainedIndex;
  readonly #store: StateStore;
  readonly #scheduler: Scheduler;
  readonly #consumer: RetainedConsumer;
  readonly #onFailure: () => void;
  #names: Iterator<string> | undefined = undefined;
  #running = false;
  #closed = false;

  constructor(
    parts: {
      readonly index: RetainedIndex;
      readonly store: StateStore;
      readonly scheduler: Scheduler;
    },
    consumer: RetainedConsumer,
    onFailure: () => void,
  ) {
    this.#index = parts.index;
    this.#store = parts.store;
    this.#scheduler = parts.scheduler;
    this.#consumer = consumer;
    this.#onFailure = onFailure;
  }

  add(request: RetainedRequest): void {
    this.#requests.push(request);
    this.resume();
  }

  /** Goes on when the consumer is hungry again. */
  resume(): void {
    if (this.#running || this.#closed || this.#requests.length === 0) return;
    if (!this.#consumer.hungry) return;
    this.#running = true;
    this.#slice().then(
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

  close(): void {
    this.#closed = true;
  }

  async #slice(): Promise<void> {
    const request = this.#requests.peek();
    if (request === undefined) return;
    this.#names ??= this.#index.match(request.filter);
    const names: string[] = [];
    while (names.length < SLICE) {
      const next = this.#names.next();
      if (next.done === true) {
        this.#requests.shift();
        this.#names = undefined;
        break;
      }
      names.push(next.value);
    }
    if (names.length === 0) return;
    for (const message of await this.#store.readRetained(names)) {
      if (this.#closed) return;
      const checked = this.#consumer.deliverRetained(message, request);
      if (checked !== undefined) await checked;
    }
  }
}
