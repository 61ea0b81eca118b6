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
 * Picks the one member of a shared group that gets `message` [MQTT-4.8.2-4]; members with a connection that can
 * take messages come before those without. `undefined` when the group has nobody to deliver to: no member at all,
 * or only offline ones and the message has QoS 0.
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
  let offline: Subscription | undefined;
  for (let step = 0; step < count; step++) {
    const index = (start + step) % count;
    const member = members[index];
    if (member === undefined) continue;
    const { outbox, persistent } = member.target;
    if (outbox?.open === true && !outbox.congested) {
      group.cursor = strategy === 'sticky' ? index : index + 1;
      return member;
    }
    const keeps = persistent && message.qos > 0 && member.qos > 0;
    if (offline === undefined && (keeps || outbox?.open === true)) offline = member;
  }
  if (offline !== undefined) group.cursor += 1;
  return offline;
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
