import type { HistoryRecord } from './history.ts';
import { filterMatches, groupOf } from './topic-filter.ts';

/** A rule of the checker; see `checkHistory`. */
export type HistoryRule = 'L1' | 'L2' | 'L3' | 'L4' | 'L5' | 'L6' | 'L7' | 'L8' | 'L9';

/** A line of a history that must not be. */
export interface Violation {
  readonly rule: HistoryRule;
  readonly message: string;
}

export interface CheckHistoryOptions {
  /** L8: how long two connections of one client id may overlap; one second unless told. */
  readonly overlapMsMax?: number;
  /** L9: how long after it was acknowledged, or the last fault healed, a message may take; not checked unless told. */
  readonly livenessMsMax?: number;
}

/**
 * Says what in a history breaks the promises. The records are in the order in which they happened; at their end, or at
 * `end`, nothing is under way any more.
 *
 * - L1 nothing lost: what was acknowledged at QoS 1 or 2 was delivered to every session that had subscribed before it
 *   was published, at the smaller of both QoS, unless that is 0. A session ends with the connection of a clean client:
 *   then it is owed nothing more, but there is no gap before the last message it got from a publisher on a topic.
 *   A session that somebody should have kept is there.
 * - L2 at QoS 2 a session, or a shared group, gets a message once.
 * - L3 at QoS 1 it gets a message again only as redelivery, after a fault: with DUP or on another connection, or
 *   because the publisher sent it again.
 * - L4 the first deliveries of one publisher's messages on one topic at one QoS are in the order in which they were
 *   published; at QoS 0 those of one connection. Shared subscriptions promise no order.
 * - L5 what is delivered was published, as it was published, and matches a subscription that was not revoked before.
 * - L6 a will that is due goes to every subscriber once, one that is not due to none.
 * - L7 every node gives a new subscription the same retained message: the last one acknowledged, or a later one.
 * - L8 a client id has one connection.
 * - L9 nothing hangs: what was published was answered, and what was acknowledged arrives in time.
 *
 * A client must not have two subscriptions that match one topic: then nobody can tell copies from duplicates.
 */
export function checkHistory(
  records: Iterable<HistoryRecord>,
  options: CheckHistoryOptions = {},
): Violation[] {
  const check = new HistoryCheck(options);
  let index = 0;
  for (const record of records) check.take(record, index++);
  return check.end();
}

/** Violations as lines of text, the first of each rule and how many there are. */
export function violationSummary(violations: readonly Violation[], perRuleMax = 5): string {
  const byRule = new Map<HistoryRule, string[]>();
  for (const { rule, message } of violations) {
    const messages = byRule.get(rule) ?? [];
    byRule.set(rule, messages);
    messages.push(message);
  }
  return [...byRule]
    .map(([rule, messages]) => {
      const shown = messages.slice(0, perRuleMax).map((message) => `\n  ${message}`);
      return `${rule}: ${messages.length}${shown.join('')}`;
    })
    .join('\n');
}

/** A message as its publisher knows it. Indices are places in the history; -1: never. */
interface Message {
  readonly publisher: string;
  readonly seq: number;
  /** Of the publisher, when it was written first. */
  readonly connection: number;
  readonly topic: string;
  readonly qos: 0 | 1 | 2;
  readonly retain: boolean;
  readonly hash: number;
  readonly invokedAt: number;
  /** It may be published: a will of a client that is connected or whose fate nobody knows. */
  readonly will: boolean;
  acked: boolean;
  ackedAtMs: number;
  settled: boolean;
  /** Where it was written again last. */
  resentAt: number;
  /** For a will: `ok` or `fail`. */
  due: boolean | undefined;
}

interface Subscription {
  readonly filter: string;
  readonly qos: 0 | 1 | 2;
  readonly invokedAt: number;
  ackedAt: number;
  /** UNSUBSCRIBE was written: from here on nothing is owed. */
  revokingAt: number;
  /** UNSUBACK came: what is published from here on must not arrive. */
  revokedAt: number;
}

interface Delivery {
  readonly client: string;
  readonly qos: 0 | 1 | 2;
  readonly atMs: number;
  readonly connection: number;
  readonly at: number;
}

/** What the cluster keeps for one client id, from a connection without Session Present to the next one of those. */
interface Session {
  readonly client: string;
  readonly number: number;
  readonly clean: boolean;
  readonly subscriptions: Subscription[];
  readonly deliveries: Map<Message, Delivery>;
  /** The last first delivery, by publisher, topic and QoS. */
  readonly last: Map<string, Message>;
  /** The connection of a clean session ended. */
  ended: boolean;
  /** The last time it was connected again. */
  connectedAtMs: number;
}

interface Group {
  readonly name: string;
  readonly deliveries: Map<Message, Delivery>;
}

interface ClientState {
  session: Session | undefined;
  sessions: number;
  /** Connections that are open, by number, with the time of CONNACK. */
  readonly open: Map<number, number>;
}

const NEVER = Number.MAX_SAFE_INTEGER;

class HistoryCheck {
  readonly #overlapMsMax: number;
  readonly #livenessMsMax: number | undefined;
  readonly #violations: Violation[] = [];
  readonly #messages = new Map<string, Message[]>();
  readonly #clients = new Map<string, ClientState>();
  readonly #sessions: Session[] = [];
  readonly #groups = new Map<string, Group>();
  readonly #retained = new Map<string, HistoryRecord[]>();
  /** The first fault and the end of the last one. */
  #faultAt = NEVER;
  #healedAtMs = 0;
  #over = false;

  constructor({ overlapMsMax = 1_000, livenessMsMax }: CheckHistoryOptions) {
    this.#overlapMsMax = overlapMsMax;
    this.#livenessMsMax = livenessMsMax;
  }

  take(record: HistoryRecord, at: number): void {
    if (this.#over) return;
    switch (record.op) {
      case 'connect':
        if (record.phase === 'ok') this.#connected(record);
        break;
      case 'close':
        this.#closed(record);
        break;
      case 'subscribe':
        this.#subscribe(record, at);
        break;
      case 'unsubscribe':
        this.#unsubscribe(record, at);
        break;
      case 'publish':
        this.#publish(record, at);
        break;
      case 'resend': {
        const message = this.#message(record.publisher, record.seq);
        if (message !== undefined) message.resentAt = at;
        break;
      }
      case 'deliver':
        this.#deliver(record, at);
        break;
      case 'will':
        this.#will(record, at);
        break;
      case 'retained': {
        const given = this.#retained.get(record.topic) ?? [];
        this.#retained.set(record.topic, given);
        given.push(record);
        break;
      }
      case 'fault':
        this.#faultAt = Math.min(this.#faultAt, at);
        this.#healedAtMs = Math.max(this.#healedAtMs, record.atMs);
        break;
      case 'end':
        this.#over = true;
        break;
    }
  }

  end(): Violation[] {
    const topics = new Map<string, Message[]>();
    for (const messages of this.#messages.values()) {
      // Sequences have holes where a message was never written.
      for (const message of messages as (Message | undefined)[]) {
        if (message === undefined) continue;
        const same = topics.get(message.topic) ?? [];
        topics.set(message.topic, same);
        same.push(message);
        if (!message.will && !message.settled && message.qos > 0) {
          this.#report('L9', `${named(message)} was never answered`);
        }
      }
    }
    for (const session of this.#sessions) this.#checkOwed(session, topics);
    this.#checkGroups(topics);
    this.#checkRetained(topics);
    return this.#violations;
  }

  #report(rule: HistoryRule, message: string): void {
    this.#violations.push({ rule, message });
  }

  #message(publisher: string, seq: number): Message | undefined {
    return this.#messages.get(publisher)?.[seq];
  }

  #client(id: string): ClientState {
    let client = this.#clients.get(id);
    if (client === undefined) {
      client = { session: undefined, sessions: 0, open: new Map() };
      this.#clients.set(id, client);
    }
    return client;
  }

  #connected(record: HistoryRecord): void {
    const client = this.#client(record.client);
    client.open.set(record.connection, record.atMs);
    const { session } = client;
    if (record.resumed && session !== undefined) {
      if (session.clean) this.#report('L1', `${record.client}: a clean session was resumed`);
      session.connectedAtMs = record.atMs;
      return;
    }
    if (session !== undefined && !session.clean && !record.clean && !record.fresh) {
      this.#report(
        'L1',
        `${record.client}: its session is gone on connection ${record.connection}`,
      );
    }
    this.#startSession(client, record);
  }

  #startSession(client: ClientState, record: HistoryRecord): Session {
    if (client.session !== undefined) client.session.ended = true;
    client.sessions += 1;
    const session: Session = {
      ...{ client: record.client, number: client.sessions, clean: record.clean },
      ...{ subscriptions: [], deliveries: new Map(), last: new Map(), ended: false },
      connectedAtMs: record.atMs,
    };
    client.session = session;
    this.#sessions.push(session);
    return session;
  }

  #closed(record: HistoryRecord): void {
    const client = this.#client(record.client);
    this.#checkOverlap(client, record);
    client.open.delete(record.connection);
    if (client.session?.clean && client.open.size === 0) client.session.ended = true;
  }

  /** L8, seen when an older connection shows that it is alive. */
  #checkOverlap(client: ClientState, { client: id, connection, atMs }: HistoryRecord): void {
    for (const [other, sinceMs] of client.open) {
      if (other > connection && atMs - sinceMs > this.#overlapMsMax) {
        const ms = Math.round(atMs - sinceMs);
        this.#report('L8', `${id}: connection ${connection} lives ${ms} ms beside ${other}`);
        return;
      }
    }
  }

  #subscribe(record: HistoryRecord, at: number): void {
    const { session } = this.#client(record.client);
    if (session === undefined) return;
    const { topic: filter, qos } = record;
    const current = latest(session, filter);
    if (record.phase === 'invoke') {
      // The same again changes nothing that is owed.
      if (current?.revokingAt === NEVER && current.qos === qos) return;
      if (current !== undefined) current.revokingAt = Math.min(current.revokingAt, at);
      session.subscriptions.push({
        ...{ filter, qos, invokedAt: at, ackedAt: NEVER, revokingAt: NEVER, revokedAt: NEVER },
      });
      const group = groupOf(filter);
      if (group !== undefined && !this.#groups.has(group)) {
        this.#groups.set(group, { name: group, deliveries: new Map() });
      }
    } else if (record.phase === 'ok' && current !== undefined) {
      current.ackedAt = Math.min(current.ackedAt, at);
    }
  }

  #unsubscribe(record: HistoryRecord, at: number): void {
    const { session } = this.#client(record.client);
    for (const subscription of session?.subscriptions ?? []) {
      if (subscription.filter !== record.topic) continue;
      subscription.revokingAt = Math.min(subscription.revokingAt, at);
      if (record.phase === 'ok') subscription.revokedAt = Math.min(subscription.revokedAt, at);
    }
  }

  #publish(record: HistoryRecord, at: number): void {
    const { publisher, seq } = record;
    const message = this.#message(publisher, seq);
    if (record.phase === 'invoke') {
      if (message === undefined) this.#addMessage(record, at, false);
      return;
    }
    if (message === undefined) return;
    message.settled = true;
    if (record.phase === 'ok' && !message.acked) {
      message.acked = true;
      message.ackedAtMs = record.atMs;
    }
  }

  #addMessage(record: HistoryRecord, at: number, will: boolean): Message {
    const { publisher, seq, connection, topic, qos, retain, hash } = record;
    const message: Message = {
      ...{ publisher, seq, connection, topic, qos, retain, hash, invokedAt: at, will },
      ...{ acked: false, ackedAtMs: 0, settled: false, resentAt: -1, due: undefined },
    };
    let messages = this.#messages.get(publisher);
    if (messages === undefined) this.#messages.set(publisher, (messages = []));
    messages[seq] = message;
    return message;
  }

  #will(record: HistoryRecord, at: number): void {
    const { publisher, seq, phase } = record;
    const message = this.#message(publisher, seq) ?? this.#addMessage(record, at, true);
    if (phase === 'ok' || phase === 'fail') {
      message.due = phase === 'ok';
      message.acked = message.due;
      message.ackedAtMs = record.atMs;
    }
  }

  #deliver(record: HistoryRecord, at: number): void {
    const client = this.#client(record.client);
    this.#checkOverlap(client, record);
    const what = `${record.client} on connection ${record.connection}: ${record.publisher} ${record.seq} on ${record.topic}`;
    const message = this.#message(record.publisher, record.seq);
    if (message === undefined) {
      this.#report('L5', `${what} was never published`);
      return;
    }
    if (message.topic !== record.topic || message.hash !== record.hash) {
      this.#report('L5', `${what} is not what was published (on ${message.topic})`);
      return;
    }
    if (message.due === false) this.#report('L6', `${what} is a will that was not due`);
    const session = client.session ?? this.#startSession(client, record);
    const subscription = this.#subscriptionFor(session, message);
    if (subscription === undefined) {
      this.#report('L5', `${what} matches no subscription`);
      return;
    }
    if (record.qos > Math.min(subscription.qos, message.qos)) {
      this.#report('L5', `${what} has QoS ${record.qos}`);
    }
    // What was retained before is a copy of its own, at the start of a subscription.
    if (record.retain) return;
    if (message.invokedAt > subscription.revokedAt) {
      this.#report('L5', `${what} was published after UNSUBACK of ${subscription.filter}`);
      return;
    }
    const group = groupOf(subscription.filter);
    const owner = group === undefined ? session : this.#groups.get(group)!;
    const delivery = {
      client: record.client,
      at,
      atMs: record.atMs,
      connection: record.connection,
      qos: record.qos,
    };
    const before = owner.deliveries.get(message);
    if (before === undefined) {
      owner.deliveries.set(message, delivery);
      if (group === undefined) this.#checkOrder(session, subscription, message, record, what);
    } else {
      this.#checkAgain(record, message, before, { what, group });
    }
  }

  /** L2, L3 and L6 of a message that this session or group has already. */
  #checkAgain(
    record: HistoryRecord,
    message: Message,
    before: Delivery,
    { what, group }: { readonly what: string; readonly group: string | undefined },
  ): void {
    if (record.qos === 0) {
      // At QoS 1 what the publisher sends again is another message.
      if (message.qos !== 1 || message.resentAt < 0) {
        this.#report('L3', `${what} came again at QoS 0`);
      }
      return;
    }
    // Of a shared group one member may have a lower QoS than another.
    if (record.qos === 2 && before.qos === 2) {
      const rule = message.will ? 'L6' : 'L2';
      this.#report(
        rule,
        `${what} came again, first to ${before.client} on connection ${before.connection}`,
      );
      return;
    }
    // What waits for a member of a group that is away may go to another one, and to both if that fails half way.
    const redelivery =
      group !== undefined ||
      record.dup ||
      record.connection !== before.connection ||
      message.resentAt >= 0;
    if (this.#faultAt === NEVER) this.#report('L3', `${what} came again, without any fault`);
    else if (!redelivery)
      this.#report('L3', `${what} came again, not as redelivery, first to ${before.client}`);
  }

  #checkOrder(
    session: Session,
    subscription: Subscription,
    message: Message,
    record: HistoryRecord,
    what: string,
  ): void {
    if (message.will) return;
    const key = orderKey(message, record.qos);
    const last = session.last.get(key);
    if (last === undefined || last.seq < message.seq) {
      session.last.set(key, message);
      return;
    }
    // Nobody knows when a message took effect that was given up.
    if (message.settled && !message.acked) return;
    // Who was not subscribed everywhere yet got the next ones first, and this one because it was sent again.
    if (message.resentAt >= 0 && message.invokedAt < subscription.ackedAt) return;
    // At QoS 0 what is still under way from an earlier connection of the publisher may come late.
    if (message.qos === 0 && message.connection !== last.connection) return;
    this.#report('L4', `${what} came first after ${last.seq}`);
  }

  /** The subscription that explains the message best: one that holds, else one that was revoked last. */
  #subscriptionFor(session: Session, message: Message): Subscription | undefined {
    let found: Subscription | undefined;
    for (const subscription of session.subscriptions) {
      if (!filterMatches(subscription.filter, message.topic)) continue;
      if (found === undefined || subscription.revokedAt >= found.revokedAt) found = subscription;
    }
    return found;
  }

  /** L1 and L9 of everything that is not shared. */
  #checkOwed(session: Session, topics: ReadonlyMap<string, readonly Message[]>): void {
    for (const subscription of session.subscriptions) {
      if (groupOf(subscription.filter) !== undefined) continue;
      for (const [topic, messages] of topics) {
        if (!filterMatches(subscription.filter, topic)) continue;
        for (const message of messages) {
          const qos = Math.min(message.qos, subscription.qos);
          if (!isOwed(message, subscription) || qos === 0) continue;
          const delivery = session.deliveries.get(message);
          if (delivery !== undefined) this.#checkTime(session, message, delivery);
          else if (!session.ended || this.#isGap(session, message, qos as 1 | 2)) {
            const rule = message.will ? 'L6' : 'L1';
            this.#report(
              rule,
              `${named(message)} never came to ${session.client} (${subscription.filter})`,
            );
          }
        }
      }
    }
  }

  /** A session that ended got a later message and not this one. */
  #isGap(session: Session, message: Message, qos: 1 | 2): boolean {
    const last = session.last.get(orderKey(message, qos));
    return !message.will && last !== undefined && last.seq > message.seq;
  }

  /** L9. */
  #checkTime(session: Session, message: Message, delivery: Delivery): void {
    if (this.#livenessMsMax === undefined) return;
    const since = Math.max(message.ackedAtMs, this.#healedAtMs, session.connectedAtMs);
    if (delivery.atMs - since <= this.#livenessMsMax) return;
    const ms = Math.round(delivery.atMs - since);
    this.#report('L9', `${named(message)} came to ${session.client} after ${ms} ms`);
  }

  /** L1 of shared subscriptions: somebody of the group got it. */
  #checkGroups(topics: ReadonlyMap<string, readonly Message[]>): void {
    for (const group of this.#groups.values()) {
      const members = this.#sessions.flatMap((session) =>
        session.subscriptions
          .filter(({ filter }) => groupOf(filter) === group.name)
          .map((subscription) => ({ session, subscription })),
      );
      // What was under way to a clean member that went away went with it.
      const strict = members.every(({ session }) => !session.clean || !session.ended);
      if (!strict) continue;
      for (const [topic, messages] of topics) {
        if (!filterMatches(group.name, topic)) continue;
        for (const message of messages) {
          const owed = members.some(
            ({ subscription }) =>
              isOwed(message, subscription) && Math.min(message.qos, subscription.qos) > 0,
          );
          if (owed && !group.deliveries.has(message)) {
            this.#report('L1', `${named(message)} never came to anybody of ${group.name}`);
          }
        }
      }
    }
  }

  /** L7. */
  #checkRetained(topics: ReadonlyMap<string, readonly Message[]>): void {
    for (const [topic, given] of this.#retained) {
      const [first] = given;
      if (first === undefined) continue;
      for (const { client, publisher, seq } of given) {
        if (publisher !== first.publisher || seq !== first.seq) {
          this.#report(
            'L7',
            `${topic}: ${client} has ${publisher} ${seq}, ${first.client} ${first.publisher} ${first.seq}`,
          );
        }
      }
      const last = (topics.get(topic) ?? []).filter(({ retain, acked }) => retain && acked).at(-1);
      if (last !== undefined && last.seq > first.seq) {
        this.#report('L7', `${topic}: ${named(last)} was retained, ${first.seq} is there`);
      }
    }
  }
}

/** It was acknowledged, and the subscription held before it was published, and until the end. */
function isOwed(message: Message, subscription: Subscription): boolean {
  return (
    message.acked &&
    message.due !== false &&
    subscription.ackedAt < message.invokedAt &&
    subscription.revokingAt === NEVER
  );
}

function latest(session: Session, filter: string): Subscription | undefined {
  return session.subscriptions.findLast((subscription) => subscription.filter === filter);
}

function orderKey(message: Message, deliveredQos: number): string {
  return `${message.publisher} ${message.qos} ${deliveredQos} ${message.topic}`;
}

function named({ publisher, seq, qos, topic }: Message): string {
  return `${publisher} ${seq} (QoS ${qos}, ${topic})`;
}
