import { chooseMember } from '../delivery/shared-choice.ts';
import { Message } from '../message.ts';
import type { Node } from '../node.ts';
import type { QoS } from '../packet.ts';
import type { SessionIncarnation } from '../ports/state-store.ts';
import { TopicTable } from '../topic/topic.ts';
import { utf8Bytes } from '../topic/utf8.ts';
import { NodeRoute } from './node-route.ts';
import type { SharedGroup } from './route-table.ts';
import type { RouteEntry } from './subscription.ts';

/** Who gets messages of a topic because of one subscription, as one node of the cluster knows it. */
export type Recipient =
  /** A clean session that is connected to this node, or a persistent one wherever it is. */
  | {
      readonly kind: 'session';
      readonly clientId: string;
      readonly incarnation: SessionIncarnation;
      readonly persistent: boolean;
      readonly qos: QoS;
      /** Node that it is connected to; '' for none, `undefined` when this node has not asked. */
      readonly nodeId: string | undefined;
    }
  /** Clean sessions of another node; which ones, that node knows. */
  | { readonly kind: 'node'; readonly nodeId: string };

/** One subscription that matches. */
export interface MatchedRoute {
  /** Without `$share`. */
  readonly filter: string;
  readonly recipient: Recipient;
}

/** A shared subscription that matches. */
export interface MatchedGroup {
  readonly share: string;
  readonly filter: string;
  readonly memberCount: number;
  /** Who would get a message now; `undefined`: nobody can. */
  readonly chosen: Recipient | undefined;
  /** Some of the members. */
  readonly members: readonly Recipient[];
}

/** Where a message would go, and why. Lists are cut; the counts are not. */
export interface RouteExplanation {
  readonly routeCount: number;
  readonly groupCount: number;
  readonly routes: readonly MatchedRoute[];
  readonly groups: readonly MatchedGroup[];
  /** The topic has a retained message. */
  readonly retained: boolean;
}

/** A message as far as it matters for where it goes. */
export interface ExplainedMessage {
  /** A valid topic name. */
  readonly topic: string;
  readonly qos: QoS;
  /** Client id of its publisher: it matters for a shared subscription chosen by it, and for No Local. */
  readonly publisher: string;
}

/**
 * Says where a message would go, without sending anything or moving any group's turn. Lists have at most `listMax`
 * entries. Costs a walk over everybody who matches.
 */
export function explainRoute(
  node: Node,
  { topic, qos, publisher }: ExplainedMessage,
  listMax: number,
): RouteExplanation {
  const message = Message.of(new TopicTable(16).add(topic, utf8Bytes(topic)), new Uint8Array(0), {
    qos,
    retain: false,
    publisher,
  });
  const self = node.identity.id;
  const routes: MatchedRoute[] = [];
  const groups: MatchedGroup[] = [];
  let routeCount = 0;
  let groupCount = 0;
  node.table.match(topic, {
    route: (route) => {
      const isOwn = !(route instanceof NodeRoute) && route.target.clientId === publisher;
      if (isOwn && route.noLocal) return;
      routeCount += 1;
      if (routes.length < listMax) {
        routes.push({ filter: route.filter, recipient: recipientOf(route, self) });
      }
    },
    group: (group) => {
      groupCount += 1;
      if (groups.length < listMax) groups.push(explainGroup(node, group, message, listMax));
    },
  });
  return { routeCount, groupCount, routes, groups, retained: node.retained.has(topic) };
}

function explainGroup(
  { identity, parts }: Node,
  group: SharedGroup<RouteEntry>,
  message: Message,
  listMax: number,
): MatchedGroup {
  const { cursor } = group;
  const chosen = chooseMember(group, message, parts.sharedStrategy, parts.random);
  group.cursor = cursor;
  const recipients = group.members.slice(0, listMax);
  return {
    share: group.share,
    filter: group.filter,
    memberCount: group.members.length,
    chosen: chosen && recipientOf(chosen, identity.id),
    members: recipients.map((member) => recipientOf(member, identity.id)),
  };
}

function recipientOf(route: RouteEntry, self: string): Recipient {
  if (route instanceof NodeRoute) return { kind: 'node', nodeId: route.node.id };
  const { clientId, incarnation, persistent, outbox, seenAt } = route.target;
  const nodeId = outbox === undefined ? seenAt : self;
  return { kind: 'session', clientId, incarnation, persistent, qos: route.qos, nodeId };
}
