import type { Outbox } from '../delivery/outbox.ts';
import type { ProtocolVersion, QoS } from '../packet.ts';
import type { PublishForm } from '../ports/channel.ts';
import type { RouteTable, SharedGroup } from './route-table.ts';
import { NodeRoute } from './node-route.ts';
import type { NodeTarget } from './node-route.ts';
import type { RouteEntry, SessionTarget, Subscription } from './subscription.ts';
import type { Topic } from '../topic/topic.ts';

/** Whether a delivery concerns messages that its own client published: No Local [MQTT-3.8.3-3]. */
export const Own = { Any: 0, Skip: 1, Only: 2 } as const;

const NO_IDENTIFIERS: readonly number[] = [];

const PLAIN_FORMS: Readonly<Record<ProtocolVersion, PublishForm>> = {
  3: { version: 3, subscriptionIds: NO_IDENTIFIERS },
  4: { version: 4, subscriptionIds: NO_IDENTIFIERS },
  5: { version: 5, subscriptionIds: NO_IDENTIFIERS },
};

/** The form without subscription identifiers is one object per version: subscribers that share it share bytes. */
export function publishForm(
  version: ProtocolVersion,
  subscriptionIds: readonly number[],
): PublishForm {
  return version !== 5 || subscriptionIds.length === 0
    ? PLAIN_FORMS[version]
    : { version, subscriptionIds };
}

/** Connected clean sessions of this node that get the same bytes (but for packet identifiers). */
export class DeliveryGroup {
  readonly form: PublishForm;
  /** The highest QoS granted by the matching subscriptions [MQTT-3.3.4-2]. */
  readonly qos: QoS;
  readonly retainAsPublished: boolean;
  readonly own: number;
  readonly members: Outbox[] = [];

  constructor(form: PublishForm, qos: QoS, retainAsPublished: boolean, own: number) {
    this.form = form;
    this.qos = qos;
    this.retainAsPublished = retainAsPublished;
    this.own = own;
  }
}

/** One persistent session that matches. */
export interface PersistentDelivery {
  readonly target: SessionTarget;
  readonly qos: QoS;
  readonly retainAsPublished: boolean;
  readonly own: number;
  readonly subscriptionIds: readonly number[];
}

/**
 * Everybody who gets messages of one topic: one delivery per session, however many of its subscriptions match, at
 * the highest QoS granted and with all subscription identifiers [MQTT-3.3.4-2] [MQTT-3.3.4-3]. Computed once and
 * kept at the topic until the route table changes in a way that may concern it.
 */
export class Matches {
  readonly wildcardRevision: number;
  readonly exactRevision: number;
  readonly groups: readonly DeliveryGroup[];
  readonly persistent: readonly PersistentDelivery[];
  readonly shared: readonly SharedGroup<RouteEntry>[];
  /** Other nodes that have clean sessions with matching subscriptions. */
  readonly nodes: readonly NodeTarget[];
  /** The only delivery is to one clean session: the most common case, worth its own path. */
  readonly single: Outbox | undefined;

  constructor(
    table: RouteTable<RouteEntry>,
    topic: Topic,
    groups: readonly DeliveryGroup[],
    persistent: readonly PersistentDelivery[],
    shared: readonly SharedGroup<RouteEntry>[],
    nodes: readonly NodeTarget[],
  ) {
    this.wildcardRevision = table.wildcardRevision;
    this.exactRevision = table.exactRevision(topic.hash);
    this.groups = groups;
    this.persistent = persistent;
    this.shared = shared;
    this.nodes = nodes;
    this.single =
      groups.length === 1 &&
      persistent.length === 0 &&
      shared.length === 0 &&
      nodes.length === 0 &&
      groups[0]?.own === Own.Any &&
      groups[0].members.length === 1
        ? groups[0].members[0]
        : undefined;
  }

  get empty(): boolean {
    return (
      this.groups.length === 0 &&
      this.persistent.length === 0 &&
      this.shared.length === 0 &&
      this.nodes.length === 0
    );
  }
}

/** The matches of a topic, from the topic itself while the route table has not changed under them. */
export function matchesOf(table: RouteTable<RouteEntry>, topic: Topic): Matches {
  const known = topic.matches;
  if (
    known?.wildcardRevision === table.wildcardRevision &&
    known.exactRevision === table.exactRevision(topic.hash)
  ) {
    return known;
  }
  const { matches, weight } = findMatches(table, topic);
  topic.matches = matches;
  topic.weigh(weight);
  return matches;
}

/** Bytes of a `Matches`, of a delivery in it, and of a reference. */
const MATCHES_WEIGHT = 150;
const DELIVERY_WEIGHT = 120;
const REFERENCE_WEIGHT = 8;
/** Results that are looked at for whether they are the same again: many topics have the same subscribers. */
const RECENT_MAX = 8;

/** What was found, and what was made of it. */
interface Found {
  readonly routes: readonly Subscription[];
  readonly matches: Matches;
}

const recentOf = new WeakMap<RouteTable<RouteEntry>, { found: Found[]; next: number }>();

/** `weight`: bytes that nobody else has. */
function findMatches(
  table: RouteTable<RouteEntry>,
  topic: Topic,
): { readonly matches: Matches; readonly weight: number } {
  const routes: Subscription[] = [];
  const shared: SharedGroup<RouteEntry>[] = [];
  const nodes = new Set<NodeTarget>();
  let filters = 0;
  table.match(topic.name, {
    route: (route) => {
      if (route instanceof NodeRoute) {
        nodes.add(route.node);
        return;
      }
      if (routes.length === 0 || routes[routes.length - 1]?.filter !== route.filter) filters += 1;
      routes.push(route);
    },
    group: (group) => {
      shared.push(group);
    },
  });
  let recent = recentOf.get(table);
  if (recent === undefined) recentOf.set(table, (recent = { found: [], next: 0 }));
  const nodeList = [...nodes];
  const same = recent.found.find(
    (found) =>
      isEqual(found.routes, routes) &&
      isEqual(found.matches.shared, shared) &&
      isEqual(found.matches.nodes, nodeList),
  )?.matches;
  if (same !== undefined) {
    const { groups, persistent } = same;
    const matches = new Matches(table, topic, groups, persistent, same.shared, same.nodes);
    return { matches, weight: MATCHES_WEIGHT };
  }
  const builder = new MatchesBuilder();
  if (filters <= 1) {
    // A session subscribes to one filter at most once: nobody can be here twice.
    for (const route of routes) builder.addOne(route);
  } else {
    const byTarget = new Map<SessionTarget, Subscription[]>();
    for (const route of routes) {
      const routesOfTarget = byTarget.get(route.target);
      if (routesOfTarget === undefined) byTarget.set(route.target, [route]);
      else routesOfTarget.push(route);
    }
    for (const routesOfTarget of byTarget.values()) builder.addAll(routesOfTarget);
  }
  const { groups, persistent } = builder;
  const matches = new Matches(table, topic, groups, persistent, shared, nodeList);
  recent.found[recent.next] = { routes, matches };
  recent.next = (recent.next + 1) % RECENT_MAX;
  let weight =
    MATCHES_WEIGHT +
    DELIVERY_WEIGHT * (groups.length + persistent.length) +
    REFERENCE_WEIGHT * (shared.length + nodeList.length);
  for (const { members } of groups) weight += REFERENCE_WEIGHT * members.length;
  return { matches, weight };
}

function isEqual<T>(one: readonly T[], other: readonly T[]): boolean {
  if (one.length !== other.length) return false;
  for (let i = 0; i < one.length; i++) if (one[i] !== other[i]) return false;
  return true;
}

class MatchesBuilder {
  readonly groups: DeliveryGroup[] = [];
  readonly persistent: PersistentDelivery[] = [];
  readonly #plainGroups: (DeliveryGroup | undefined)[] = [];

  addOne(route: Subscription): void {
    this.#add(
      route.target,
      route.qos,
      route.retainAsPublished,
      route.noLocal ? Own.Skip : Own.Any,
      route.identifier === 0 ? NO_IDENTIFIERS : [route.identifier],
    );
  }

  addAll(routes: readonly Subscription[]): void {
    const [first] = routes;
    if (first === undefined) return;
    if (routes.length === 1) {
      this.addOne(first);
      return;
    }
    const local = routes.filter((route) => !route.noLocal);
    this.#addMerged(first.target, routes, local.length === routes.length ? Own.Any : Own.Skip);
    // Some of its subscriptions are No Local and some are not: its own messages match only the latter.
    if (local.length > 0 && local.length < routes.length) {
      this.#addMerged(first.target, local, Own.Only);
    }
  }

  #addMerged(target: SessionTarget, routes: readonly Subscription[], own: number): void {
    let qos: QoS = 0;
    let retainAsPublished = false;
    const identifiers: number[] = [];
    for (const route of routes) {
      if (route.qos > qos) qos = route.qos;
      if (route.retainAsPublished) retainAsPublished = true;
      if (route.identifier !== 0) identifiers.push(route.identifier);
    }
    this.#add(target, qos, retainAsPublished, own, identifiers);
  }

  #add(
    target: SessionTarget,
    qos: QoS,
    retainAsPublished: boolean,
    own: number,
    subscriptionIds: readonly number[],
  ): void {
    if (target.persistent) {
      this.persistent.push({ target, qos, retainAsPublished, own, subscriptionIds });
      return;
    }
    const outbox = target.outbox;
    if (outbox === undefined) return;
    const form = publishForm(outbox.version, subscriptionIds);
    if (!outbox.plain || form.subscriptionIds.length > 0) {
      const group = new DeliveryGroup(form, qos, retainAsPublished, own);
      group.members.push(outbox);
      this.groups.push(group);
      return;
    }
    const key = outbox.version | (qos << 3) | (retainAsPublished ? 32 : 0) | (own << 6);
    let group = this.#plainGroups[key];
    if (group === undefined) {
      group = new DeliveryGroup(form, qos, retainAsPublished, own);
      this.#plainGroups[key] = group;
      this.groups.push(group);
    }
    group.members.push(outbox);
  }
}
