import type { QoS, StoredSubscription } from '@shoalmq/core';

/** The options of a subscription as text: QoS, No Local, Retain As Published, Retain Handling, identifier. */
export function encodeOptions(subscription: StoredSubscription): string {
  const { qos, noLocal, retainAsPublished, retainHandling, subscriptionIdentifier } = subscription;
  const flags = `${qos}${noLocal ? 1 : 0}${retainAsPublished ? 1 : 0}${retainHandling}`;
  return `${flags}${subscriptionIdentifier}`;
}

/** The subscription that `encodeOptions` was given. */
export function decodeSubscription(filter: string, options: string): StoredSubscription {
  return {
    filter,
    qos: Number(options[0]) as QoS,
    noLocal: options[1] === '1',
    retainAsPublished: options[2] === '1',
    retainHandling: Number(options[3]) as 0 | 1 | 2,
    subscriptionIdentifier: Number(options.slice(4)),
  };
}
