import { Connection } from './connection/connection.ts';
import { Eviction } from './connection/eviction.ts';
import type { Farewell } from './connection/eviction.ts';
import type { DeliveryContext, Outbox, Owed } from './delivery/outbox.ts';
import type { QueueReader } from './delivery/queue-reader.ts';
import { Router } from './delivery/router.ts';
import type { SharedStrategy } from './delivery/shared-choice.ts';
import type { Limits } from './limits.ts';
import { Message } from './message.ts';
import type { ProtocolVersion, Will } from './packet.ts';
import type { Access, Principal } from './ports/access.ts';
import type { Channel, CloseReason, PacketEncoder } from './ports/channel.ts';
import type { Clock } from './ports/clock.ts';
import type { NodeIdentity, SharedFact } from './ports/cluster-state.ts';
import type { Peers } from './ports/peers.ts';
import type { Random } from './ports/random.ts';
import type { Scheduler } from './ports/scheduler.ts';
import type {
  DueEvents,
  DueWill,
  OwnerToken,
  QueuedMessage,
  SessionIncarnation,
  SessionRef,
  StateStore,
  StoredSubscription,
} from './ports/state-store.ts';
import { RetainedMessages } from './retained/retained-messages.ts';
import { RetainedExpiry } from './retained/retained-expiry.ts';
import { RetainedIndex } from './retained/retained-index.ts';
import { publishForm } from './route/matches.ts';
import { RouteTable } from './route/route-table.ts';
import { FilterSlice } from './route/filter-slice.ts';
import { FactDigest } from './route/fact-digest.ts';
import { SharedFacts } from './route/shared-facts.ts';
import { SessionTarget, Subscription, subscriptionWeight } from './route/subscription.ts';
import type { RouteEntry } from './route/subscription.ts';
import type { Counters, StoreOperation, WillCause } from './telemetry/counters.ts';
import { TimerWheel } from './timer-wheel.ts';
import { TurnClock } from './turn-clock.ts';
import { TopicTable } from './topic/topic.ts';
import { Turns } from './turns.ts';
import { parseShare } from './topic/share.ts';
import { utf8Bytes } from './topic/utf8.ts';

/** A client as hooks and logs see it. */
export interface ClientInfo {
  readonly clientId: string;
  readonly username: string;
  readonly remoteAddress: string;
  readonly listener: string;
  readonly protocolVersion: ProtocolVersion;
  readonly cleanStart: boolean;
  /** Seconds. */
  readonly keepAlive: number;
}

/** Something an operator may want to read about. The shell makes the log line from it. */
export type NodeReport =
  | {
      readonly event: 'connection.refused';
      readonly remoteAddress: string;
      readonly reasonCode: number;
      readonly message: string;
    }
  | {
      readonly event: 'connection.closed';
      readonly clientId: string;
      readonly remoteAddress: string;
      readonly reason: CloseReason;
      readonly message: string;
    }
  | {
      readonly event: 'client.connected';
      readonly clientId: string;
      readonly remoteAddress: string;
      readonly sessionPresent: boolean;
    }
  | { readonly event: 'session.taken_over'; readonly clientId: string }
  | {
      readonly event: 'store.failed';
      readonly operation: StoreOperation;
      readonly message: string;
    };

/** What the program around the core wants to hear about. Called synchronously; must not throw. */
export interface NodeEvents {
  connected?(client: ClientInfo): void;
  disconnected?(client: ClientInfo, reason: CloseReason): void;
  /** A client's message was accepted. The message owns its bytes. Costs a copy for each message when present. */
  published?(message: Message, clientId: string): void;
  report(report: NodeReport): void;
}

/** Everything a node is made of that is not its own. */
export interface NodeParts {
  readonly nodeId: string;
  readonly limits: Limits;
  readonly sharedStrategy: SharedStrategy;
  readonly store: StateStore;
  readonly peers: Peers;
  readonly access: Access;
  readonly clock: Clock;
  readonly random: Random;
  readonly scheduler: Scheduler;
  readonly encoder: PacketEncoder;
  readonly counters: Counters;
  readonly events: NodeEvents;
}

/** Milliseconds for which a client that makes no headway may slow its publishers down. */
const CONGESTION_GRACE_MS = 1_000;
/** Wills and session ends taken from the store in one piece. */
const DUE_LIMIT = 500;

/** Queues looked at again in one turn of the event loop. */
const RECHECKS_PER_TURN = 100;

interface Hold {
  readonly publisher: Connection;
  readonly outbox: Outbox;
  sinceMs: number;
  /** What the outbox owed at `sinceMs`. */
  owed: Owed;
}

/**
 * One broker node: its connections, the route table, the topics, and the ports to everything outside. Knows no
 * socket, no Redis and no clock of its own; the shell gives it channels (`accept`) and time (`tick`).
 */
export class Node {
  readonly parts: NodeParts;
  /** This life of the node. */
  readonly identity: NodeIdentity;
  readonly limits: Limits;
  readonly counters: Counters;
  readonly topics: TopicTable;
  readonly table: RouteTable<RouteEntry>;
  readonly retained: RetainedIndex;
  readonly retainedMessages: RetainedMessages;
  readonly #retainedExpiry: RetainedExpiry;
  readonly router: Router;
  /** What all nodes of the cluster share, as this one knows it. */
  readonly facts: SharedFacts;
  /**
   * Of all shared facts in the tables of this node but its own clean sessions, whose facts it is told; `undefined` when
   * there are no other nodes.
   */
  readonly digest: FactDigest | undefined;
  readonly delivery: DeliveryContext;
  readonly timers: TimerWheel;
  /** Turns of the event loop, for what takes longer than one may. */
  readonly turns: Turns;
  readonly turnClock: TurnClock;
  /** Connections that own a session, by client id. */
  readonly connections = new Map<string, Connection>();
  /** Connected clients that are not read because they do not read. */
  readonly choked = new Set<Connection>();
  /** Connections that handle no packet because one waits for something. */
  readonly waiting = new Set<Connection>();
  /** Connections that have claimed their session and have not sent CONNACK yet, by client id. */
  readonly opening = new Map<string, Connection>();
  /** Connections whose claim is not answered yet, by token; `true`: they have lost their session again. */
  readonly claiming = new Map<OwnerToken, boolean>();
  readonly #targets = new Map<string, SessionTarget>();
  readonly #open = new Set<Connection>();
  readonly #holds = new Map<Connection, Hold>();
  readonly #graceSpent = new Set<Outbox>();
  /** When `tick` was called last, by the monotonic clock. */
  lastTickMs = 0;
  #connectionNumber = 0;
  #takingDue = false;
  /** Wills that are being published. */
  #willsUnderWay = 0;
  #retired = false;
  #persistentRoutes = 0;

  constructor(parts: NodeParts) {
    this.parts = parts;
    this.identity = { id: parts.nodeId, incarnation: parts.random.id() };
    this.limits = parts.limits;
    this.counters = parts.counters;
    this.timers = new TimerWheel(parts.clock.monotonicMs());
    this.turns = new Turns(parts.scheduler);
    this.turnClock = new TurnClock(parts.clock, parts.scheduler);
    const seed = parts.random.integer(0x7fff_ffff);
    this.topics = new TopicTable(undefined, seed);
    this.table = new RouteTable(seed);
    const digest = parts.peers.alone ? undefined : new FactDigest();
    this.digest = digest;
    this.retained = new RetainedIndex(seed, (name) => digest?.toggleRetained(name));
    this.#retainedExpiry = new RetainedExpiry(parts.store, this.retained, parts.peers);
    this.retainedMessages = new RetainedMessages(parts.store, parts.clock);
    this.delivery = {
      encoder: parts.encoder,
      clock: parts.clock,
      counters: parts.counters,
      limits: parts.limits,
    };
    this.router = new Router(this.delivery, {
      table: this.table,
      store: parts.store,
      peers: parts.peers,
      random: parts.random,
      identity: this.identity,
      retained: this.retained,
      retainedMessages: this.retainedMessages,
      sharedStrategy: parts.sharedStrategy,
    });
    this.facts = new SharedFacts(this, this.identity);
  }

  /** Takes a new network connection. The result is what the decoder and the channel call. */
  accept(channel: Channel): Connection {
    const connection = new Connection(this, channel);
    this.#open.add(connection);
    return connection;
  }

  /**
   * Time has passed. Call a few times a second. `stalledMs`: for how long the event loop did not run before; nobody
   * is blamed for silence that we could not have heard.
   */
  tick(stalledMs: number): void {
    const nowMs = this.parts.clock.monotonicMs();
    this.lastTickMs = nowMs;
    if (stalledMs > 0) for (const connection of this.#open) connection.extendDeadlines(stalledMs);
    this.timers.advance(nowMs);
    this.#endHolds(nowMs);
    this.router.tick(nowMs);
    for (const connection of this.waiting) connection.readWhileWaiting(nowMs);
    for (const connection of this.choked) if (connection.relieved) connection.endChoke();
    void this.#takeDue();
  }

  /** Connections that are open, with or without a session. */
  get openConnections(): number {
    return this.#open.size;
  }

  /**
   * Publishes a message of the server itself (`$SYS`, which stays on this node, and embedding programs). Resolves with the reason code when it is
   * kept (P1).
   */
  async publish(message: Message): Promise<number> {
    const { reasonCode, settle } = await this.#keep(message, this.parts.random.id());
    settle();
    return reasonCode;
  }

  /** Entries of the route table by what they lead to; `elsewhere`: clean sessions of other nodes. */
  routeCounts(): { clean: number; elsewhere: number; persistent: number } {
    const persistent = this.#persistentRoutes;
    const elsewhere = this.facts.nodeRoutes;
    return { clean: this.table.size - persistent - elsewhere, elsewhere, persistent };
  }

  /** Ends every connection: DISCONNECT 0x8B to 5.0 clients. Wills are published as for any lost connection. */
  closeAll(): void {
    for (const connection of [...this.#open]) connection.shutDown();
  }

  /** Sends all connections away, also those that still come, at the pace of the caller. */
  evict(farewell: Farewell): Eviction {
    return new Eviction(this.#open, farewell, () => this.parts.clock.monotonicMs());
  }

  /** Takes on no more work of the cluster, such as wills of other nodes' clients that are due. */
  retire(): void {
    this.#retired = true;
  }

  /** Of the work that this node has taken on nothing is under way: no will that is to be published. */
  get idle(): boolean {
    return !this.#takingDue && this.#willsUnderWay === 0;
  }

  // What connections need of the node.

  nextToken(): string {
    this.#connectionNumber += 1;
    return `${this.identity.id}#${this.identity.incarnation}#${String(this.#connectionNumber)}`;
  }

  forget(connection: Connection): void {
    this.#open.delete(connection);
    this.choked.delete(connection);
    this.waiting.delete(connection);
    const hold = this.#holds.get(connection);
    if (hold !== undefined) this.#endHold(hold);
  }

  /** The persistent session as a destination; made when it is not known here yet. */
  targetOf(clientId: string, incarnation: SessionIncarnation): SessionTarget {
    const name = targetName(clientId, incarnation);
    let target = this.#targets.get(name);
    if (target === undefined) {
      target = new SessionTarget(clientId, incarnation, true);
      if (!this.parts.peers.alone) target.seenAt = undefined;
      this.#targets.set(name, target);
    }
    return target;
  }

  /** Adds or replaces a subscription in the route table. Returns whether it is new to the session. */
  addSubscription(target: SessionTarget, stored: StoredSubscription): boolean {
    const share = parseShare(stored.filter);
    if (share === 'invalid') return false;
    const known = target.subscriptions.get(stored.filter);
    const subscription = new Subscription(
      share ?? { filter: stored.filter, share: '' },
      target,
      stored,
      stored.subscriptionIdentifier,
    );
    // The new one first: a message in between may find both, never none [MQTT-3.8.4-3].
    this.table.add(subscription);
    if (known === undefined) {
      target.subscriptionWeight += subscriptionWeight(stored.filter);
      if (target.persistent) this.#persistentRoutes += 1;
    } else {
      this.table.remove(known);
      this.#toggleFact(target, stored.filter, known);
    }
    target.subscriptions.set(stored.filter, subscription);
    this.#toggleFact(target, stored.filter, subscription);
    return known === undefined;
  }

  removeSubscription(target: SessionTarget, filter: string): boolean {
    const known = target.subscriptions.get(filter);
    if (known === undefined) return false;
    this.table.remove(known);
    target.subscriptions.delete(filter);
    this.#toggleFact(target, filter, known);
    target.subscriptionWeight -= subscriptionWeight(filter);
    if (target.persistent) this.#persistentRoutes -= 1;
    return true;
  }

  /** The session has ended: nothing is routed to it any more. Many routes leave the table in later turns. */
  endTarget(target: SessionTarget): void {
    target.ended = true;
    if (target.persistent) this.#targets.delete(targetName(target.clientId, target.incarnation));
    const filters = [...target.subscriptions.keys()];
    for (const [filter, known] of target.subscriptions) this.#toggleFact(target, filter, known);
    void this.#removeRoutes(target, [...target.subscriptions.values()]);
    target.subscriptions.clear();
    target.subscriptionWeight = 0;
    this.#announceRemoved(filters, target.persistent ? target : undefined);
  }

  #toggleFact(target: SessionTarget, filter: string, { options }: Subscription): void {
    if (!target.persistent) return;
    this.digest?.toggleSession(target.clientId, target.incarnation, filter, options);
  }

  async #removeRoutes(target: SessionTarget, routes: readonly Subscription[]): Promise<void> {
    const slice = new FilterSlice();
    for (const route of routes) {
      if (slice.isUsedUpBy(route.filter)) await this.turns.next();
      this.table.remove(route);
      if (target.persistent) this.#persistentRoutes -= 1;
    }
  }

  /** A session in the store has ended, with these subscriptions. */
  endSession(session: SessionRef, subscriptions: readonly StoredSubscription[]): void {
    const target = this.#targets.get(targetName(session.clientId, session.incarnation));
    if (target !== undefined) this.endTarget(target);
    else {
      this.#announceRemoved(
        subscriptions.map(({ filter }) => filter),
        session,
      );
    }
  }

  // What other nodes tell, through the peers.

  /** A persistent session, on whatever node, has this subscription. */
  addRemoteSubscription(session: SessionRef, stored: StoredSubscription): void {
    const target = this.targetOf(session.clientId, session.incarnation);
    const known = target.subscriptions.get(stored.filter);
    if (known?.equals(stored) === true) return;
    this.router.flush();
    this.addSubscription(target, stored);
  }

  removeRemoteSubscription(session: SessionRef, filter: string): void {
    const target = this.#targets.get(targetName(session.clientId, session.incarnation));
    if (target === undefined) return;
    this.router.flush();
    this.removeSubscription(target, filter);
    if (target.subscriptions.size === 0 && target.outbox === undefined) {
      this.#targets.delete(targetName(session.clientId, session.incarnation));
    }
  }

  /** The subscriptions of persistent sessions in the route table. */
  *sessionFacts(): Generator<SharedFact> {
    for (const { clientId, incarnation, subscriptions } of this.#targets.values()) {
      for (const [filter, subscription] of subscriptions) {
        yield { kind: 'session', clientId, incarnation, filter, options: subscription.options };
      }
    }
  }

  /** Another node serves the session now: that is where hints go. */
  sessionSeenAt(session: SessionRef, nodeId: string): void {
    const target = this.#targets.get(targetName(session.clientId, session.incarnation));
    if (target !== undefined) target.seenAt = nodeId;
  }

  /** Nothing that was known of the places of sessions can be relied on, or nothing about this node. */
  forgetSeen(nodeId?: string): void {
    if (nodeId === undefined) this.router.timesForgotten += 1;
    for (const target of this.#targets.values()) {
      if (nodeId === undefined || target.seenAt === nodeId) target.seenAt = undefined;
    }
  }

  /** Another node has appended to a session's queue. False: the session is not connected here. */
  onHint(session: SessionRef, sequence: number, queued: QueuedMessage): boolean {
    const target = this.#targets.get(targetName(session.clientId, session.incarnation));
    if (target?.reader === undefined) return false;
    if (!this.parts.peers.valid) {
      // It may have moved on, and only the store knows.
      target.reader.recheck();
      return true;
    }
    this.router.flush();
    target.reader.onAppended(sequence, queued);
    return true;
  }

  /** A QoS 0 message for a persistent session. False: the session is not connected here. */
  onDeliver(
    session: SessionRef,
    message: Message,
    retain: boolean,
    subscriptionIds: readonly number[],
  ): boolean {
    const outbox = this.#targets.get(targetName(session.clientId, session.incarnation))?.outbox;
    if (outbox === undefined || !this.parts.peers.valid) return false;
    this.router.flush();
    outbox.deliver(message, publishForm(outbox.version, subscriptionIds), 0, retain, undefined);
    return true;
  }

  /** Another node's connection has claimed the session of `token`. */
  onTakeOver(clientId: string, token: OwnerToken): void {
    if (this.claiming.has(token)) this.claiming.set(token, true);
    for (const connection of [this.connections.get(clientId), this.opening.get(clientId)]) {
      if (connection?.token === token) connection.takenOver();
    }
  }

  /** Hints may have been lost: every connected persistent session looks at its queue again, a few per turn. */
  recheckQueues(): void {
    const readers: QueueReader[] = [];
    for (const { reader } of this.#targets.values()) if (reader !== undefined) readers.push(reader);
    const next = () => {
      for (const reader of readers.splice(-RECHECKS_PER_TURN)) reader.recheck();
      if (readers.length > 0) this.parts.scheduler.defer(next);
    };
    next();
  }

  #announceRemoved(filters: readonly string[], session: SessionRef | undefined): void {
    if (filters.length === 0 || this.parts.peers.alone) return;
    // Nobody waits: a route that stays too long costs an append to a session that is gone.
    void this.parts.peers.announceSubscriptions(
      filters.map((filter) => ({ change: 'remove', session, filter, options: '' })),
    );
  }

  /** Carries out what a store call found to be due. */
  carryOut(due: DueEvents, cause: WillCause): void {
    for (const ended of due.ended) this.endSession(ended, ended.subscriptions);
    for (const will of due.wills) void this.#publishWill(will, cause);
  }

  /** `publisher` reads no more until `outbox` has drained, or the grace is over. */
  hold(publisher: Connection, outbox: Outbox): boolean {
    if (outbox.graceSpent || this.#holds.has(publisher)) return false;
    outbox.holds += 1;
    const sinceMs = this.parts.clock.monotonicMs();
    this.#holds.set(publisher, { publisher, outbox, sinceMs, owed: outbox.owed });
    return true;
  }

  /** An outbox has made progress: publishers that wait for it may go on. */
  relieve(outbox: Outbox): void {
    // Every batch of every client comes by here: only those that somebody waits for may cost a look at all holds.
    if ((outbox.holds === 0 && !outbox.graceSpent) || !outbox.relieved) return;
    if (outbox.graceSpent) {
      outbox.graceSpent = false;
      this.#graceSpent.delete(outbox);
    }
    if (outbox.holds === 0) return;
    for (const hold of [...this.#holds.values()]) {
      if (hold.outbox === outbox) this.#release(hold);
    }
  }

  get holding(): boolean {
    return this.#holds.size > 0 || this.#graceSpent.size > 0;
  }

  storeFailed(operation: StoreOperation, error: unknown): void {
    this.counters.storeErrors[operation] += 1;
    this.parts.events.report({ event: 'store.failed', operation, message: String(error) });
  }

  #release(hold: Hold): void {
    this.#endHold(hold);
    hold.publisher.endHold();
  }

  #endHold(hold: Hold): void {
    this.#holds.delete(hold.publisher);
    hold.outbox.holds -= 1;
  }

  #endHolds(nowMs: number): void {
    for (const hold of [...this.#holds.values()]) {
      if (!hold.outbox.open || hold.outbox.relieved) {
        this.#release(hold);
      } else if (nowMs - hold.sinceMs < CONGESTION_GRACE_MS) {
        continue;
      } else if (hold.outbox.hasHeadwaySince(hold.owed)) {
        // Slow, but it will get there: its publishers go at its pace.
        hold.sinceMs = nowMs;
        hold.owed = hold.outbox.owed;
      } else {
        hold.outbox.graceSpent = true;
        this.#graceSpent.add(hold.outbox);
        this.#release(hold);
      }
    }
    for (const outbox of this.#graceSpent) {
      if (outbox.open && !outbox.relieved) continue;
      outbox.graceSpent = false;
      this.#graceSpent.delete(outbox);
    }
  }

  async #takeDue(): Promise<void> {
    // Whoever was taken for dead does not know all subscribers.
    if (this.#takingDue || this.#retired || !this.parts.peers.valid) return;
    this.#takingDue = true;
    try {
      const due = await this.parts.store.takeDue(DUE_LIMIT);
      this.counters.sessionEvents.expired += due.ended.length;
      this.carryOut(due, 'delay_elapsed');
      await this.#retainedExpiry.run(this.parts.clock.monotonicMs());
    } catch (error) {
      this.storeFailed('takeDue', error);
    } finally {
      this.#takingDue = false;
    }
  }

  /**
   * Publishes under `uid`: twice under one uid, a QoS 2 message is kept once. `settle` when it will not be published
   * again.
   */
  #keep(message: Message, uid: string): Promise<{ reasonCode: number; settle: () => void }> {
    const reasonCode = this.router.publish(message, undefined, message.qos === 2 ? uid : '');
    this.router.flush();
    if (reasonCode >= 0) return Promise.resolve({ reasonCode, settle: () => undefined });
    const pending = this.router.takePending();
    return new Promise((resolve, reject) => {
      pending.whenDone(() => {
        if (pending.failed) {
          reject(new Error('the message could not be kept by the store'));
          return;
        }
        const settle = () => {
          this.router.settleUid(pending, uid);
        };
        resolve({ reasonCode: pending.reasonCode, settle });
      });
    });
  }

  async #publishWill(due: DueWill, cause: WillCause): Promise<void> {
    this.#willsUnderWay += 1;
    try {
      // Whoever was taken for dead does not know all subscribers: it is handed out again, to a node that does.
      if (!this.parts.peers.valid) return;
      if (await this.#mayPublishWill(due)) {
        const { settle } = await this.#keep(this.#willMessage(due), due.uid);
        this.counters.willsPublished[cause] += 1;
        await this.parts.store.settleWill(due.clientId, due.uid);
        settle();
      } else {
        this.counters.messagesDropped.unauthorized += 1;
        await this.parts.store.settleWill(due.clientId, due.uid);
      }
    } catch (error) {
      // The will stays in the store's outbox and is handed out again.
      this.storeFailed('settleWill', error);
    } finally {
      this.#willsUnderWay -= 1;
    }
  }

  /** Rights may have been revoked since CONNECT: asked again at publication. */
  async #mayPublishWill(due: DueWill): Promise<boolean> {
    const principal: Principal = { username: due.username, unrestricted: false };
    return this.parts.access.authorize({
      principal,
      clientId: due.clientId,
      action: 'publish',
      topic: due.will.topic,
      qos: due.will.qos,
      retain: due.will.retain,
    });
  }

  #willMessage(due: DueWill): Message {
    const will: Will = due.will;
    const bytes = utf8Bytes(will.topic);
    const topic = this.topics.find(bytes, 0, bytes.length) ?? this.topics.add(will.topic, bytes);
    const message = Message.of(topic, will.payload, {
      qos: will.qos,
      retain: will.retain,
      properties: will.properties,
      publisher: due.clientId,
    });
    if (will.messageExpiryInterval !== undefined) {
      message.expiryInterval = will.messageExpiryInterval;
      message.expiresAtMs = this.parts.clock.wallMs() + will.messageExpiryInterval * 1000;
    }
    return message;
  }
}

/** Client ids are arbitrary text, incarnations are not. */
function targetName(clientId: string, incarnation: SessionIncarnation): string {
  return `${incarnation} ${clientId}`;
}
