import type { Random } from '../ports/random.ts';
import type { SharedGroup } from '../route/route-table.ts';
import type { Subscription } from '../route/subscription.ts';
import { hashBytes } from '../topic/topic.ts';
import { utf8Bytes } from '../topic/utf8.ts';
import type { Message } from '../message.ts';

/** How the member of a shared group that gets a message is chosen. `local-first` and `round-robin` are equal on one node. */
export type SharedStrategy =
  'round-robin' | 'random' | 'sticky' | 'hash-client-id' | 'hash-topic' | 'local-first';

/**
 * Picks the one member of a shared group that gets `message` (MQTT 5.0 §4.8.2): one with a connection that can take
 * messages, else one that is connected but behind, else one that is away and whose session keeps the message.
 * `undefined` when there is none: no member at all, or all are away and the message has QoS 0.
 */
export function chooseMember(
  group: SharedGroup<Subscription>,
  message: Message,
  strategy: SharedStrategy,
  random: Random,
): Subscription | undefined {
  const { members } = group;
  const count = members.length;
  if (count === 0) return undefined;
  const start = firstChoice(group, message, strategy, random);
  let chosen = -1;
  let behind = -1;
  let away = -1;
  for (let step = 0; step < count && chosen < 0; step++) {
    const index = (start + step) % count;
    const member = members[index]!;
    const { outbox, persistent, ended } = member.target;
    if (outbox?.open === true) {
      if (!outbox.congested) chosen = index;
      else if (behind < 0) behind = index;
    } else if (away < 0 && persistent && !ended && message.qos > 0 && member.qos > 0) {
      away = index;
    }
  }
  if (chosen < 0) chosen = behind < 0 ? away : behind;
  if (chosen < 0) return undefined;
  group.cursor = strategy === 'sticky' ? chosen : chosen + 1;
  return members[chosen];
}

function firstChoice(
  group: SharedGroup<Subscription>,
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
      return hashBytes(message.topic.bytes, 0, message.topic.bytes.length) % count;
    case 'hash-client-id': {
      const bytes = utf8Bytes(message.publisher);
      return hashBytes(bytes, 0, bytes.length) % count;
    }
  }
}
