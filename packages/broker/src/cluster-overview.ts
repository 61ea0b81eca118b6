import type { ClusterNodeStatus, ClusterStatus, PeerStatus } from '@shoalmq/cluster';
import { explainRoute, nodeOfToken } from '@shoalmq/core';
import type { ExplainedMessage, Node, QoS, Recipient, SharedStrategy } from '@shoalmq/core';
import type { RedisServer } from '@shoalmq/store-redis';
import type { Backing } from './backing.ts';
import { VERSION } from './version.ts';

/** The cluster as one node sees it: what `shoal cluster status` shows. */
export interface ClusterOverview {
  readonly node: {
    readonly id: string;
    readonly version: string;
    readonly ready: boolean;
    /** Why it is not ready, and what else is wrong with it. */
    readonly problems: readonly string[];
  };
  readonly store: {
    readonly mode: 'memory' | 'standalone' | 'sentinel' | 'cluster';
    readonly durability: 'memory' | 'primary' | 'replicated';
    /** Replicas that must confirm each write. */
    readonly replicas: number;
    readonly up: boolean;
    /** Primaries of Redis. */
    readonly servers: readonly RedisServer[];
  };
  /** This node first, at most `NODES_MAX`. */
  readonly nodes: readonly NodeOverview[];
  readonly nodeCount: number;
  /** Nodes that died and are not buried yet. */
  readonly dead: readonly string[];
  readonly warnings: readonly string[];
}

export interface NodeOverview {
  readonly id: string;
  readonly incarnation: string;
  readonly state: string;
  readonly version: string;
  /** Where the other nodes reach it; '' for a node that is alone. */
  readonly address: string;
  readonly connections: number | undefined;
  /** Since when its routes may be behind; -1: it has not loaded them. */
  readonly routeLagMs: number | undefined;
  /** `undefined`: the node that answers. */
  readonly link:
    | {
        /** `up`: both ways. `outgoing`, `incoming`: only from, or to, the node that answers. */
        readonly state: 'up' | 'outgoing' | 'incoming' | 'down';
        readonly unacknowledgedBytes: number;
        readonly waiting: number;
      }
    | undefined;
}

/** Nodes that are listed. */
const NODES_MAX = 256;
/** A route table that has not been compared with the store for so long is behind. */
const ROUTE_LAG_WARNING_MS = 3_000;
/** So long the store is waited for when it is asked where sessions are. */
const OWNERS_MS = 1_000;

/** What this node knows of its cluster. Costs one look at Redis every few seconds, whoever asks. */
export async function clusterOverview(node: Node, backing: Backing): Promise<ClusterOverview> {
  const { warnings, ...store } = await backing.storeFacts();
  const { ready, problems } = backing.health();
  const status = backing.clusterStatus() ?? aloneStatus(node);
  return {
    node: { id: node.identity.id, version: VERSION, ready, problems },
    store,
    nodes: status.nodes.slice(0, NODES_MAX).map(nodeOverview),
    nodeCount: status.nodes.length,
    dead: status.dead.slice(0, NODES_MAX).map(({ id }) => id),
    warnings: [...warnings, ...clusterWarnings(status)],
  };
}

/** Where a message would go: what `shoal cluster explain` shows. Lists are cut, counts are not. */
export interface RouteOverview {
  readonly topic: string;
  readonly qos: QoS;
  readonly publisher: string;
  /** The node that was asked, which would be the publisher's. */
  readonly node: string;
  readonly retained: boolean;
  readonly routeCount: number;
  readonly routes: readonly ({ readonly filter: string } & RecipientOverview)[];
  readonly strategy: SharedStrategy;
  readonly groupCount: number;
  readonly groups: readonly {
    /** `$share/...` */
    readonly filter: string;
    readonly memberCount: number;
    /** Who would get the message; absent when nobody could take it. */
    readonly chosen?: RecipientOverview;
    readonly members: readonly RecipientOverview[];
  }[];
}

export interface RecipientOverview {
  /** Absent: clean sessions of another node, which that node knows. */
  readonly clientId?: string;
  readonly persistent?: boolean;
  readonly qos?: QoS;
  /** Node that serves it; '' when none does, absent when the store did not say. */
  readonly node?: string;
}

/** Where a message that is published here would go now. Nothing is sent. */
export async function routeOverview(
  node: Node,
  message: ExplainedMessage,
  { listMax, storeUp }: { readonly listMax: number; readonly storeUp: boolean },
): Promise<RouteOverview> {
  const explained = explainRoute(node, message, listMax);
  const { routeCount, groupCount, retained, routes, groups } = explained;
  const listed = [
    ...routes.map(({ recipient }) => recipient),
    ...groups.flatMap(({ chosen, members }) => (chosen ? [chosen, ...members] : members)),
  ];
  // Calls wait for as long as the store is away, and this is not worth it.
  const owners = await locate(node, storeUp ? listed.slice(0, listMax) : []);
  const overviewOf = (recipient: Recipient): RecipientOverview => {
    if (recipient.kind === 'node') return { node: recipient.nodeId };
    const { clientId, persistent, qos } = recipient;
    const at = recipient.nodeId ?? owners.get(nameOf(recipient));
    return { clientId, persistent, qos, ...(at === undefined ? {} : { node: at }) };
  };
  return {
    ...message,
    node: node.identity.id,
    retained,
    routeCount,
    routes: routes.map(({ filter, recipient }) => ({ filter, ...overviewOf(recipient) })),
    strategy: node.parts.sharedStrategy,
    groupCount,
    groups: groups.map(({ share, filter, memberCount, chosen, members }) => ({
      filter: `$share/${share}/${filter}`,
      memberCount,
      ...(chosen === undefined ? {} : { chosen: overviewOf(chosen) }),
      members: members.map(overviewOf),
    })),
  };
}

type Session = Extract<Recipient, { kind: 'session' }>;

/** Asks the store where the sessions are of which this node does not know it. */
async function locate(
  node: Node,
  recipients: readonly Recipient[],
): Promise<ReadonlyMap<string, string>> {
  const found = new Map<string, string>();
  const wanted = new Map<string, Session>();
  for (const recipient of recipients) {
    if (recipient.kind === 'session' && recipient.nodeId === undefined) {
      wanted.set(nameOf(recipient), recipient);
    }
  }
  const asked = Array.from(
    wanted,
    ([name, session]) =>
      new Promise<void>((resolve) => {
        node.parts.store.owner(session, (token) => {
          if (token !== undefined) found.set(name, token === '' ? '' : nodeOfToken(token));
          resolve();
        });
      }),
  );
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, OWNERS_MS);
  });
  await Promise.race([Promise.all(asked), late]);
  clearTimeout(timer);
  return new Map(found);
}

function nameOf({ incarnation, clientId }: Session): string {
  return `${incarnation} ${clientId}`;
}

function nodeOverview({ link, ...descriptor }: ClusterNodeStatus): NodeOverview {
  const { id, incarnation, state, version, address, connections, routeLagMs } = descriptor;
  return {
    ...{ id, incarnation, state, version, address, connections, routeLagMs },
    link: link && {
      state: linkState(link),
      unacknowledgedBytes: link.bufferedBytes,
      waiting: link.waiting,
    },
  };
}

function linkState({ state, heard }: PeerStatus): 'up' | 'outgoing' | 'incoming' | 'down' {
  if (state === 'up') return heard ? 'up' : 'outgoing';
  return heard ? 'incoming' : 'down';
}

function aloneStatus(node: Node): ClusterStatus {
  const { id, incarnation } = node.identity;
  const self: ClusterNodeStatus = {
    ...{ id, incarnation, version: VERSION, address: '', link: undefined },
    ...{ connections: node.connections.size, routeLagMs: 0 },
    state: 'serving',
  };
  return { nodes: [self], dead: [], valid: true, generation: undefined, routeLagMs: 0 };
}

function clusterWarnings({ nodes, dead }: ClusterStatus): string[] {
  const warnings: string[] = [];
  const versions = [...new Set(nodes.map(({ version }) => version))].sort();
  if (versions.length > 1) warnings.push(`nodes run different versions: ${versions.join(', ')}`);
  for (const { id, routeLagMs } of nodes) {
    if (routeLagMs !== undefined && routeLagMs > ROUTE_LAG_WARNING_MS) {
      warnings.push(`the routes of node ${id} are ${Math.round(routeLagMs / 1_000)} s behind`);
    }
  }
  if (dead.length > 0) warnings.push(`${dead.length} nodes died and are not buried yet`);
  return warnings;
}
