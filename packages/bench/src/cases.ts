import type { Placement } from './load/placement.ts';
import { AEDES_2, AEDES_REDIS, SHOAL, SHOAL_2, SHOAL_3, SHOAL_REDIS } from './setups.ts';
import type { Setup } from './setups.ts';
import type { Qos } from './wire.ts';

interface OnSetups {
  /** What is compared; without it each of the single brokers of the command line. */
  readonly setups?: readonly Setup[];
}

/** Publishers that keep their window full, or that send at a fixed rate (`trickle`). */
export interface FlowCase extends OnSetups {
  readonly kind: 'flow';
  readonly name: string;
  readonly qos: Qos;
  /** `pair`: publisher i to subscriber i; `all`: every publisher to every subscriber. */
  readonly shape: 'pair' | 'all';
  readonly publishers: number;
  readonly subscribers: number;
  /** Messages per second of each publisher, evenly staggered; without it the window decides. */
  readonly ratePerSecond?: number;
  /** Filters held by other clients that do not match; the topic then changes with each message. */
  readonly otherFilters?: number;
  /** To which nodes publishers and subscribers connect; without it all to the first. */
  readonly placement?: Placement;
  /** The subscribers have persistent sessions. */
  readonly persistent?: true;
  /** Unsettled messages per publisher, instead of that of the command line. */
  readonly window?: number;
  /** The last node has subscriptions of which none matches; what the others send to it is counted. */
  readonly bystander?: true;
}

/** Messages for persistent sessions that are away, and then their return. */
export interface OfflineCase extends OnSetups {
  readonly kind: 'offline';
  readonly name: string;
  /** Publisher i sends to session i. */
  readonly sessions: number;
}

/** Persistent sessions that connect for the first time, and again, to one node. */
export interface ConnectsCase extends OnSetups {
  readonly kind: 'connects';
  readonly name: string;
  readonly sessions: number;
}

/** A node is killed, and all its persistent clients connect to the other one. */
export interface FailoverCase extends OnSetups {
  readonly kind: 'failover';
  readonly name: string;
  readonly clients: number;
}

/** A node that joins a cluster with many routes. */
export interface JoinCase extends OnSetups {
  readonly kind: 'join';
  readonly name: string;
  readonly routes: number;
}

/** Connections that do nothing. */
export interface IdleCase extends OnSetups {
  readonly kind: 'idle';
  readonly name: string;
  readonly connections: number;
}

/** Many retained messages and a late subscriber to `#`, with a probe of what others feel. */
export interface RetainedCase extends OnSetups {
  readonly kind: 'retained';
  readonly name: string;
  readonly messages: number;
}

/** Many subscriptions inside the core, in a process of their own, without a network or another broker beside. */
export interface SubscriptionsCase {
  readonly kind: 'subscriptions';
  readonly name: string;
  readonly subscriptions: number;
  /** Numbers of filters that do not match, among which those that do are looked for. */
  readonly otherFilters: readonly number[];
}

/** What is measured from outside, and thus on any broker. */
export type LoadCase =
  FlowCase | IdleCase | RetainedCase | OfflineCase | ConnectsCase | FailoverCase | JoinCase;

/** What can be measured. */
export type Case = LoadCase | SubscriptionsCase;

/** All cases, in the order of the report. */
export const CASES: readonly Case[] = [
  ...([0, 1, 2] as const).map((qos) => flow({ name: 'pair', qos, shape: 'pair' }, 10, 10)),
  ...([0, 1] as const).map((qos) => flow({ name: 'fan-out', qos, shape: 'all' }, 1, 100)),
  ...([0, 1] as const).map((qos) => flow({ name: 'fan-in', qos, shape: 'all' }, 100, 1)),
  ...([0, 1] as const).map((qos) =>
    flow({ name: 'trickle', qos, shape: 'pair', ratePerSecond: 50 }, 200, 200),
  ),
  {
    kind: 'flow',
    name: 'wildcard',
    qos: 0,
    shape: 'all',
    publishers: 1,
    subscribers: 10,
    otherFilters: 99_990,
  },
  { kind: 'idle', name: 'idle', connections: 10_000 },
  { kind: 'retained', name: 'retained', messages: 100_000 },
  {
    kind: 'subscriptions',
    name: 'subscriptions',
    subscriptions: 1_000_000,
    otherFilters: [1_000, 100_000, 1_000_000],
  },
  ...([0, 1] as const).map((qos): FlowCase => ({
    ...flow({ name: 'cluster-pair', qos, shape: 'pair' }, 10, 10),
    placement: 'apart',
    setups: [SHOAL, SHOAL_2],
  })),
  // Every message crosses one link, whether there are two nodes or three: 12 pairs over 2 or 6 links.
  ...([0, 1] as const).map((qos): FlowCase => ({
    ...flow({ name: 'cluster-spread', qos, shape: 'pair' }, 12, 12),
    placement: 'around',
    setups: [SHOAL_2, SHOAL_3],
  })),
  {
    ...flow({ name: 'cluster-bystander', qos: 1, shape: 'pair' }, 10, 10),
    placement: 'apart',
    bystander: true,
    setups: [SHOAL_3],
  },
  {
    ...flow({ name: 'cluster-persistent', qos: 1, shape: 'pair' }, 10, 10),
    placement: 'apart',
    persistent: true,
    // What aedes is best at: with 1,000 it takes three times as much CPU per message, and Shoal as much as with this.
    window: 100,
    setups: [SHOAL_REDIS, SHOAL_2, AEDES_REDIS, AEDES_2],
  },
  {
    ...flow({ name: 'cluster-persistent-fan-out', qos: 1, shape: 'all' }, 1, 1_000),
    placement: 'apart',
    persistent: true,
    window: 20,
    setups: [SHOAL_REDIS, SHOAL_2, AEDES_REDIS],
  },
  {
    kind: 'offline',
    name: 'cluster-offline-qos1',
    sessions: 50,
    setups: [SHOAL_REDIS, AEDES_REDIS],
  },
  {
    kind: 'connects',
    name: 'cluster-connects',
    sessions: 5_000,
    setups: [SHOAL_REDIS, SHOAL_2, AEDES_REDIS],
  },
  { kind: 'failover', name: 'cluster-failover', clients: 10_000, setups: [SHOAL_2] },
  { kind: 'join', name: 'cluster-join', routes: 1_000_000, setups: [SHOAL_REDIS] },
];

/** Messages come one by one at a fixed rate, so that what a broker does for each of them is seen. */
export function isPaced(each: Case): boolean {
  return each.kind === 'flow' && each.ratePerSecond !== undefined;
}

/** The case is measured from outside. */
export function isLoadCase(each: Case): each is LoadCase {
  return each.kind !== 'subscriptions';
}

/**
 * The cases whose name is one of `names` or starts with one of them and a dash: `pair` is all three.
 *
 * @throws Error for a name that fits no case.
 */
export function selectCases(names: readonly string[]): readonly Case[] {
  const fits = (each: Case, name: string): boolean =>
    each.name === name || each.name.startsWith(`${name}-`);
  const unknown = names.find((name) => !CASES.some((each) => fits(each, name)));
  if (unknown !== undefined) {
    throw new Error(
      `unknown case ${unknown}; there are ${CASES.map((each) => each.name).join(', ')}`,
    );
  }
  return CASES.filter((each) => names.some((name) => fits(each, name)));
}

function flow(
  shape: Omit<FlowCase, 'kind' | 'publishers' | 'subscribers'>,
  publishers: number,
  subscribers: number,
): FlowCase {
  const name = `${shape.name}-qos${String(shape.qos)}`;
  return { ...shape, kind: 'flow', name, publishers, subscribers };
}
