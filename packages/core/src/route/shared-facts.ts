import type { FactChange, NodeIdentity, SharedFact } from '../ports/cluster-state.ts';
import type { Node } from '../node.ts';
import { isLocalTopic } from '../topic/name.ts';
import { parseShare } from '../topic/share.ts';
import { NodeRoute, NodeTarget } from './node-route.ts';
import { unpackOptions } from './subscription.ts';

/**
 * Keeps this node's tables equal to the facts that all nodes share: routes of other nodes' clean sessions, routes of
 * persistent sessions wherever they are connected, and names of retained topics. Applying a fact twice changes
 * nothing. Facts about this node's own clean sessions are passed over: it knows better.
 */
export class SharedFacts {
  readonly #node: Node;
  readonly #self: NodeIdentity;
  readonly #nodes = new Map<string, KnownNode>();
  #nodeRoutes = 0;

  constructor(node: Node, self: NodeIdentity) {
    this.#node = node;
    this.#self = self;
  }

  /** Entries of the route table that lead to clean sessions of other nodes. */
  get nodeRoutes(): number {
    return this.#nodeRoutes;
  }

  apply({ change, fact }: FactChange): void {
    switch (fact.kind) {
      case 'node':
        if (fact.node.id === this.#self.id && fact.node.incarnation === this.#self.incarnation) {
          return;
        }
        this.#applyNode(fact.node, fact.filter, change === 'add' ? fact.weight : 0);
        return;
      case 'session':
        if (change === 'add')
          this.#node.addRemoteSubscription(fact, unpackOptions(fact.filter, fact.options));
        else this.#node.removeRemoteSubscription(fact, fact.filter);
        return;
      case 'retained':
        // An earlier version shared them.
        if (isLocalTopic(fact.filter)) return;
        if (change === 'add') this.#node.retained.add(fact.filter);
        else this.#node.retained.delete(fact.filter);
    }
  }

  /** Replaces everything that was applied by `facts`: what is not among them any more goes. */
  replace(facts: readonly SharedFact[]): void {
    const kept = new Set(facts.map(keyOf));
    for (const fact of [...this.all()]) {
      if (!kept.has(keyOf(fact))) this.apply({ change: 'remove', fact });
    }
    for (const fact of facts) this.apply({ change: 'add', fact });
  }

  /** Everything this node has applied, in no order: for comparing tables. */
  *all(): Generator<SharedFact> {
    for (const { target, routes } of this.#nodes.values()) {
      for (const [filter, entries] of routes) {
        yield { kind: 'node', node: target, filter, weight: entries.length };
      }
    }
    yield* this.#node.sessionFacts();
    for (const filter of this.retainedTopics()) yield { kind: 'retained', filter };
  }

  /** Topics that have a retained message. */
  *retainedTopics(): Generator<string> {
    yield* this.#node.retained.match('#');
  }

  /** The destination for a node, made when it is not known yet. */
  target(node: NodeIdentity): NodeTarget {
    return this.#known(node).target;
  }

  /** The filters that a node is known to have subscribers for. */
  filtersOf(node: NodeIdentity): readonly string[] {
    return [...(this.#nodes.get(nameOf(node))?.routes.keys() ?? [])];
  }

  /** A node is gone for good: nothing is routed to it. */
  forget(node: NodeIdentity): void {
    for (const filter of this.filtersOf(node)) this.#applyNode(node, filter, 0);
    this.#nodes.delete(nameOf(node));
  }

  #applyNode(node: NodeIdentity, filter: string, weight: number): void {
    const known = this.#known(node);
    const share = parseShare(filter);
    if (share === 'invalid') return;
    const routes = known.routes.get(filter) ?? [];
    // Of a filter that is not shared one is enough, whatever its weight.
    const wanted = share === undefined ? Math.min(weight, 1) : weight;
    const { digest } = this.#node;
    if (routes.length !== wanted) {
      if (routes.length > 0) digest?.toggleNode(node, filter, routes.length);
      if (wanted > 0) digest?.toggleNode(node, filter, wanted);
    }
    while (routes.length < wanted) {
      const route = new NodeRoute(share ?? { filter, share: '' }, known.target);
      this.#node.table.add(route);
      this.#nodeRoutes += 1;
      routes.push(route);
    }
    for (let route = routes[wanted]; route !== undefined; route = routes[wanted]) {
      this.#node.table.remove(route);
      this.#nodeRoutes -= 1;
      routes.splice(wanted, 1);
    }
    if (routes.length === 0) known.routes.delete(filter);
    else known.routes.set(filter, routes);
  }

  #known(node: NodeIdentity): KnownNode {
    const name = nameOf(node);
    let known = this.#nodes.get(name);
    if (known === undefined) {
      known = { target: new NodeTarget(node), routes: new Map() };
      this.#nodes.set(name, known);
    }
    return known;
  }
}

interface KnownNode {
  readonly target: NodeTarget;
  /** By full filter. */
  readonly routes: Map<string, NodeRoute[]>;
}

function nameOf({ id, incarnation }: NodeIdentity): string {
  return `${id}#${incarnation}`;
}

/** Equal for facts that are the same. Node ids have no spaces, incarnations neither. */
function keyOf(fact: SharedFact): string {
  switch (fact.kind) {
    case 'node':
      return `n ${nameOf(fact.node)} ${fact.filter}`;
    case 'session':
      return `s ${fact.incarnation} ${String(fact.clientId.length)} ${fact.clientId}${fact.filter}`;
    case 'retained':
      return `r ${fact.filter}`;
  }
}
