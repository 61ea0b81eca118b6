import type { Message } from '@shoalmq/core';
import type { Timed } from './timer-heap.ts';
import { TimerHeap } from './timer-heap.ts';

/** What bounds the retained messages: their number, and bytes of topic name, payload and properties. */
export interface RetainedLimits {
  readonly retainedMessagesMax: number;
  readonly retainedBytesMax: number;
}

/** The retained messages, one per topic name. Expired ones go when somebody looks, and when room is needed. */
export class RetainedMessages {
  readonly #limits: RetainedLimits;
  readonly #byTopic = new Map<string, Retained>();
  readonly #expiring = new TimerHeap<Retained>();
  #bytes = 0;

  constructor(limits: RetainedLimits) {
    this.#limits = limits;
  }

  get size(): number {
    return this.#byTopic.size;
  }

  get bytes(): number {
    return this.#bytes;
  }

  /** Stores a message in place of the topic's previous one; false, and nothing changed, at the limits. */
  store(message: Message, nowMs: number): boolean {
    const topic = message.topic.name;
    const bytes = retainedBytes(message);
    let previous = this.#byTopic.get(topic);
    while (!this.#fits(bytes, previous)) {
      const expired = this.#expiring.takeDue(nowMs);
      if (expired === undefined) return false;
      this.#forget(expired);
      if (expired === previous) previous = undefined;
    }
    if (previous !== undefined) this.#forget(previous);
    const retained: Retained = {
      message: message.owned(),
      dueMs: message.expiresAtMs,
      heapIndex: -1,
    };
    this.#byTopic.set(topic, retained);
    this.#bytes += bytes;
    if (message.expiresAtMs !== 0) this.#expiring.add(retained);
    return true;
  }

  clear(topic: string): void {
    const retained = this.#byTopic.get(topic);
    if (retained !== undefined) this.#forget(retained);
  }

  read(topic: string, nowMs: number): Message | undefined {
    const retained = this.#byTopic.get(topic);
    if (retained === undefined) return undefined;
    const { message } = retained;
    if (message.expiresAtMs === 0 || message.expiresAtMs > nowMs) return message;
    this.#forget(retained);
    return undefined;
  }

  #fits(bytes: number, previous: Retained | undefined): boolean {
    const freed = previous === undefined ? 0 : retainedBytes(previous.message);
    const count = this.#byTopic.size + (previous === undefined ? 1 : 0);
    return (
      count <= this.#limits.retainedMessagesMax &&
      this.#bytes - freed + bytes <= this.#limits.retainedBytesMax
    );
  }

  #forget(retained: Retained): void {
    this.#expiring.remove(retained);
    this.#byTopic.delete(retained.message.topic.name);
    this.#bytes -= retainedBytes(retained.message);
  }
}

interface Retained extends Timed {
  readonly message: Message;
}

/** A long topic name or user properties must not be a way around the limit. */
function retainedBytes(message: Message): number {
  return message.payloadBytes + message.properties.length + message.topic.bytes.length;
}
