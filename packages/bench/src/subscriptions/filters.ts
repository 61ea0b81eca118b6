import type { StoredSubscription } from '@shoalmq/core';

/**
 * The filter number `index` of a large installation: all are different, none matches a `rotatingTopics` topic. Of
 * ten in a row, those below `wildcardPercent / 10` have wildcards, every other one of them on the path of the
 * topics until its last level.
 */
export function uniqueFilter(index: number, wildcardPercent: number): string {
  const device = `device-${String(index).padStart(7, '0')}`;
  const site = String(index % 1000).padStart(4, '0');
  const text =
    (index % 10) * 10 >= wildcardPercent
      ? `site/${site}/line/${device}/temperature`
      : index % 20 < 10
        ? `site/${site}/+/${device}/temperature`
        : `plant/+/line/press/${device}`;
  // One string of one byte per character, as the decoder makes them; a template is a tree of its parts.
  return Buffer.from(text).toString();
}

/** A subscription to `filter` as the core makes it from a SUBSCRIBE. */
export function subscriptionTo(filter: string): StoredSubscription {
  return {
    filter,
    qos: 1,
    noLocal: false,
    retainAsPublished: false,
    retainHandling: 0,
    subscriptionIdentifier: 0,
  };
}
