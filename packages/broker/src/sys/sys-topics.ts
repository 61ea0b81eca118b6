import { DROP_REASONS } from '@shoalmq/core';
import type { Counters } from '@shoalmq/core';
import type { NodeLevels } from '../telemetry/metrics.ts';
import { LoadAverages } from './load-averages.ts';
import type { LoadPeriod } from './load-averages.ts';

/** What the `$SYS` topics say, at one moment. */
export interface SysSnapshot {
  /** As published: `shoal version 0.1.0`. */
  readonly version: string;
  readonly uptimeSeconds: number;
  readonly clientsConnected: number;
  /** Persistent sessions without a connection; `undefined`, like the others that may be: nobody counts them. */
  readonly clientsDisconnected: number | undefined;
  /** Most clients that were connected at one time. */
  readonly clientsMaximum: number;
  readonly clientsExpired: number;
  readonly subscriptions: number;
  readonly sharedSubscriptions: number;
  readonly retainedMessages: number;
  readonly storedMessages: number | undefined;
  readonly storedBytes: number | undefined;
  readonly totals: SysTotals;
  readonly load: Readonly<Record<LoadName, Readonly<Record<LoadPeriod, number>>>>;
}

/** Totals since the start. "Messages" are packets of any type; "publish" are PUBLISH packets. */
export interface SysTotals {
  readonly messagesReceived: number;
  readonly messagesSent: number;
  readonly publishReceived: number;
  readonly publishSent: number;
  readonly publishDropped: number;
  readonly publishBytesReceived: number;
  readonly publishBytesSent: number;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  readonly sockets: number;
  readonly connections: number;
}

/** The rates under `$SYS/broker/load`, with the total that each is the rate of. */
const LOADS = {
  'messages/received': 'messagesReceived',
  'messages/sent': 'messagesSent',
  'publish/received': 'publishReceived',
  'publish/sent': 'publishSent',
  'publish/dropped': 'publishDropped',
  'bytes/received': 'bytesReceived',
  'bytes/sent': 'bytesSent',
  sockets: 'sockets',
  connections: 'connections',
} as const satisfies Record<string, keyof SysTotals>;
export type LoadName = keyof typeof LOADS;

/**
 * The topics under `$SYS/broker`, by the names Mosquitto gave them, with their payloads as text. There are none for what
 * is not known.
 */
export function sysTopics(snapshot: SysSnapshot): [topic: string, payload: string][] {
  const { totals, load } = snapshot;
  const values: [string, string | number | undefined][] = [
    ['version', snapshot.version],
    ['uptime', `${Math.floor(snapshot.uptimeSeconds)} seconds`],
    ['clients/connected', snapshot.clientsConnected],
    ['clients/disconnected', snapshot.clientsDisconnected],
    ['clients/total', sumOf(snapshot.clientsConnected, snapshot.clientsDisconnected)],
    ['clients/maximum', snapshot.clientsMaximum],
    ['clients/expired', snapshot.clientsExpired],
    ['messages/received', totals.messagesReceived],
    ['messages/sent', totals.messagesSent],
    ['messages/stored', snapshot.storedMessages],
    ['store/messages/count', snapshot.storedMessages],
    ['store/messages/bytes', snapshot.storedBytes],
    ['publish/messages/received', totals.publishReceived],
    ['publish/messages/sent', totals.publishSent],
    ['publish/messages/dropped', totals.publishDropped],
    ['publish/bytes/received', totals.publishBytesReceived],
    ['publish/bytes/sent', totals.publishBytesSent],
    ['bytes/received', totals.bytesReceived],
    ['bytes/sent', totals.bytesSent],
    ['subscriptions/count', snapshot.subscriptions],
    ['shared_subscriptions/count', snapshot.sharedSubscriptions],
    ['retained messages/count', snapshot.retainedMessages],
  ];
  for (const name of Object.keys(LOADS) as LoadName[]) {
    for (const [period, rate] of Object.entries(load[name])) {
      values.push([`load/${name}/${period}`, rate.toFixed(2)]);
    }
  }
  return values.flatMap(([name, value]): [string, string][] =>
    value === undefined ? [] : [[`$SYS/broker/${name}`, String(value)]],
  );
}

/**
 * The `$SYS` tree of one node over time: keeps the averages and the maximum, and says which topics changed.
 * Time comes from the caller; nothing here waits or publishes.
 */
export class SysTree {
  readonly #version: string;
  readonly #startedAtMs: number;
  #updatedAtMs: number;
  #clientsMaximum = 0;
  readonly #averages: Readonly<Record<LoadName, LoadAverages>>;
  readonly #published = new Map<string, string>();

  /** `nowMs` is monotonic, here and in `update`. */
  constructor(version: string, nowMs: number) {
    this.#version = `shoal version ${version}`;
    this.#startedAtMs = nowMs;
    this.#updatedAtMs = nowMs;
    const names = Object.keys(LOADS) as LoadName[];
    this.#averages = Object.fromEntries(names.map((name) => [name, new LoadAverages()])) as Record<
      LoadName,
      LoadAverages
    >;
  }

  /** Topics whose payload differs from that of the last call; all of them the first time. */
  update(nowMs: number, counters: Counters, levels: SysLevels): [topic: string, payload: string][] {
    // Averages over no time at all are not defined.
    const elapsedSeconds = Math.max(nowMs - this.#updatedAtMs, 1) / 1_000;
    this.#updatedAtMs = nowMs;
    this.#clientsMaximum = Math.max(this.#clientsMaximum, levels.sessionsConnected);
    const totals = sysTotals(counters);
    const load = Object.fromEntries(
      (Object.keys(LOADS) as LoadName[]).map((name) => [
        name,
        this.#averages[name].update(totals[LOADS[name]], elapsedSeconds),
      ]),
    ) as SysSnapshot['load'];
    const topics = sysTopics({
      version: this.#version,
      uptimeSeconds: (nowMs - this.#startedAtMs) / 1_000,
      clientsConnected: levels.sessionsConnected,
      clientsDisconnected: levels.sessionsOffline,
      clientsMaximum: this.#clientsMaximum,
      clientsExpired: counters.sessionEvents.expired,
      subscriptions: levels.subscriptions,
      sharedSubscriptions: levels.sharedGroups,
      retainedMessages: levels.retainedMessages,
      storedMessages: sumOf(levels.retainedMessages, levels.queuedMessages),
      storedBytes: sumOf(levels.retainedBytes, levels.queuedBytes),
      totals,
      load,
    });
    const changed = topics.filter(([topic, payload]) => this.#published.get(topic) !== payload);
    for (const [topic, payload] of changed) this.#published.set(topic, payload);
    return changed;
  }
}

/** Levels that the `$SYS` topics need. */
export type SysLevels = Pick<
  NodeLevels,
  | 'sessionsConnected'
  | 'sessionsOffline'
  | 'subscriptions'
  | 'sharedGroups'
  | 'retainedMessages'
  | 'retainedBytes'
  | 'queuedMessages'
  | 'queuedBytes'
>;

/** The totals of a node, out of its counters. */
export function sysTotals(counters: Counters): SysTotals {
  let connections = 0;
  for (const { reasonCode, count } of counters.connects())
    if (reasonCode === 0) connections += count;
  let [sockets, bytesReceived, bytesSent] = [0, 0, 0];
  for (const listener of counters.listeners.values()) {
    sockets += listener.connectionsAccepted;
    bytesReceived += listener.bytesReceived;
    bytesSent += listener.bytesSent;
  }
  // A message nobody subscribed to was not meant for anybody: Mosquitto does not call that dropped either.
  const dropped = DROP_REASONS.filter((reason) => reason !== 'no_subscribers');
  return {
    messagesReceived: sum(counters.packetsReceived),
    messagesSent: sum(counters.packetsSent),
    publishReceived: sum(counters.publishReceived),
    publishSent: sum(counters.publishSent),
    publishDropped: sum(dropped.map((reason) => counters.messagesDropped[reason])),
    publishBytesReceived: counters.publishBytesReceived,
    publishBytesSent: counters.publishBytesSent,
    bytesReceived,
    bytesSent,
    sockets,
    connections,
  };
}

/** `undefined` when one of them is. */
function sumOf(one: number | undefined, other: number | undefined): number | undefined {
  return one === undefined || other === undefined ? undefined : one + other;
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
