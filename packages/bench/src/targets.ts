import type { Measurement } from './measurement.ts';

/** The least ratio of broker CPU per delivered message, other broker / Shoal, that we want. */
export interface Target {
  readonly mosquitto: number;
  readonly aedes: number;
}

/** The targets by case; they hold for either payload size. */
export const TARGETS: Readonly<Record<string, Target>> = {
  'pair-qos0': { mosquitto: 8, aedes: 25 },
  'pair-qos1': { mosquitto: 10, aedes: 25 },
  'pair-qos2': { mosquitto: 8, aedes: 15 },
  'fan-out-qos0': { mosquitto: 20, aedes: 40 },
  'fan-out-qos1': { mosquitto: 12, aedes: 25 },
  'fan-in-qos0': { mosquitto: 10, aedes: 50 },
  'trickle-qos0': { mosquitto: 0.7, aedes: 1.4 },
  'trickle-qos1': { mosquitto: 0.7, aedes: 1.4 },
};

/** Bytes of heap that one of a million subscriptions may cost, sessions and embedded store included. */
export const SUBSCRIPTION_BYTES_MAX = 250;

/** A figure of the cluster cases and what we want of it. */
export interface Goal {
  readonly caseName: string;
  readonly what: string;
  /** The bound, which the figure may reach. */
  readonly most?: number;
  readonly least?: number;
  /** From the rows of one case and payload, by the name of the setup; NaN when something is missing. */
  readonly value: (of: (setup: string) => Measurement | undefined) => number;
}

/** What we want of clusters; in one run, so that the machine is the same. */
export const GOALS: readonly Goal[] = [
  ...['cluster-pair-qos0', 'cluster-pair-qos1'].map((caseName) =>
    cpuRatio({ caseName, of: 'shoal-2-nodes', to: 'shoal', most: 3.5 }),
  ),
  ...['cluster-spread-qos0', 'cluster-spread-qos1'].map((caseName) =>
    cpuRatio({ caseName, of: 'shoal-3-nodes', to: 'shoal-2-nodes', most: 1.2 }),
  ),
  {
    caseName: 'cluster-bystander-qos1',
    what: 'bytes per message to a node without a matching subscriber',
    most: 0.01,
    value: (of) => figure(of('shoal-3-nodes'), 'bystanderBytes'),
  },
  {
    caseName: 'cluster-bystander-qos1',
    what: 'messages sent to a node without a matching subscriber',
    most: 0,
    value: (of) => figure(of('shoal-3-nodes'), 'bystanderMessages'),
  },
  ...[
    ['shoal-redis', 'aedes-redis'],
    ['shoal-2-nodes', 'aedes-2-nodes'],
  ].flatMap(([of = '', to = '']) => [
    cpuRatio({ caseName: 'cluster-persistent-qos1', of, to, most: 1 / 3 }),
    {
      caseName: 'cluster-persistent-qos1',
      what: `messages/s per broker core, ${of}`,
      least: 60_000,
      value: (row: (setup: string) => Measurement | undefined) =>
        1e6 / (row(of)?.brokerCpuUs ?? Number.NaN),
    },
    {
      caseName: 'cluster-persistent-qos1',
      what: `us of Redis CPU per message, ${of}`,
      most: 5,
      value: (row: (setup: string) => Measurement | undefined) => row(of)?.redisCpuUs ?? Number.NaN,
    },
  ]),
  {
    caseName: 'cluster-failover',
    what: 'changes of routes by clients that connect again',
    most: 0,
    value: (of) =>
      figure(of('shoal-2-nodes'), 'routeChanges') + figure(of('shoal-2-nodes'), 'routesLogged'),
  },
  {
    caseName: 'cluster-join',
    what: 's until a node that joins is ready',
    most: 20,
    value: (of) => figure(of('shoal-redis'), 'joinMs') / 1000,
  },
  {
    caseName: 'cluster-join',
    what: 'bytes per route',
    most: 250,
    value: (of) => figure(of('shoal-redis'), 'routeBytes'),
  },
];

function cpuRatio(options: {
  readonly caseName: string;
  readonly of: string;
  readonly to: string;
  readonly most: number;
}): Goal {
  const { caseName, of, to, most } = options;
  return {
    caseName,
    what: `CPU per message, ${of} / ${to}`,
    most,
    value: (row) => (row(of)?.brokerCpuUs ?? Number.NaN) / (row(to)?.brokerCpuUs ?? Number.NaN),
  };
}

function figure(measurement: Measurement | undefined, name: string): number {
  return measurement?.figures[name] ?? Number.NaN;
}
