import type { SubscribePacket, SubscribeRequest, UnsubscribePacket } from '../packet.ts';
import type { StoredSubscription } from '../ports/state-store.ts';
import { ReasonCode } from '../reason-code.ts';
import { FilterSlice } from '../route/filter-slice.ts';
import { packOptions, subscriptionWeight } from '../route/subscription.ts';
import type { SessionTarget } from '../route/subscription.ts';
import { topicFilterProblem } from '../topic/filter.ts';
import { parseShare } from '../topic/share.ts';
import type { Connection } from './connection.ts';

/** The subscriptions of a client may weigh this many bytes each, on average. A usual one weighs 400. */
const WEIGHT_MAX = 1_024;

/**
 * Handles SUBSCRIBE: each filter is judged on its own, the accepted ones hold on every node before SUBACK leaves
 * (P4), retained messages follow. [MQTT-3.8.4-1]
 */
export async function subscribe(connection: Connection, packet: SubscribePacket): Promise<void> {
  const { node } = connection;
  const target = connection.target!;
  const reasonCodes: number[] = [];
  const accepted: StoredSubscription[] = [];
  const fresh = new Set<string>();
  let freshWeight = 0;
  const { subscriptionsMax } = node.limits;
  const slice = new FilterSlice();
  for (const request of packet.requests) {
    if (slice.isUsedUpBy(request.filter)) await node.turns.next();
    let reasonCode = judgeFilter(request, node.limits.topicLevelsMax);
    if (
      reasonCode < 0x80 &&
      !connection.principal!.unrestricted &&
      !(await mayUse(connection, request))
    ) {
      reasonCode = ReasonCode.NotAuthorized;
    }
    if (connection.closed) return;
    // As if each filter had come in a packet of its own: a filter given twice is one [MQTT-3.8.4-5].
    if (
      reasonCode < 0x80 &&
      !target.subscriptions.has(request.filter) &&
      !fresh.has(request.filter)
    ) {
      const weight = subscriptionWeight(request.filter);
      if (
        target.subscriptions.size + fresh.size >= subscriptionsMax ||
        target.subscriptionWeight + freshWeight + weight > subscriptionsMax * WEIGHT_MAX
      ) {
        reasonCode = ReasonCode.QuotaExceeded;
      } else {
        fresh.add(request.filter);
        freshWeight += weight;
      }
    }
    reasonCodes.push(reasonCode);
    if (reasonCode < 0x80) {
      accepted.push({
        filter: request.filter,
        qos: request.qos,
        noLocal: request.noLocal,
        retainAsPublished: request.retainAsPublished,
        retainHandling: request.retainHandling,
        subscriptionIdentifier: packet.subscriptionIdentifier,
      });
    }
  }
  if (connection.closed || !(await store(connection, target, accepted, []))) return;
  if (accepted.some(({ noLocal }) => noLocal)) connection.wantsNoLocal = true;
  // Messages that were published before must not be sent under the new subscriptions.
  node.router.flush();
  const created: boolean[] = [];
  for (const subscription of accepted) {
    if (slice.isUsedUpBy(subscription.filter) && !(await nextTurn(connection))) return;
    created.push(node.addSubscription(target, subscription));
  }
  await node.parts.peers.announceSubscriptions(
    accepted
      // What a clean session replaces is there already, for the other nodes.
      .filter((_subscription, index) => target.persistent || created[index] === true)
      .map((subscription) => ({
        change: 'add',
        session: target.persistent ? target : undefined,
        filter: subscription.filter,
        options: target.persistent ? packOptions(subscription) : '',
      })),
  );
  const joined = accepted.some(
    ({ filter }, index) => created[index] === true && parseShare(filter) !== undefined,
  );
  // A member of a shared group gets its share from every node only when they know that it is connected.
  if (joined && target.persistent) await node.parts.peers.announceConnected(target);
  connection.send({
    kind: 'suback',
    packetId: packet.packetId,
    reasonCodes,
    ...connection.problem(firstProblem(packet, reasonCodes, node.limits.topicLevelsMax)),
  });
  accepted.forEach((subscription, index) => {
    // Retained messages are not sent to shared subscriptions (MQTT 5.0 §4.8.2).
    if (parseShare(subscription.filter) !== undefined) return;
    const isNew = created[index] === true;
    if (subscription.retainHandling === 2 || (subscription.retainHandling === 1 && !isNew)) return;
    connection.startRetained({
      filter: subscription.filter,
      qos: subscription.qos,
      identifier: subscription.subscriptionIdentifier,
    });
  });
}

/** Handles UNSUBSCRIBE: filters are compared character by character [MQTT-3.10.4-1]. */
export async function unsubscribe(
  connection: Connection,
  packet: UnsubscribePacket,
): Promise<void> {
  const { node } = connection;
  const target = connection.target!;
  const removed = [...new Set(packet.filters)].filter((filter) => target.subscriptions.has(filter));
  if (!(await store(connection, target, [], removed))) return;
  node.router.flush();
  const slice = new FilterSlice();
  const reasonCodes: number[] = [];
  for (const filter of packet.filters) {
    if (slice.isUsedUpBy(filter) && !(await nextTurn(connection))) return;
    const existed = node.removeSubscription(target, filter);
    reasonCodes.push(existed ? ReasonCode.Success : ReasonCode.NoSubscriptionExisted);
    if (existed) connection.endRetained(filter);
  }
  await node.parts.peers.announceSubscriptions(
    removed.map((filter) => ({
      change: 'remove',
      session: target.persistent ? target : undefined,
      filter,
      options: '',
    })),
  );
  connection.send({ kind: 'unsuback', packetId: packet.packetId, reasonCodes });
}

/** Why the first of the filters that are refused is, in words. */
function firstProblem(
  packet: SubscribePacket,
  reasonCodes: readonly number[],
  levelsMax: number,
): string | undefined {
  const index = reasonCodes.findIndex((reasonCode) => reasonCode >= 0x80);
  if (index < 0) return undefined;
  const { filter } = packet.requests[index]!;
  switch (reasonCodes[index]) {
    case ReasonCode.TopicFilterInvalid: {
      const share = parseShare(filter);
      if (share === 'invalid') return 'not a shared subscription: $share/<name>/<filter>';
      return topicFilterProblem(share === undefined ? filter : share.filter, levelsMax);
    }
    case ReasonCode.QuotaExceeded:
      return 'too many subscriptions';
    default:
      return 'not authorized';
  }
}

/** Waits for a turn to go on in. False: the connection has ended. */
async function nextTurn(connection: Connection): Promise<boolean> {
  await connection.node.turns.next();
  connection.node.router.flush();
  return !connection.closed;
}

/** The granted QoS, or why the filter is refused. */
function judgeFilter(request: SubscribeRequest, levelsMax: number): number {
  const share = parseShare(request.filter);
  if (share === 'invalid') return ReasonCode.TopicFilterInvalid;
  const filter = share === undefined ? request.filter : share.filter;
  if (topicFilterProblem(filter, levelsMax) !== undefined) return ReasonCode.TopicFilterInvalid;
  return request.qos;
}

/** Asks whether the client may have this subscription; of a shared one, whether it may have the filter inside. */
export async function mayUse(
  connection: Connection,
  request: Pick<SubscribeRequest, 'filter' | 'qos'>,
): Promise<boolean> {
  if (connection.principal!.unrestricted) return true;
  const share = parseShare(request.filter);
  if (share === 'invalid') return false;
  const filter = share === undefined ? request.filter : share.filter;
  return connection.authorize('subscribe', filter, request.qos, false);
}

/** Writes the change to the store when the session is persistent. False: the connection has ended. */
async function store(
  connection: Connection,
  target: SessionTarget,
  added: readonly StoredSubscription[],
  removed: readonly string[],
): Promise<boolean> {
  if (!target.persistent || (added.length === 0 && removed.length === 0)) {
    return !connection.closed;
  }
  const { node } = connection;
  try {
    const result = await node.parts.store.changeSubscriptions(
      target,
      connection.token,
      added,
      removed,
    );
    if (result === 'fenced') connection.storeLost('fenced');
  } catch (error) {
    node.storeFailed('changeSubscriptions', error);
    connection.storeLost('failed');
  }
  return !connection.closed;
}
