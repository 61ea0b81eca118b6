import type {
  ClaimedSession,
  ClaimRequest,
  DueWill,
  IncomingMessage,
  OwnerToken,
  SessionIncarnation,
  Will,
} from '@shoalmq/core';
import { SessionQueue } from './session-queue.ts';
import type { QueueTotals } from './session-queue.ts';
import type { SessionSubscriptions } from './session-subscriptions.ts';
import type { Timed } from './timer-heap.ts';

/** Session Expiry Interval of a session that never expires (MQTT 5.0 §3.1.2.11.2). */
const NEVER_EXPIRES = 0xffffffff;

/** What `claim` found and did, kept so that the same claim made again gets the same answer. */
export type ClaimOutcome = Pick<
  ClaimedSession,
  'sessionPresent' | 'previousToken' | 'endedIncarnation' | 'endedSubscriptions'
> & { readonly wills: readonly PendingWill[] };

/** One session, from the claim that starts it to its end. As a timer: the session expires at `dueMs`. */
export class SessionRecord implements Timed {
  readonly clientId: string;
  readonly incarnation: SessionIncarnation;
  /** `undefined` for a session that began clean: nothing is ever queued for it. */
  readonly queue: SessionQueue | undefined;
  /** Made when the first one comes, which for a clean session is never. */
  subscriptions: SessionSubscriptions | undefined = undefined;
  /** By packet identifier; made when the first QoS 2 PUBLISH comes. */
  incoming: Map<number, IncomingMessage> | undefined = undefined;
  /** Sequences in the order in which they were marked. */
  released: Set<number> | undefined = undefined;
  sentBelow = 1;
  /** Connection that owns the session, or '' when it was released. */
  token: OwnerToken = '';
  /** Connection that released the session, or '' while it is owned. */
  releasedToken: OwnerToken = '';
  expiryInterval = 0;
  username = '';
  /** Will of the owning connection. */
  will: Will | undefined = undefined;
  /** Will of the connection that released the session, until a claim. */
  pendingWill: PendingWill | undefined = undefined;
  claim: ClaimOutcome | undefined = undefined;
  /** Meaningful while the session has no owner; `Infinity` when it never expires. */
  dueMs = Infinity;
  heapIndex = -1;

  constructor(clientId: string, incarnation: SessionIncarnation, totals: QueueTotals | undefined) {
    this.clientId = clientId;
    this.incarnation = incarnation;
    this.queue = totals === undefined ? undefined : new SessionQueue(totals);
  }

  /** Whether the session ends when its connection does. */
  get endsWithConnection(): boolean {
    return this.expiryInterval === 0;
  }

  /** Hands the session to the connection that claims it. */
  assign(request: ClaimRequest, outcome: ClaimOutcome): void {
    this.token = request.token;
    this.releasedToken = '';
    this.expiryInterval = request.expiryInterval;
    this.username = request.username;
    this.will = request.will;
    this.pendingWill = undefined;
    this.claim = outcome;
  }

  /** Takes the session from its connection; it expires when its expiry interval has passed from `nowMs` on. */
  unassign(nowMs: number): void {
    this.releasedToken = this.token;
    this.token = '';
    this.will = undefined;
    this.claim = undefined;
    this.dueMs =
      this.expiryInterval === NEVER_EXPIRES ? Infinity : nowMs + this.expiryInterval * 1_000;
  }

  /** Entries below `sequence` may have been sent; what was said before stays true. */
  noteSentBelow(sequence: number): void {
    const appendedBelow = this.queue?.nextSequence ?? 1;
    this.sentBelow = Math.max(this.sentBelow, Math.min(sequence, appendedBelow));
  }
}

/**
 * The will of a connection that ended, from then until it is cancelled or settled. As a timer: `dueMs` is when it
 * must be published and, once handed out, when it may be handed out again.
 */
export class PendingWill implements DueWill, Timed {
  readonly uid: string;
  readonly clientId: string;
  readonly username: string;
  readonly will: Will;
  dueMs: number;
  heapIndex = -1;

  constructor(uid: string, session: SessionRecord, will: Will, dueMs: number) {
    this.uid = uid;
    this.clientId = session.clientId;
    this.username = session.username;
    this.will = will;
    this.dueMs = dueMs;
  }
}
