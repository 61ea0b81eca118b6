import type { QoS } from '../packet.ts';
import type { SessionIncarnation, SessionRef, StoredSubscription } from '../ports/state-store.ts';
import type { Outbox } from '../delivery/outbox.ts';
import type { QueueReader } from '../delivery/queue-reader.ts';
import type { NodeRoute } from './node-route.ts';
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
  /**
   * Id of the other node that serves the session, '' for none, `undefined` when that is not known. Kept for
   * persistent sessions that are not connected here.
   */
  seenAt: string | undefined = '';
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

  /** As text, for other nodes. Retain Handling is over once SUBSCRIBE was handled. */
  get options(): string {
    return packOptions({ ...this.stored, retainHandling: 0 });
  }

  get stored(): StoredSubscription {
    return {
      filter: this.share === '' ? this.filter : `$share/${this.share}/${this.filter}`,
      qos: this.qos,
      noLocal: this.noLocal,
      retainAsPublished: this.retainAsPublished,
      retainHandling: 0,
      subscriptionIdentifier: this.identifier,
    };
  }
}

/** What the route table holds: subscriptions of sessions, and other nodes that have clean sessions subscribed. */
export type RouteEntry = Subscription | NodeRoute;

/** The options of a subscription as text, for other nodes; `unpackOptions` reads it. */
export function packOptions(stored: StoredSubscription): string {
  const flags =
    stored.qos |
    (stored.noLocal ? NO_LOCAL : 0) |
    (stored.retainAsPublished ? RETAIN_AS_PUBLISHED : 0) |
    (stored.retainHandling << 4);
  return `${String(flags)} ${String(stored.subscriptionIdentifier)}`;
}

export function unpackOptions(filter: string, options: string): StoredSubscription {
  const space = options.indexOf(' ');
  const flags = Number(options.slice(0, space));
  return {
    filter,
    qos: (flags & QOS) as QoS,
    noLocal: (flags & NO_LOCAL) !== 0,
    retainAsPublished: (flags & RETAIN_AS_PUBLISHED) !== 0,
    retainHandling: ((flags >> 4) & 3) as 0 | 1 | 2,
    subscriptionIdentifier: Number(options.slice(space + 1)),
  };
}

function optionBits({ qos, noLocal, retainAsPublished }: Options): number {
  return qos | (noLocal ? NO_LOCAL : 0) | (retainAsPublished ? RETAIN_AS_PUBLISHED : 0);
}
