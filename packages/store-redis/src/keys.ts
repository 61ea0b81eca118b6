import { textHash } from './text-hash.ts';

/** Buckets of timers and of retained messages. */
export const BUCKETS = 64;

/** Every key in Redis. In a cluster the keys of one tag (in braces) are on one server. */
export interface Keys {
  /** Facts of the route table in a bucket, and their log. */
  readonly facts: (bucket: number) => string;
  readonly factLog: (bucket: number) => string;
  /** Leases of the nodes; what names the contents of the store. */
  readonly nodes: () => string;
  readonly generation: () => string;
  /** A part of the connections of one life of a node, `owner` being `<node>#<incarnation>`. */
  readonly connections: (owner: string, part: number) => string;
  /** Client ids that have something due, by when: sorted set of encoded client ids. */
  readonly timers: (bucket: number) => string;
  /** Retained messages by topic; those that expire, by when; number and bytes. */
  readonly retained: (bucket: number) => string;
  readonly retainedExpiries: (bucket: number) => string;
  readonly retainedTotals: (bucket: number) => string;
  readonly session: (clientId: string) => SessionKeys;
}

/** The keys of one client id. All have one tag, so that one script can work on them. */
export interface SessionKeys {
  readonly session: string;
  readonly subscriptions: string;
  readonly outgoing: string;
  readonly incoming: string;
  readonly wills: string;
  /** The end of a session that may not have been heard of yet, and its subscriptions. */
  readonly end: string;
  readonly endedSubscriptions: string;
  readonly queue: (incarnation: string) => string;
  readonly seen: (incarnation: string) => string;
}

/** The keys of the cluster that uses this prefix. */
export function keysOf(prefix: string): Keys {
  return {
    facts: (bucket) => `${prefix}{f${String(bucket)}}:facts`,
    factLog: (bucket) => `${prefix}{f${String(bucket)}}:log`,
    nodes: () => `${prefix}{nodes}:nodes`,
    generation: () => `${prefix}{nodes}:generation`,
    connections: (owner, part) => `${prefix}{c${encodeText(owner)}:${String(part)}}:connections`,
    timers: (bucket) => `${prefix}{t${String(bucket)}}:timers`,
    retained: (bucket) => `${prefix}{r${String(bucket)}}:retained`,
    retainedExpiries: (bucket) => `${prefix}{r${String(bucket)}}:expiries`,
    retainedTotals: (bucket) => `${prefix}{r${String(bucket)}}:totals`,
    session: (clientId) => sessionKeys(`${prefix}{s${encodeText(clientId)}}:`),
  };
}

/**
 * Text as part of a key: a client id may contain `}` or `:`, and could otherwise choose its slot or be another's key.
 */
export function encodeText(text: string): string {
  return Buffer.from(text).toString('base64url');
}

/** Undoes `encodeText`. */
export function decodeText(encoded: string): string {
  return Buffer.from(encoded, 'base64url').toString();
}

/** The bucket of a client id or topic. */
export function bucketOf(text: string): number {
  return textHash(text) % BUCKETS;
}

function sessionKeys(base: string): SessionKeys {
  return {
    session: `${base}session`,
    subscriptions: `${base}subs`,
    outgoing: `${base}outgoing`,
    incoming: `${base}incoming`,
    wills: `${base}wills`,
    end: `${base}end`,
    endedSubscriptions: `${base}ended-subs`,
    queue: (incarnation) => `${base}queue:${incarnation}`,
    seen: (incarnation) => `${base}seen:${incarnation}`,
  };
}
