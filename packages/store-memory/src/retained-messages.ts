import { retainedNameWeight } from '@shoalmq/core';
import type { Message } from '@shoalmq/core';
import type { Timed } from './timer-heap.ts';
import { TimerHeap } from './timer-heap.ts';

/** What bounds the retained messages: their number, and bytes of topic name, payload, properties and index. */
export interface RetainedLimits {
  readonly retainedMessagesMax: number;
  readonly retainedBytesMax: number;
}

/** Expired ones that go at a time. */
const EXPIRED_MAX = 400;

/** The retained messages, one per topic name. Expired ones go when somebody looks, and when room is needed. */
export class RetainedMessages {
  readonly #limits: RetainedLimits;
  readonly #byTopic = new Map<string, Retained>();
  readonly #expiring = new TimerHeap<Retained>();
  #bytes = 0;
  /** Topics whose message expired and went, and nobody was told. */
  #expired: string[] = [];

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
      this.#forgetExpired(expired);
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
    this.#forgetExpired(retained);
    return undefined;
  }

  /** Removes some of those that have expired; returns the topics of all that have gone since the last call. */
  expire(nowMs: number): readonly string[] {
    for (let count = 0; count < EXPIRED_MAX; count++) {
      const expired = this.#expiring.takeDue(nowMs);
      if (expired === undefined) break;
      this.#forgetExpired(expired);
    }
    const topics = this.#expired;
    this.#expired = [];
    return topics;
  }

  #fits(bytes: number, previous: Retained | undefined): boolean {
    const freed = previous === undefined ? 0 : retainedBytes(previous.message);
    const count = this.#byTopic.size + (previous === undefined ? 1 : 0);
    return (
      count <= this.#limits.retainedMessagesMax &&
      this.#bytes - freed + bytes <= this.#limits.retainedBytesMax
    );
  }

  #forgetExpired(retained: Retained): void {
    this.#expired.push(retained.message.topic.name);
    this.#forget(retained);
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

/** Neither a long topic name, nor many levels, nor user properties are a way around the limit. */
function retainedBytes(message: Message): number {
  const { payloadBytes, properties, topic } = message;
  return payloadBytes + properties.length + topic.bytes.length + retainedNameWeight(topic.name);
}
