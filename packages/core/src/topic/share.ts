const PREFIX = '$share/';

/** A Shared Subscription: which group shares the messages of which filter. */
export interface SharedSubscription {
  readonly share: string;
  readonly filter: string;
}

/**
 * Takes `$share/<share name>/<filter>` apart; `undefined`: not a Shared Subscription (the prefix is case
 * sensitive). `'invalid'`: no or an empty share name or filter [MQTT-4.8.2-1], a wildcard in the share name
 * [MQTT-4.8.2-2], or a Shared Subscription inside another. The filter inside is for the caller to check.
 */
export function parseShare(filter: string): SharedSubscription | 'invalid' | undefined {
  if (!filter.startsWith(PREFIX)) return undefined;
  const slash = filter.indexOf('/', PREFIX.length);
  if (slash < 0) return 'invalid';
  const share = filter.slice(PREFIX.length, slash);
  const inner = filter.slice(slash + 1);
  if (share === '' || share.includes('+') || share.includes('#')) return 'invalid';
  if (inner === '' || inner.startsWith(PREFIX)) return 'invalid';
  return { share, filter: inner };
}
