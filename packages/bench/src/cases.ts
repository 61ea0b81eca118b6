import type { Qos } from './wire.ts';

/** Publishers that keep their window full, or that send at a fixed rate (`trickle`). */
export interface FlowCase {
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
}

/** Connections that do nothing. */
export interface IdleCase {
  readonly kind: 'idle';
  readonly name: string;
  readonly connections: number;
}

/** Many retained messages and a late subscriber to `#`, with a probe of what others feel. */
export interface RetainedCase {
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

/** What is measured from outside, and thus on every broker. */
export type LoadCase = FlowCase | IdleCase | RetainedCase;

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
];

/** Messages come one by one at a fixed rate, so that what a broker does for each of them is seen. */
export function isPaced(each: Case): boolean {
  return each.kind === 'flow' && each.ratePerSecond !== undefined;
}

/** The case is measured on every broker. */
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
