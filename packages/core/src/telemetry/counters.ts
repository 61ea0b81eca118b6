import type { ProtocolVersion, QoS } from '../packet.ts';
import type { CloseReason } from '../ports/channel.ts';

/**
 * What happened on this node since it started, as plain numbers: the hot path adds to a field, and nothing else
 * happens until somebody scrapes. Every set of labels is closed, so the size of this object depends on no client.
 * All counters only grow; the exceptions (`connected`) are levels and say so.
 */

/** Why a message was not delivered to somebody it was meant for. */
export const DROP_REASONS = [
  'no_subscribers',
  'queue_full',
  'expired',
  'too_large',
  'receive_max',
  'quota',
  'unauthorized',
  'offline_qos0',
  'slow_consumer',
] as const;
export type DropReason = (typeof DROP_REASONS)[number];

/** All values of `CloseReason`; the compiler checks that none is missing. */
export const CLOSE_REASONS = Object.keys({
  client_disconnect: true,
  client_eof: true,
  keepalive_timeout: true,
  takeover: true,
  protocol_error: true,
  not_authorized: true,
  server_shutdown: true,
  drain: true,
  overload: true,
  slow_consumer: true,
  quota: true,
  io_error: true,
} satisfies Record<CloseReason, true>) as readonly CloseReason[];

export const SESSION_EVENTS = [
  'created',
  'resumed',
  'takeover_local',
  'takeover_remote',
  'expired',
  'discarded',
] as const;
export type SessionEvent = (typeof SESSION_EVENTS)[number];

/** What made a will due: its connection ended without delay, a new connection took over, or its delay passed. */
export const WILL_CAUSES = ['connection_closed', 'takeover', 'delay_elapsed'] as const;
export type WillCause = (typeof WILL_CAUSES)[number];

/** `failed`: the provider threw or rejected, which counts as "no". */
export const AUTH_RESULTS = ['accepted', 'rejected', 'failed'] as const;
export type AuthResult = (typeof AUTH_RESULTS)[number];

/** Calls of the `StateStore` that can fail. */
export const STORE_OPERATIONS = [
  'claim',
  'restore',
  'release',
  'takeDue',
  'settleWill',
  'changeSubscriptions',
  'append',
  'read',
  'remove',
  'markReleased',
  'beginIncoming',
  'finishIncoming',
  'endIncoming',
  'retain',
  'readRetained',
] as const;
export type StoreOperation = (typeof STORE_OPERATIONS)[number];

/** Upper bounds in milliseconds of the buckets of every duration that is measured. */
export const DURATION_BOUNDS_MS: readonly number[] = [
  0.5, 1, 2.5, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000,
];

/** A histogram with fixed buckets. `observe` costs a walk over at most all bounds, and most values fall early. */
export class Histogram {
  /** Ascending, in milliseconds. */
  readonly boundsMs: readonly number[];
  /** Observations per bucket, not cumulative; the last one is above every bound. */
  readonly counts: number[];
  sumMs = 0;

  constructor(boundsMs: readonly number[] = DURATION_BOUNDS_MS) {
    this.boundsMs = boundsMs;
    this.counts = new Array<number>(boundsMs.length + 1).fill(0);
  }

  /** Adds one duration, or the same one `times` times. */
  observe(ms: number, times = 1): void {
    const bounds = this.boundsMs;
    let bucket = 0;
    while (bucket < bounds.length && ms > bounds[bucket]!) bucket++;
    this.counts[bucket]! += times;
    this.sumMs += ms * times;
  }
}

/** The part of the counters that is kept per listener. Connections keep a reference, so that adding is one field. */
export class ListenerCounters {
  connectionsAccepted = 0;
  bytesReceived = 0;
  bytesSent = 0;
  /** Level: connections after a successful CONNECT and before their end, by protocol version (index 3, 4, 5). */
  readonly connected: number[] = [0, 0, 0, 0, 0, 0];
}

/** Everything counted on one node. One object per node, made by the shell and given to the core. */
export class Counters {
  /** By packet type number (1 CONNECT ... 15 AUTH). */
  readonly packetsReceived: number[] = new Array<number>(16).fill(0);
  readonly packetsSent: number[] = new Array<number>(16).fill(0);

  /** PUBLISH packets by QoS. */
  readonly publishReceived: [number, number, number] = [0, 0, 0];
  readonly publishSent: [number, number, number] = [0, 0, 0];
  /** Bytes of payload in PUBLISH packets. */
  publishBytesReceived = 0;
  publishBytesSent = 0;
  /** Level: QoS 1 and 2 messages sent to clients and not yet acknowledged in full. */
  inflightMessages = 0;
  /** Level: bytes of payload that wait for the in-flight windows of connected clean sessions. */
  waitingBytes = 0;

  readonly messagesDropped: Record<DropReason, number> = zeros(DROP_REASONS);
  readonly connectionsClosed: Record<CloseReason, number> = zeros(CLOSE_REASONS);
  readonly sessionEvents: Record<SessionEvent, number> = zeros(SESSION_EVENTS);
  readonly willsPublished: Record<WillCause, number> = zeros(WILL_CAUSES);
  readonly storeErrors: Record<StoreOperation, number> = zeros(STORE_OPERATIONS);
  /** Retained messages that a store which was replaced does not have any more. */
  retainedLost = 0;
  /** Answers of the access port: to a CONNECT alone, and to exchanges of enhanced authentication. */
  readonly authResults: {
    readonly simple: Record<AuthResult, number>;
    readonly enhanced: Record<AuthResult, number>;
  } = { simple: zeros(AUTH_RESULTS), enhanced: zeros(AUTH_RESULTS) };

  /** From a PUBLISH being read to its PUBACK or PUBREC being written. */
  readonly publishAckDuration: { readonly qos1: Histogram; readonly qos2: Histogram } = {
    qos1: new Histogram(),
    qos2: new Histogram(),
  };
  /** From a PUBLISH being read to its being written to a subscriber. `queued`: it waited in a session's queue. */
  readonly deliveryDuration: { readonly local: Histogram; readonly queued: Histogram } = {
    local: new Histogram(),
    queued: new Histogram(),
  };
  readonly authDuration: { readonly simple: Histogram; readonly enhanced: Histogram } = {
    simple: new Histogram(),
    enhanced: new Histogram(),
  };

  readonly #listeners = new Map<string, ListenerCounters>();
  /** CONNECT packets by (protocol version, reason code); see `connect`. */
  readonly #connects = new Map<number, number>();

  /** The counters of one listener, made when first asked for. Listener names come from the operator. */
  listener(name: string): ListenerCounters {
    let counters = this.#listeners.get(name);
    if (counters === undefined) {
      counters = new ListenerCounters();
      this.#listeners.set(name, counters);
    }
    return counters;
  }

  get listeners(): ReadonlyMap<string, ListenerCounters> {
    return this.#listeners;
  }

  /** Counts one answered CONNECT by the MQTT 5.0 reason code; version 0: none that we know. */
  connect(version: ProtocolVersion | 0, reasonCode: number): void {
    const key = version * 256 + reasonCode;
    this.#connects.set(key, (this.#connects.get(key) ?? 0) + 1);
  }

  /** The combinations counted by `connect` so far. */
  connects(): { version: ProtocolVersion | 0; reasonCode: number; count: number }[] {
    return [...this.#connects].map(([key, count]) => ({
      version: (key >> 8) as ProtocolVersion | 0,
      reasonCode: key & 0xff,
      count,
    }));
  }

  /** Counts a PUBLISH of a client. `payloadBytes` is the size of its payload. */
  countPublishReceived(qos: QoS, payloadBytes: number): void {
    this.publishReceived[qos]++;
    this.publishBytesReceived += payloadBytes;
  }

  /** Counts a PUBLISH to a client. */
  countPublishSent(qos: QoS, payloadBytes: number): void {
    this.publishSent[qos]++;
    this.publishBytesSent += payloadBytes;
  }
}

function zeros<Name extends string>(names: readonly Name[]): Record<Name, number> {
  const record = {} as Record<Name, number>;
  for (const name of names) record[name] = 0;
  return record;
}
