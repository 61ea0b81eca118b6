import type { QoS, StoredSubscription } from '@shoalmq/core';

/** The options in the low bits of an entry; the subscription identifier (28 bits) stands above them. */
const QOS = 0b11;
const NO_LOCAL = 0b100;
const RETAIN_AS_PUBLISHED = 0b1000;
const RETAIN_HANDLING_UNIT = 0b1_0000;
const IDENTIFIER_UNIT = 0b100_0000;

/**
 * The subscriptions of one session, by filter: a number each, because there may be a million, and an object with six
 * fields costs 72 bytes. (Identifiers from 2^25 on make the number one that V8 allocates: 16 bytes.)
 */
export class SessionSubscriptions {
  readonly #packed = new Map<string, number>();

  /** Adds a subscription, or replaces the one with the same filter. */
  set(subscription: StoredSubscription): void {
    this.#packed.set(subscription.filter, pack(subscription));
  }

  delete(filter: string): void {
    this.#packed.delete(filter);
  }

  all(): StoredSubscription[] {
    return Array.from(this.#packed, ([filter, packed]) => unpack(filter, packed));
  }
}

function pack(subscription: StoredSubscription): number {
  return (
    subscription.qos +
    (subscription.noLocal ? NO_LOCAL : 0) +
    (subscription.retainAsPublished ? RETAIN_AS_PUBLISHED : 0) +
    subscription.retainHandling * RETAIN_HANDLING_UNIT +
    // Not a shift: it would cut the sum to 32 bits.
    subscription.subscriptionIdentifier * IDENTIFIER_UNIT
  );
}

function unpack(filter: string, packed: number): StoredSubscription {
  const options = packed % IDENTIFIER_UNIT;
  return {
    filter,
    qos: (options & QOS) as QoS,
    noLocal: (options & NO_LOCAL) !== 0,
    retainAsPublished: (options & RETAIN_AS_PUBLISHED) !== 0,
    retainHandling: Math.floor(options / RETAIN_HANDLING_UNIT) as 0 | 1 | 2,
    subscriptionIdentifier: Math.floor(packed / IDENTIFIER_UNIT),
  };
}
