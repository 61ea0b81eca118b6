import type { Message } from '../message.ts';
import type { Random } from '../ports/random.ts';
import { NodeRoute } from '../route/node-route.ts';
import type { SharedGroup } from '../route/route-table.ts';
import type { RouteEntry, SessionTarget, Subscription } from '../route/subscription.ts';
import { hashBytes } from '../topic/topic.ts';
import { utf8Bytes } from '../topic/utf8.ts';

/** How the member of a shared group that gets a message is chosen. */
export type SharedStrategy =
  'round-robin' | 'random' | 'sticky' | 'hash-client-id' | 'hash-topic' | 'local-first';

/** How well a member can take a message now. */
const Fitness = { None: 0, Away: 1, Unknown: 2, Behind: 3, Elsewhere: 4, Here: 5 } as const;

/**
 * Picks the one member of a shared group that gets `message` (MQTT 5.0 §4.8.2): one with a connection that can take
 * messages, else one that is connected but behind, else one that may be connected, else one that is away and whose
 * session keeps the message. `undefined` when there is none: all are away and the message has QoS 0. `locate` is called
 * for members of which it is not known whether they are connected: they should have their share.
 */
export function chooseMember(
  group: SharedGroup<RouteEntry>,
  message: Message,
  strategy: SharedStrategy,
  random: Random,
  locate: (target: SessionTarget) => void = () => undefined,
): RouteEntry | undefined {
  const { members } = group;
  const start = firstChoice(group, message, strategy, random);
  let best = -1;
  let bestFitness: number = Fitness.None;
  for (let step = 0; step < members.length; step++) {
    const index = (start + step) % members.length;
    const member = members[index]!;
    let fitness = fitnessOf(member, message);
    if (fitness === Fitness.Unknown) locate((member as Subscription).target);
    // Only this strategy cares where a member is connected.
    if (strategy !== 'local-first' && fitness === Fitness.Elsewhere) fitness = Fitness.Here;
    if (fitness <= bestFitness) continue;
    best = index;
    bestFitness = fitness;
    if (fitness === Fitness.Here) break;
  }
  if (best < 0) return undefined;
  group.cursor = strategy === 'sticky' ? best : best + 1;
  return members[best];
}

/** The same among the clean members here, for a message that was assigned to this node because it has some. */
export function chooseLocalMember(
  group: SharedGroup<RouteEntry>,
  message: Message,
  strategy: SharedStrategy,
): Subscription | undefined {
  const { members } = group;
  if (strategy === 'hash-topic' || strategy === 'hash-client-id') {
    const local = members.filter(isCleanHere);
    // Another part of the hash than the one that chose this node: each member should have its share.
    const start = Math.floor(hashFor(message, strategy) / members.length);
    const inTurn = local.map((_, step) => local[(start + step) % local.length]!);
    return inTurn.find((member) => fitnessOf(member, message) === Fitness.Here) ?? inTurn[0];
  }
  let fallback: Subscription | undefined;
  for (let step = 0; step < members.length; step++) {
    const index = (group.cursor + step) % members.length;
    const member = members[index]!;
    if (!isCleanHere(member)) continue;
    if (fitnessOf(member, message) === Fitness.Here) {
      group.cursor = index + 1;
      return member;
    }
    fallback ??= member;
  }
  return fallback;
}

/** Whether the member has a connection, or may have. */
export function isConnected(member: RouteEntry): boolean {
  if (member instanceof NodeRoute) return !member.node.gone;
  const { outbox, seenAt } = member.target;
  if (outbox !== undefined) return outbox.open;
  return seenAt !== '';
}

function fitnessOf(member: RouteEntry, message: Message): number {
  if (message.topic.local && (member instanceof NodeRoute || member.target.outbox === undefined)) {
    return Fitness.None;
  }
  if (member instanceof NodeRoute) {
    const { available, gone } = member.node;
    if (gone) return Fitness.None;
    return available ? Fitness.Elsewhere : Fitness.Behind;
  }
  const { outbox, persistent, ended, seenAt } = member.target;
  if (ended) return Fitness.None;
  if (outbox !== undefined) {
    if (!outbox.open) return persistent && message.qos > 0 && member.qos > 0 ? Fitness.Away : 0;
    return outbox.congested ? Fitness.Behind : Fitness.Here;
  }
  if (!persistent) return Fitness.None;
  if (seenAt === undefined) return Fitness.Unknown;
  if (seenAt !== '') return Fitness.Elsewhere;
  return message.qos > 0 && member.qos > 0 ? Fitness.Away : Fitness.None;
}

function firstChoice(
  group: SharedGroup<RouteEntry>,
  message: Message,
  strategy: SharedStrategy,
  random: Random,
): number {
  const count = group.members.length;
  switch (strategy) {
    case 'round-robin':
    case 'local-first':
    case 'sticky':
      return group.cursor % count;
    case 'random':
      return random.integer(count);
    case 'hash-topic':
    case 'hash-client-id':
      return hashFor(message, strategy) % count;
  }
}

function hashFor(message: Message, strategy: 'hash-topic' | 'hash-client-id'): number {
  const bytes = strategy === 'hash-topic' ? message.topic.bytes : utf8Bytes(message.publisher);
  return hashBytes(bytes, 0, bytes.length);
}

function isCleanHere(member: RouteEntry): member is Subscription {
  if (member instanceof NodeRoute) return false;
  return !member.target.persistent && member.target.outbox !== undefined;
}
