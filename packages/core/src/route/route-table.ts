import { StringMap } from '../tree/string-map.ts';
import { hasWildcard } from '../topic/filter.ts';
import { hashBytes } from '../topic/topic.ts';
import { utf8Bytes } from '../topic/utf8.ts';
import { WildcardTrie } from './wildcard-trie.ts';

/** What a subscription is to the route table: where its messages go is the caller's. */
export interface Route {
  /** A valid topic filter, without the `$share` prefix. */
  readonly filter: string;
  /** Share name; '': not shared. */
  readonly share: string;
}

/** The Shared Subscriptions with one share name and one filter: each message goes to one member. */
export interface SharedGroup<R> {
  readonly filter: string;
  readonly share: string;
  /** Never empty. When one leaves, the last one takes its place. */
  readonly members: readonly R[];
  /** Not touched by the table: for example the position of a round robin, which may be beyond the end. */
  cursor: number;
}

/**
 * Called by `RouteTable.match`. May change the table: a match under way visits what was there throughout, and may
 * or may not see the change.
 */
export interface MatchVisitor<R> {
  route(route: R): void;
  group(group: SharedGroup<R>): void;
}

/** Up to here arrays are searched; beyond, a set or map says where something is. */
const SEARCHED_MAX = 16;

/**
 * Which routes get the messages of a topic. Filters without wildcards are one look-up, those with wildcards a
 * trie; a filter with one route that is not shared costs no object of its own.
 */
export class RouteTable<R extends Route> {
  readonly #exact = new StringMap<Entry<R>>();
  readonly #wildcards: WildcardTrie<Entry<R>>;
  readonly #exactRevisions = new Uint32Array(65_536);
  #wildcardRevision = 0;
  #size = 0;
  #groups = 0;

  readonly #seed: number;

  /**
   * `seed`: a random integer, so that clients cannot choose filters whose places in the table collide; the one that
   * the topic table has.
   */
  constructor(seed = 0) {
    this.#seed = seed;
    this.#wildcards = new WildcardTrie(seed);
  }

  /** Number of routes. */
  get size(): number {
    return this.#size;
  }

  /** Number of shared groups. */
  get groups(): number {
    return this.#groups;
  }

  /** Raised by each change of a filter with wildcards, shared or not. */
  get wildcardRevision(): number {
    return this.#wildcardRevision;
  }

  /** Rows of the trie of filters with wildcards. For diagnostics. */
  get wildcardRows(): {
    readonly nodes: number;
    readonly nodesEnd: number;
    readonly levels: number;
  } {
    return this.#wildcards.rows;
  }

  /**
   * Raised (modulo 2^32) by each change of a filter without wildcards whose `hashBytes` equals `topicHash` in the
   * lower 16 bits. What was matched for a topic holds while this and `wildcardRevision` are what they were.
   */
  exactRevision(topicHash: number): number {
    return this.#exactRevisions[topicHash & 0xffff] as number;
  }

  /**
   * Adds a route, known by its identity from here on; its `filter` and `share` must not change.
   *
   * @throws Error when it is in the table: a bug of the caller.
   */
  add(route: R): void {
    const { filter } = route;
    const filters = this.#filters(filter);
    const entry = filters.get(filter);
    if (entry === undefined && route.share === '') {
      filters.set(filter, route);
    } else if (entry !== undefined && several(entry)) {
      this.#addTo(entry, route);
    } else {
      const routes = new FilterRoutes<R>();
      if (entry !== undefined) routes.add(entry);
      this.#addTo(routes, route);
      filters.set(filter, routes);
    }
    this.#size += 1;
    this.#changed(filter, filters);
  }

  /** Removes the route that is this object; false: it is not in the table. Does not search the filter's routes. */
  remove(route: R): boolean {
    const { filter } = route;
    const filters = this.#filters(filter);
    const entry = filters.get(filter);
    if (entry === undefined) return false;
    if (several(entry)) {
      const groups = entry.groupCount;
      if (!entry.remove(route)) return false;
      this.#groups += entry.groupCount - groups;
      const { only } = entry;
      if (only !== undefined) filters.set(filter, only);
      else if (entry.routeCount + entry.groupCount === 0) filters.delete(filter);
    } else {
      if (entry !== route) return false;
      filters.delete(filter);
    }
    this.#size -= 1;
    this.#changed(filter, filters);
    return true;
  }

  /**
   * Visits each route and each shared group whose filter matches a valid topic name, once. Routes of one filter
   * come in the order in which they were added. The cost depends on the matching filters, and on those that match
   * as far as they go, not on the others.
   */
  match(topicName: string, visitor: MatchVisitor<R>): void {
    const entry = this.#exact.get(topicName);
    if (entry !== undefined) visit(entry, visitor);
    const found: Entry<R>[] = [];
    this.#wildcards.match(topicName, found);
    for (const wildcard of found) visit(wildcard, visitor);
  }

  /** The routes of a filter, those of its shared groups last. */
  *routesOf(filter: string): Generator<R, void> {
    const entry = this.#filters(filter).get(filter);
    if (entry === undefined) return;
    if (several(entry)) {
      yield* entry.routes;
      for (const group of entry.groups()) yield* group.members;
    } else {
      yield entry;
    }
  }

  #addTo(entry: FilterRoutes<R>, route: R): void {
    const groups = entry.groupCount;
    entry.add(route);
    this.#groups += entry.groupCount - groups;
  }

  #filters(filter: string): StringMap<Entry<R>> | WildcardTrie<Entry<R>> {
    return hasWildcard(filter) ? this.#wildcards : this.#exact;
  }

  #changed(filter: string, filters: StringMap<Entry<R>> | WildcardTrie<Entry<R>>): void {
    if (filters === this.#wildcards) {
      this.#wildcardRevision += 1;
    } else {
      const bytes = utf8Bytes(filter);
      const slot = hashBytes(bytes, 0, bytes.length, this.#seed) & 0xffff;
      this.#exactRevisions[slot] = (this.#exactRevisions[slot] as number) + 1;
    }
  }
}

/** What the table holds per filter: its only route when that is not shared, which is the common case. */
type Entry<R extends Route> = R | FilterRoutes<R>;

function several<R extends Route>(entry: Entry<R>): entry is FilterRoutes<R> {
  return entry instanceof FilterRoutes;
}

function visit<R extends Route>(entry: Entry<R>, visitor: MatchVisitor<R>): void {
  if (several(entry)) {
    for (const route of entry.routes) visitor.route(route);
    for (const group of entry.groups()) visitor.group(group);
  } else {
    visitor.route(entry);
  }
}

/** The routes and shared groups of one filter. Arrays are replaced, not changed: a visitor may be reading them. */
class FilterRoutes<R extends Route> {
  routes: readonly R[] | Set<R> = [];
  #groups: readonly Group<R>[] | Map<string, Group<R>> = [];

  get groupCount(): number {
    return this.#groups instanceof Map ? this.#groups.size : this.#groups.length;
  }

  get routeCount(): number {
    return this.routes instanceof Set ? this.routes.size : this.routes.length;
  }

  /** The only route, when there is one that is not shared and nothing else. */
  get only(): R | undefined {
    if (this.routeCount !== 1 || this.groupCount !== 0) return undefined;
    for (const route of this.routes) return route;
    return undefined;
  }

  groups(): Iterable<Group<R>> {
    return this.#groups instanceof Map ? this.#groups.values() : this.#groups;
  }

  add(route: R): void {
    if (route.share !== '') {
      const group = this.#group(route.share);
      if (group === undefined) this.#addGroup(new Group(route));
      else group.add(route);
    } else if (this.routes instanceof Set) {
      if (this.routes.has(route)) throw twice(route);
      this.routes.add(route);
    } else {
      if (this.routes.includes(route)) throw twice(route);
      const routes = [...this.routes, route];
      this.routes = routes.length > SEARCHED_MAX ? new Set(routes) : routes;
    }
  }

  remove(route: R): boolean {
    if (route.share !== '') {
      const group = this.#group(route.share);
      if (group?.remove(route) !== true) return false;
      if (group.members.length === 0) this.#removeGroup(group);
      return true;
    }
    const { routes } = this;
    if (routes instanceof Set) {
      if (!routes.delete(route)) return false;
      if (routes.size <= SEARCHED_MAX / 2) this.routes = [...routes];
      return true;
    }
    if (!routes.includes(route)) return false;
    this.routes = routes.filter((other) => other !== route);
    return true;
  }

  #group(share: string): Group<R> | undefined {
    if (this.#groups instanceof Map) return this.#groups.get(share);
    return this.#groups.find((group) => group.share === share);
  }

  #addGroup(group: Group<R>): void {
    if (this.#groups instanceof Map) {
      this.#groups.set(group.share, group);
      return;
    }
    const groups = [...this.#groups, group];
    this.#groups =
      groups.length > SEARCHED_MAX ? new Map(groups.map((each) => [each.share, each])) : groups;
  }

  #removeGroup(group: Group<R>): void {
    if (!(this.#groups instanceof Map)) {
      this.#groups = this.#groups.filter((other) => other !== group);
      return;
    }
    this.#groups.delete(group.share);
    if (this.#groups.size <= SEARCHED_MAX / 2) this.#groups = [...this.#groups.values()];
  }
}

class Group<R extends Route> implements SharedGroup<R> {
  readonly filter: string;
  readonly share: string;
  readonly members: R[];
  cursor = 0;
  /** Where a member is, once there are too many to search. */
  #places: Map<R, number> | undefined;

  constructor(first: R) {
    this.filter = first.filter;
    this.share = first.share;
    this.members = [first];
  }

  add(route: R): void {
    if (this.#place(route) >= 0) throw twice(route);
    this.#places?.set(route, this.members.length);
    this.members.push(route);
    if (this.#places === undefined && this.members.length > SEARCHED_MAX) {
      this.#places = new Map(this.members.map((member, place) => [member, place]));
    }
  }

  remove(route: R): boolean {
    const place = this.#place(route);
    if (place < 0) return false;
    const last = this.members.pop() as R;
    this.#places?.delete(route);
    if (last !== route) {
      this.members[place] = last;
      this.#places?.set(last, place);
    }
    if (this.members.length <= SEARCHED_MAX / 2) this.#places = undefined;
    return true;
  }

  #place(route: R): number {
    return this.#places === undefined
      ? this.members.indexOf(route)
      : (this.#places.get(route) ?? -1);
  }
}

function twice(route: Route): Error {
  return new Error(`a route of ${JSON.stringify(route.filter)} was added twice`);
}
