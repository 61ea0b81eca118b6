import type { QoS } from '../packet.ts';
import type { SessionIncarnation, SessionRef, StoredSubscription } from '../ports/state-store.ts';
import type { Outbox } from '../delivery/outbox.ts';
import type { QueueReader } from '../delivery/queue-reader.ts';
import type { Route } from './route-table.ts';

/**
 * A session as a destination of messages: what routes point to. A clean session exists as long as its connection;
 * a persistent one stays in the route table while no connection serves it, so that connecting and disconnecting
 * change no route.
 */
export class SessionTarget implements SessionRef {
  readonly clientId: string;
  incarnation: SessionIncarnation;
  /** QoS 1 and 2 messages go through the queue in the store. */
  readonly persistent: boolean;
  /** The connection's output while a connection on this node serves the session. */
  outbox: Outbox | undefined = undefined;
  /** Delivers the queue of a persistent session while a connection on this node serves it. */
  reader: QueueReader | undefined = undefined;
  /** By the full filter as the client wrote it. */
  readonly subscriptions = new Map<string, Subscription>();
  /** `subscriptionWeight` of all of them. */
  subscriptionWeight = 0;
  /** The session is over; some routes to it may still be in the table. */
  ended = false;

  constructor(clientId: string, incarnation: SessionIncarnation, persistent: boolean) {
    this.clientId = clientId;
    this.incarnation = incarnation;
    this.persistent = persistent;
  }
}

/** What a subscription weighs in memory, in bytes: its filter, and a node of the route table for each level. */
export function subscriptionWeight(filter: string): number {
  let levels = 1;
  for (let at = filter.indexOf('/'); at >= 0; at = filter.indexOf('/', at + 1)) levels += 1;
  return filter.length + 64 * levels;
}

const QOS = 0b11;
const NO_LOCAL = 0b100;
const RETAIN_AS_PUBLISHED = 0b1000;

type Options = Pick<StoredSubscription, 'qos' | 'noLocal' | 'retainAsPublished'>;

/** One subscription; an entry of the route table. Kept small: there may be a million. */
export class Subscription implements Route {
  readonly filter: string;
  readonly share: string;
  readonly target: SessionTarget;
  readonly #options: number;
  /** 0: none. */
  readonly identifier: number;

  constructor(
    route: { readonly filter: string; readonly share: string },
    target: SessionTarget,
    options: Options,
    identifier: number,
  ) {
    this.filter = route.filter;
    this.share = route.share;
    this.target = target;
    this.#options = optionBits(options);
    this.identifier = identifier;
  }

  /** Whether this is what the store has for the filter. */
  equals(stored: StoredSubscription): boolean {
    return (
      this.#options === optionBits(stored) && this.identifier === stored.subscriptionIdentifier
    );
  }

  /** The granted QoS. */
  get qos(): QoS {
    return (this.#options & QOS) as QoS;
  }
  get noLocal(): boolean {
    return (this.#options & NO_LOCAL) !== 0;
  }
  get retainAsPublished(): boolean {
    return (this.#options & RETAIN_AS_PUBLISHED) !== 0;
  }
}

function optionBits({ qos, noLocal, retainAsPublished }: Options): number {
  return qos | (noLocal ? NO_LOCAL : 0) | (retainAsPublished ? RETAIN_AS_PUBLISHED : 0);
}
