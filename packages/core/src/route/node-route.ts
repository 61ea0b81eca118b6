import type { NodeIdentity } from '../ports/cluster-state.ts';
import type { Route } from './route-table.ts';

/** Another node as a destination of messages, for one of its lives. */
export class NodeTarget implements NodeIdentity {
  readonly id: string;
  readonly incarnation: string;
  /** Takes messages now: its link is up and not congested. Members of shared groups elsewhere are preferred to it. */
  available = true;
  /** Its lease has ended: nobody there gets anything any more. */
  gone = false;
  constructor({ id, incarnation }: NodeIdentity) {
    this.id = id;
    this.incarnation = incarnation;
  }
}

/**
 * Another node has clean sessions that are subscribed to a filter. Of a shared subscription there is one for each
 * member, so that the members of a group have equal chances wherever they are.
 */
export class NodeRoute implements Route {
  readonly filter: string;
  readonly share: string;
  readonly node: NodeTarget;
  constructor(route: { readonly filter: string; readonly share: string }, node: NodeTarget) {
    this.filter = route.filter;
    this.share = route.share;
    this.node = node;
  }
}
