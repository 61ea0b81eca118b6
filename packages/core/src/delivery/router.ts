import type { Message } from '../message.ts';
import type { QoS } from '../packet.ts';
import type { AppendResult, QueuedMessage, StateStore } from '../ports/state-store.ts';
import type { NodeIdentity } from '../ports/cluster-state.ts';
import type { Random } from '../ports/random.ts';
import { nodeOfToken } from '../ports/peers.ts';
import type { Peers } from '../ports/peers.ts';
import { ReasonCode } from '../reason-code.ts';
import type { RetainedIndex } from '../retained/retained-index.ts';
import { Own, matchesOf, publishForm } from '../route/matches.ts';
import type { DeliveryGroup, Matches, PersistentDelivery } from '../route/matches.ts';
import type { RouteTable, SharedGroup } from '../route/route-table.ts';
import { NodeRoute } from '../route/node-route.ts';
import type { NodeTarget } from '../route/node-route.ts';
import type { RouteEntry, SessionTarget, Subscription } from '../route/subscription.ts';
import { readUid, uidWithAssignment } from './assignment.ts';
import type { Assignee, Assignment } from './assignment.ts';
import { GivenUids } from './given-uids.ts';
import { LateSettles } from './late-settles.ts';
import { chooseLocalMember, chooseMember, isConnected } from './shared-choice.ts';
import type { SharedStrategy } from './shared-choice.ts';
import { PendingPublish } from './pending-publish.ts';
import { Run } from './run.ts';
import { UnsentMessages } from './unsent-messages.ts';
import { SHARED_PAYLOAD_BYTES_MIN } from './outbox.ts';
import type { DeliveryContext, Outbox } from './outbox.ts';

/** Somebody who publishes and can be slowed down. */
export interface Publisher {
  /** Where the last message went: the client id of its only receiver, or its topic. */
  readonly feeding: string;
  /** This message goes elsewhere than the last one. */
  feeds(receivers: string): void;
  /**
   * Nobody who got the last message keeps up, `outbox` among them: read less from this publisher until that one does,
   * unless others wait for what it publishes.
   */
  holdFor(outbox: Outbox): void;
}

const NO_IDENTIFIERS: readonly number[] = [];
const NO_GROUPS: readonly string[] = [];
/** Nobody repeats the message: QoS 0 and 1, and QoS 2 of clean sessions. */
const UNNAMED = named('');
/** QoS 0 messages that may wait until it is known where their session is; the store may be away. */
const LOCATING_MAX = 10_000;

/** A message that has no assignment: its members are chosen when it is delivered. */
function named(id: string): Naming {
  return { id, assignment: undefined, repeated: false };
}

/**
 * Takes a message to everybody who gets it: clean sessions here in memory, persistent sessions through their
 * queues in the store, one member of each shared group, the retained store.
 */
export class Router {
  /** How often all places of sessions were forgotten. */
  timesForgotten = 0;
  readonly #context: DeliveryContext;
  readonly #table: RouteTable<RouteEntry>;
  readonly #store: StateStore;
  readonly #peers: Peers;
  readonly #random: Random;
  readonly #identity: NodeIdentity;
  readonly #givenUids = new GivenUids();
  readonly #lateSettles = new LateSettles();
  readonly #retained: RetainedIndex;
  readonly #retainedMessages: Pick<StateStore, 'retain'>;
  readonly #sharedStrategy: SharedStrategy;
  readonly #unsent: UnsentMessages;
  /** Runs in progress, one for each group of `#runMatches` with several plain members; reused. */
  readonly #runs: Run[] = [];
  #runCount = 0;
  #runMatches: Matches | undefined = undefined;
  #runQos: QoS = 0;
  #runPublisher = '';
  #pending: PendingPublish | undefined = undefined;
  /** Members of shared groups whose place is being asked for. */
  readonly #sought = new Set<SessionTarget>();
  /** Topics whose retained message is new or gone, and not every node knows that yet. */
  readonly #announcing = new Map<string, Promise<void>>();
  #locating = 0;

  constructor(
    context: DeliveryContext,
    parts: {
      readonly table: RouteTable<RouteEntry>;
      readonly store: StateStore;
      readonly peers: Peers;
      readonly random: Random;
      /** Of this node, in this life. */
      readonly identity: NodeIdentity;
      readonly retained: RetainedIndex;
      readonly retainedMessages: Pick<StateStore, 'retain'>;
      readonly sharedStrategy: SharedStrategy;
    },
  ) {
    this.#context = context;
    this.#table = parts.table;
    this.#store = parts.store;
    this.#peers = parts.peers;
    this.#random = parts.random;
    this.#identity = parts.identity;
    this.#retained = parts.retained;
    this.#retainedMessages = parts.retainedMessages;
    this.#sharedStrategy = parts.sharedStrategy;
    this.#unsent = new UnsentMessages(parts.store, (message, group, done) =>
      this.#passOn(message, group, done),
    );
  }

  /**
   * Publishes one message. Returns the reason code for the publisher when everything is done, or -1 when
   * something is not yet kept: then `takePending` has the rest. `uid` names the message at QoS 2, else ''; `repeated`:
   * a publish under this uid was begun before, here or elsewhere.
   *
   * Cost between clean sessions of this node: a look at the cached matches, and one encoding into the output of
   * the subscriber (or into a run that many subscribers share). No allocation.
   */
  publish(message: Message, from: Publisher | undefined, uid: string, repeated = false): number {
    const matches = matchesOf(this.#table, message.topic);
    const single = matches.single;
    if (single !== undefined && !message.retain && uid === '') {
      if (this.#runMatches !== undefined) this.flush();
      const group = matches.groups[0]!;
      single.deliver(
        message,
        group.form,
        message.qos < group.qos ? message.qos : group.qos,
        false,
        undefined,
      );
      if (from !== undefined) {
        if (from.feeding !== single.clientId) from.feeds(single.clientId);
        if (single.congested) from.holdFor(single);
      }
      return ReasonCode.Success;
    }
    this.#pending = undefined;
    const { name } = message.topic;
    if (from !== undefined && from.feeding !== name) from.feeds(name);
    if (message.retain) this.#retain(message);
    if (matches.empty) {
      this.#context.counters.messagesDropped.no_subscribers += 1;
      return this.#finish(ReasonCode.NoMatchingSubscribers);
    }
    const naming = uid === '' ? UNNAMED : { ...readUid(uid), repeated };
    const { id } = naming;
    const { groups, persistent, shared, nodes } = matches;
    if (groups.length > 0 && this.#giveOnce(id, '')) {
      this.#deliverToGroups(message, matches, from);
    }
    const receivers = groups.length + persistent.length + shared.length + nodes.length;
    const alone = receivers === 1 ? from : undefined;
    for (const delivery of persistent) this.#deliverToPersistent(message, delivery, alone, id);
    if (shared.length > 0) this.#deliverToAllShared(message, matches, alone, naming);
    else for (const node of nodes) this.#forward(node, message, true, NO_GROUPS, id);
    return this.#finish(ReasonCode.Success);
  }

  /**
   * The uid for a QoS 2 message that may be repeated, made of `id`: it says which members of shared groups get the
   * message, and is to be stored before `publish`.
   */
  nameMessage(message: Message, id: string): string {
    const { shared } = matchesOf(this.#table, message.topic);
    if (shared.length === 0) return id;
    const assignment = new Map<string, Assignee>();
    for (const group of shared) {
      const member = this.#choose(group, message);
      if (member !== undefined) assignment.set(fullFilter(group), this.#assigneeOf(member));
    }
    return uidWithAssignment(id, assignment);
  }

  /**
   * The publisher will not repeat the message: whoever has it may forget its uid. Later, when this was `repeated`:
   * whoever began it may still be at it.
   */
  settleUid(pending: PendingPublish, uid: string, repeated = false): void {
    const { id } = readUid(uid);
    if (!repeated) this.#settle(pending, id);
    else this.#lateSettles.add(pending, id, this.#context.clock.monotonicMs());
    if (this.#lateSettles.size === 0) return;
    this.#lateSettles.takeDue(this.#context.clock.monotonicMs(), (late, lateId) => {
      this.#settle(late, lateId);
    });
  }

  #settle(pending: PendingPublish, id: string): void {
    for (const session of pending.sessions) this.#store.settleUid(session, id);
    for (const node of pending.nodes) this.#peers.settleUid(node, id);
    if (pending.given) this.#givenUids.settle(id);
  }

  /** Another node's `settleUid`. */
  settleForwarded(id: string): void {
    this.#givenUids.settle(id);
  }

  /** What `publish` left open when it returned -1. */
  takePending(): PendingPublish {
    const pending = this.#pending!;
    this.#pending = undefined;
    return pending;
  }

  /** Ends all runs: what was gathered goes to its subscribers. Call at the end of each batch and before any other output that must not overtake messages. */
  flush(): void {
    const matches = this.#runMatches;
    if (matches === undefined) return;
    this.#runMatches = undefined;
    const { counters } = this.#context;
    for (let i = 0; i < this.#runCount; i++) {
      const run = this.#runs[i]!;
      if (run.count > 0) {
        const { qos } = run;
        const written = run.deliver((missed) => {
          counters.messagesDropped.slow_consumer += missed;
        });
        counters.publishSent[qos] += written;
        counters.publishBytesSent += run.writtenBytes;
      }
    }
    this.#runCount = 0;
  }

  /** Sends a message that a member of a shared group never got to another member (MQTT 5.0 §4.8.2). */
  redistribute(message: Message, group: SharedGroup<RouteEntry>): void {
    this.#handOn(message, (id) => {
      const node = this.#deliverToShared(message, group, undefined, named(id));
      if (node !== undefined) this.#forward(node, message, false, [fullFilter(group)], '');
    });
  }

  /**
   * Delivers outside of any publish. A member may end in the midst of one, whose acknowledgement still waits for what is
   * pending. At QoS 2 the message gets a uid, so that an append which is repeated is known as such.
   */
  #handOn(
    message: Message,
    deliver: (id: string) => void,
    done: (pending: PendingPublish) => void = () => undefined,
  ): void {
    this.flush();
    const outer = this.#pending;
    const pending = new PendingPublish();
    const id = message.qos === 2 ? this.#random.id() : '';
    this.#pending = pending;
    deliver(id);
    this.#pending = outer;
    pending.seal();
    pending.whenDone(() => {
      if (id !== '') this.#settle(pending, id);
      done(pending);
    });
  }

  /** The client of a persistent session is away: what it was never sent of shared subscriptions goes to other members, soon. */
  redistributeUnsent(target: SessionTarget): void {
    for (const { share } of target.subscriptions.values()) {
      if (share === '') continue;
      this.#unsent.add(target, this.#context.clock.monotonicMs());
      return;
    }
  }

  #choose(group: SharedGroup<RouteEntry>, message: Message): RouteEntry | undefined {
    return chooseMember(group, message, this.#sharedStrategy, this.#random, this.#locateSoon);
  }

  /** Time has passed. */
  tick(nowMs: number): void {
    this.#unsent.tick(nowMs);
  }

  /**
   * A message that was for a member of the group (full filter) on a node that is gone: another one gets it. `done` is
   * called with whether it was kept.
   */
  reassign(message: Message, name: string, done: (kept: boolean) => void): void {
    const group = matchesOf(this.#table, message.topic).shared.find(
      (candidate) => fullFilter(candidate) === name,
    );
    if (group === undefined) {
      done(true);
      return;
    }
    this.#handOn(
      message,
      (id) => {
        const node = this.#deliverToShared(message, group, undefined, named(id));
        if (node !== undefined) this.#forward(node, message, false, [name], '');
      },
      (pending) => {
        done(!pending.failed);
      },
    );
  }

  /** See `PassOn`. */
  #passOn(message: Message, name: string, done: (kept: boolean) => void): boolean {
    const group = matchesOf(this.#table, message.topic).shared.find(
      (candidate) => fullFilter(candidate) === name,
    );
    if (group === undefined) return false;
    const member = this.#choose(group, message);
    if (member === undefined || !isConnected(member)) return false;
    this.#handOn(
      message,
      (id) => {
        if (member instanceof NodeRoute) this.#forward(member.node, message, false, [name], '');
        else this.#deliverToMember(message, group, member, undefined, id);
      },
      (pending) => {
        done(!pending.failed && pending.reasonCode === ReasonCode.Success);
      },
    );
    return true;
  }

  /**
   * A message that another node published: to the clean sessions here when `plain`, and to one member here of each
   * of `groups` (full filters). Under a `uid` that was not settled each of them gets it once. The message is borrowed.
   */
  deliverForwarded(
    message: Message,
    plain: boolean,
    groups: readonly string[],
    uid: string,
  ): boolean {
    const matches = matchesOf(this.#table, message.topic);
    if (plain && this.#isNew(uid, '')) this.#deliverToGroups(message, matches, undefined);
    let wanted = plain && matches.groups.length > 0;
    if (groups.length === 0) return wanted;
    this.flush();
    for (const group of matches.shared) {
      const filter = fullFilter(group);
      wanted ||= groups.includes(filter);
      if (groups.includes(filter) && this.#isNew(uid, filter)) this.#deliverHere(message, group);
    }
    return wanted;
  }

  /** To a clean member of the group here. */
  #deliverHere(message: Message, group: SharedGroup<RouteEntry>): void {
    const member = chooseLocalMember(group, message, this.#sharedStrategy);
    // The last member here left while the message was on its way: somebody else's turn.
    if (member === undefined) this.redistribute(message.owned(), group);
    else this.#deliverToMember(message, group, member, undefined, '');
  }

  /** The message, if it has a uid, was not given to `to` here before; see `GivenUids`. */
  #isNew(uid: string, to: string): boolean {
    return uid === '' || this.#givenUids.add(uid, to);
  }

  /** The same for a message that is published here, and whose uid is settled from here. */
  #giveOnce(uid: string, to: string): boolean {
    if (uid === '') return true;
    this.#pending ??= new PendingPublish();
    this.#pending.given = true;
    return this.#givenUids.add(uid, to);
  }

  #assigneeOf(member: RouteEntry): Assignee {
    if (member instanceof NodeRoute) {
      return { nodeId: member.node.id, clientId: '', incarnation: member.node.incarnation };
    }
    const { persistent, clientId, incarnation } = member.target;
    if (persistent) return { clientId, incarnation };
    return { nodeId: this.#identity.id, clientId, incarnation: this.#identity.incarnation };
  }

  /** Delivers one retained message to one session because of a new subscription; at QoS > 0 to a persistent one through its queue. */
  deliverRetained(
    message: Message,
    target: SessionTarget,
    subscription: { readonly qos: QoS; readonly identifier: number },
  ): void {
    const outbox = target.outbox;
    if (outbox === undefined) return;
    const qos = message.qos < subscription.qos ? message.qos : subscription.qos;
    const subscriptionIds =
      subscription.identifier === 0 ? NO_IDENTIFIERS : [subscription.identifier];
    if (target.persistent && qos > 0) {
      const queued: QueuedMessage = { message, qos: qos as 1 | 2, retain: true, subscriptionIds };
      this.#append(target, queued, '', undefined);
      return;
    }
    outbox.deliver(message, publishForm(outbox.version, subscriptionIds), qos, true, undefined);
  }

  #deliverToGroups(message: Message, matches: Matches, from: Publisher | undefined): void {
    const runnable =
      !message.retain &&
      message.properties.length === 0 &&
      message.expiresAtMs === 0 &&
      message.payloadBytes < SHARED_PAYLOAD_BYTES_MIN;
    if (
      this.#runMatches !== undefined &&
      !(
        runnable &&
        this.#runMatches === matches &&
        this.#runQos === message.qos &&
        this.#runPublisher === message.publisher
      )
    ) {
      this.flush();
    }
    const groups = matches.groups;
    let full = false;
    let look = false;
    let runs = 0;
    for (let i = 0; i < groups.length; i++) {
      const group = groups[i]!;
      const qos = message.qos < group.qos ? message.qos : group.qos;
      if (runnable && group.members.length > 1 && group.own !== Own.Only) {
        const run = this.#runFor(runs, group, message, qos);
        runs += 1;
        if (run.append(message)) full = true;
        if ((run.count & 63) === 1) look = true;
        continue;
      }
      const retain = message.retain && group.retainAsPublished;
      for (const member of group.members) {
        if (group.own !== Own.Any) {
          const own = member.clientId === message.publisher;
          if (own === (group.own === Own.Skip)) continue;
        }
        member.deliver(message, group.form, qos, retain, undefined);
        look = true;
      }
    }
    if (look && from !== undefined) this.#holdWhenAllAreCongested(message, matches, from);
    if (runs > 0) {
      this.#runMatches = matches;
      this.#runCount = runs;
      this.#runQos = message.qos;
      this.#runPublisher = message.publisher;
      if (full) this.flush();
    }
  }

  #runFor(index: number, group: DeliveryGroup, message: Message, qos: QoS): Run {
    let run = this.#runs[index];
    if (run === undefined) {
      run = new Run(this.#context.encoder);
      this.#runs.push(run);
    }
    if (this.#runMatches === undefined) run.open(group, message.topic, qos, message.publisher);
    return run;
  }

  /** A slow consumer never delays others: as long as one of them keeps up, or may, the publisher goes on. */
  #holdWhenAllAreCongested(message: Message, matches: Matches, from: Publisher): void {
    if (matches.persistent.length + matches.shared.length + matches.nodes.length > 0) return;
    let congested: Outbox | undefined;
    for (const group of matches.groups) {
      for (const member of group.members) {
        if (member.congested) congested ??= member;
        else if (group.own !== Own.Skip || member.clientId !== message.publisher) return;
      }
    }
    if (congested !== undefined) from.holdFor(congested);
  }

  #deliverToPersistent(
    message: Message,
    delivery: PersistentDelivery,
    from: Publisher | undefined,
    uid: string,
  ): void {
    const { target } = delivery;
    if (
      delivery.own !== Own.Any &&
      (target.clientId === message.publisher) === (delivery.own === Own.Skip)
    ) {
      return;
    }
    const qos = message.qos < delivery.qos ? message.qos : delivery.qos;
    const retain = message.retain && delivery.retainAsPublished;
    this.#deliverTo(message, target, qos, retain, delivery.subscriptionIds, undefined, from, uid);
  }

  /** One member of each group; what goes to another node goes there in one piece. */
  #deliverToAllShared(
    message: Message,
    matches: Matches,
    from: Publisher | undefined,
    naming: Naming,
  ): void {
    const elsewhere = new Map<NodeTarget, string[]>();
    for (const group of matches.shared) {
      const node = this.#deliverToShared(message, group, from, naming);
      if (node === undefined) continue;
      const groups = elsewhere.get(node);
      if (groups === undefined) elsewhere.set(node, [fullFilter(group)]);
      else groups.push(fullFilter(group));
    }
    for (const node of matches.nodes) {
      this.#forward(node, message, true, elsewhere.get(node) ?? NO_GROUPS, naming.id);
      elsewhere.delete(node);
    }
    for (const [node, groups] of elsewhere) this.#forward(node, message, false, groups, naming.id);
  }

  #forward(
    node: NodeTarget,
    message: Message,
    plain: boolean,
    groups: readonly string[],
    uid: string,
  ): void {
    if (message.topic.local) return;
    // There it decides which member it is.
    if (groups.length > 0 && this.#sharedStrategy === 'hash-client-id') {
      message.namesPublisher = true;
    }
    if (message.qos === 0) {
      this.#peers.forward(node, message, plain, groups, '', undefined);
      return;
    }
    this.#pending ??= new PendingPublish();
    this.#pending.expect();
    if (uid !== '') this.#pending.rememberedAt(node);
    this.#peers.forward(node, message, plain, groups, uid, this.#pending);
  }

  /** Delivers to the chosen member; returns the node where that is, when it is another one. */
  #deliverToShared(
    message: Message,
    group: SharedGroup<RouteEntry>,
    from: Publisher | undefined,
    { id, assignment, repeated }: Naming,
  ): NodeTarget | undefined {
    const assigned = assignment?.get(fullFilter(group));
    let member = assigned === undefined ? undefined : this.#assignedMember(group, assigned);
    if (member === undefined) {
      // Who is gone may have got it, and what went to one member must not go to another (MQTT 5.0 §4.8.2). A group that
      // is not in an assignment came later.
      const isLater = assignment !== undefined && assigned === undefined;
      if (repeated || isLater) return undefined;
    }
    member ??= this.#choose(group, message);
    if (member === undefined) {
      this.#context.counters.messagesDropped.offline_qos0 += 1;
      return undefined;
    }
    if (member instanceof NodeRoute) return member.node;
    if (member.target.persistent || id === '') {
      this.#deliverToMember(message, group, member, from, id);
    } else if (this.#giveOnce(id, fullFilter(group))) {
      this.#deliverToMember(message, group, member, from, '');
    }
    return undefined;
  }

  /** The member to whom a message was assigned, or the node that has it. */
  #assignedMember(group: SharedGroup<RouteEntry>, assigned: Assignee): RouteEntry | undefined {
    const { nodeId, clientId, incarnation } = assigned;
    const isHere = nodeId === this.#identity.id && incarnation === this.#identity.incarnation;
    return group.members.find((member) => {
      if (member instanceof NodeRoute) {
        return member.node.id === nodeId && member.node.incarnation === incarnation;
      }
      const { target } = member;
      if (target.clientId !== clientId || target.persistent !== (nodeId === undefined))
        return false;
      return target.persistent ? target.incarnation === incarnation : isHere;
    });
  }

  #deliverToMember(
    message: Message,
    group: SharedGroup<RouteEntry>,
    member: Subscription,
    from: Publisher | undefined,
    uid: string,
  ): void {
    const qos = message.qos < member.qos ? message.qos : member.qos;
    const retain = message.retain && member.retainAsPublished;
    const subscriptionIds = member.identifier === 0 ? NO_IDENTIFIERS : [member.identifier];
    this.#deliverTo(message, member.target, qos, retain, subscriptionIds, group, from, uid);
  }

  #deliverTo(
    message: Message,
    target: SessionTarget,
    qos: QoS,
    retain: boolean,
    subscriptionIds: readonly number[],
    group: SharedGroup<RouteEntry> | undefined,
    from: Publisher | undefined,
    uid: string,
  ): void {
    if (target.persistent && qos > 0) {
      this.#pending ??= new PendingPublish();
      const queued: QueuedMessage = {
        message: message.owned(),
        qos: qos as 1 | 2,
        retain,
        subscriptionIds,
        ...(group === undefined ? {} : { group: fullFilter(group) }),
      };
      this.#append(target, queued, qos === 2 ? uid : '', this.#pending);
      return;
    }
    const outbox = target.outbox;
    if (outbox === undefined) {
      this.#deliverElsewhere(message, target, retain, subscriptionIds, group);
      return;
    }
    // Of a shared group: no member was free.
    if (from !== undefined && outbox.congested) from.holdFor(outbox);
    outbox.deliver(message, publishForm(outbox.version, subscriptionIds), qos, retain, group);
  }

  /** QoS 0 to a persistent session that is not connected here: to where it is, if anywhere. */
  #deliverElsewhere(
    message: Message,
    target: SessionTarget,
    retain: boolean,
    subscriptionIds: readonly number[],
    group: SharedGroup<RouteEntry> | undefined,
  ): void {
    // The node where the session is sends its own.
    if (message.topic.local) return;
    const { counters } = this.#context;
    if (!target.persistent || target.seenAt === '' || this.#peers.alone) {
      counters.messagesDropped.offline_qos0 += 1;
      return;
    }
    if (this.#locating >= LOCATING_MAX && target.seenAt === undefined) {
      counters.messagesDropped.offline_qos0 += 1;
      return;
    }
    const owned = message.owned();
    this.#locating += 1;
    this.#whenLocated(target, (nodeId) => {
      this.#locating -= 1;
      if (nodeId === '' && group !== undefined) {
        // It was chosen because it might have been connected.
        this.redistribute(owned, group);
        return;
      }
      if (nodeId === '' || nodeId === undefined) {
        counters.messagesDropped.offline_qos0 += 1;
        return;
      }
      this.#peers.deliverAt(nodeId, target, owned, retain, subscriptionIds, () => {
        if (target.seenAt === nodeId) target.seenAt = undefined;
        counters.messagesDropped.offline_qos0 += 1;
      });
    });
  }

  /** Tells the node that serves the session, if one does, of a new entry of its queue. */
  #hint(target: SessionTarget, sequence: number, queued: QueuedMessage, refusedBy?: string): void {
    if (this.#peers.alone || target.seenAt === '') return;
    this.#whenLocated(target, (nodeId) => {
      // It was chosen because it seemed to be connected.
      if (nodeId === '' && queued.group !== undefined) this.redistributeUnsent(target);
      // Who still counts as the owner and does not have the session has lost it: whoever claims it next reads its queue.
      if (nodeId === '' || nodeId === undefined || nodeId === refusedBy) return;
      this.#peers.hint(nodeId, target, sequence, queued, () => {
        if (target.seenAt !== nodeId) return;
        // It has moved, and its new owner may have read the queue before this entry was there: ask again.
        target.seenAt = undefined;
        this.#hint(target, sequence, queued, nodeId);
      });
    });
  }

  readonly #locateSoon = (target: SessionTarget): void => {
    if (this.#peers.alone || this.#locating >= LOCATING_MAX || this.#sought.has(target)) return;
    this.#sought.add(target);
    this.#locating += 1;
    this.#whenLocated(target, () => {
      this.#sought.delete(target);
      this.#locating -= 1;
    });
  };

  /** `found` gets the node that serves the session, '' for none, and `undefined` when nobody needs to be told. */
  #whenLocated(target: SessionTarget, found: (nodeId: string | undefined) => void): void {
    if (target.seenAt !== undefined) {
      found(target.seenAt);
      return;
    }
    const { timesForgotten } = this;
    this.#store.owner(target, (token) => {
      // Connected here in the meantime: its reader finds the entry, or was told.
      if (target.outbox !== undefined || token === undefined) {
        found(undefined);
        return;
      }
      const nodeId = token === '' ? '' : nodeOfToken(token);
      // An answer from before tells nothing of who has connected, unheard by this node, until now.
      if (timesForgotten === this.timesForgotten) target.seenAt ??= nodeId;
      found(nodeId);
    });
  }

  #append(
    target: SessionTarget,
    queued: QueuedMessage,
    uid: string,
    pending: PendingPublish | undefined,
  ): void {
    pending?.expect();
    if (uid !== '') pending?.rememberedBy(target);
    this.#store.append(target, queued, uid, (result: AppendResult) => {
      const { messagesDropped } = this.#context.counters;
      switch (result.outcome) {
        case 'kept':
          messagesDropped.queue_full += result.dropped;
          if (target.reader === undefined) this.#hint(target, result.sequence, queued);
          else target.reader.onAppended(result.sequence, queued);
          break;
        case 'full':
          messagesDropped.queue_full += 1;
          pending?.refuse(ReasonCode.QuotaExceeded);
          break;
        case 'failed':
          this.#context.counters.storeErrors.append += 1;
          pending?.fail();
          break;
        case 'duplicate':
        case 'gone':
          break;
      }
      pending?.settle();
    });
  }

  #retain(message: Message): void {
    const pending = new PendingPublish();
    this.#pending = pending;
    pending.expect();
    const owned = message.owned();
    const topic = owned.topic.name;
    this.#retainedMessages
      .retain(owned)
      .then(async ({ outcome }) => {
        if (outcome === 'full') {
          this.#context.counters.messagesDropped.quota += 1;
          pending.refuse(ReasonCode.QuotaExceeded);
          return;
        }
        const changed =
          outcome === 'kept' ? this.#retained.add(topic) : this.#retained.delete(topic);
        if (owned.topic.local) return;
        if (changed) await this.#announceRetained(topic, outcome === 'kept');
        // Somebody else's publish announced the topic, and not all nodes may know it yet.
        else await this.#announcing.get(topic);
      })
      .catch(() => {
        this.#context.counters.storeErrors.retain += 1;
        pending.fail();
      })
      .finally(() => {
        pending.settle();
      });
  }

  async #announceRetained(topic: string, exists: boolean): Promise<void> {
    const announced = this.#peers.announceRetained(topic, exists);
    this.#announcing.set(topic, announced);
    try {
      await announced;
    } finally {
      if (this.#announcing.get(topic) === announced) this.#announcing.delete(topic);
    }
  }

  /** -1 while something is open; otherwise the reason code, `reasonCode` when there was nothing to wait for. */
  #finish(reasonCode: number): number {
    const pending = this.#pending;
    if (pending === undefined) return reasonCode;
    if (!pending.seal()) return -1;
    // With a failure, or a uid to settle, the caller needs to see it.
    if (pending.failed || pending.remembered) return -1;
    this.#pending = undefined;
    return pending.reasonCode;
  }
}

/** How a message is called while it may be repeated. */
interface Naming {
  /** '': it is not. */
  readonly id: string;
  /** Who gets it in shared groups; `undefined`: that is not laid down. */
  readonly assignment: Assignment | undefined;
  readonly repeated: boolean;
}

function fullFilter({ share, filter }: SharedGroup<RouteEntry>): string {
  return `$share/${share}/${filter}`;
}
