import type { Message } from '../message.ts';
import type { ProtocolVersion, QoS, Will } from '../packet.ts';

/**
 * State that outlives a connection and is shared by all nodes. The contract is written for a store across a
 * network (Redis): everything a connection consumes is fenced by its owner token, appends need no ownership, and
 * outcomes such as "fenced" are results, not errors. A rejected promise, or a `failed` result, means that the
 * store could not be reached or that the outcome is unknown: the caller acknowledges nothing.
 *
 * Calls for one session take effect in the order in which they were made. Each write may run twice (an adapter
 * repeats it when a reply was lost) and leaves the same state as once; only an append without a uid appends again.
 * Lists have no order unless one is promised.
 */

/**
 * Names one connection for ever: `<node>#<node incarnation>#<connection>`. Compared by equality, never by order:
 * after a failover that lost writes two owners could hold the same number.
 */
export type OwnerToken = string & { readonly brand?: 'OwnerToken' };

/** In place of a token: for those who look after the queue of a session that has no owner. */
export const NOBODY: OwnerToken = 'nobody';

/** A persistent session's life between two clean starts; a late write for an earlier one gets `gone`. */
export type SessionIncarnation = string & { readonly brand?: 'SessionIncarnation' };

export interface SessionRef {
  readonly clientId: string;
  readonly incarnation: SessionIncarnation;
}

/** One subscription of a persistent session, with the full filter as the client wrote it (`$share/...` too). */
export interface StoredSubscription {
  readonly filter: string;
  readonly qos: QoS;
  readonly noLocal: boolean;
  readonly retainAsPublished: boolean;
  readonly retainHandling: 0 | 1 | 2;
  /** 0: none. */
  readonly subscriptionIdentifier: number;
}

export interface ClaimRequest {
  readonly clientId: string;
  readonly token: OwnerToken;
  readonly cleanStart: boolean;
  /**
   * Session expiry in seconds after the connection ends; 0: a clean session; 0xFFFFFFFF: never. A session keeps
   * its queue when it is resumed with 0, but ends with that connection.
   */
  readonly expiryInterval: number;
  readonly protocolVersion: ProtocolVersion;
  readonly username: string;
  /** Kept until the connection ends, or the will is published or cancelled. */
  readonly will: Will | undefined;
}

export interface ClaimedSession {
  /**
   * The session that the connection resumes or starts; one that starts clean (expiry 0) has an incarnation too,
   * it only never has a queue: appends to it are `gone`.
   */
  readonly incarnation: SessionIncarnation;
  /** State of an earlier connection exists [MQTT-3.2.2-3]. */
  readonly sessionPresent: boolean;
  /** Token of the connection that owned the session and had not released it, '' for none. */
  readonly previousToken: OwnerToken;
  readonly subscriptions: readonly StoredSubscription[];
  /** Subscriptions of the session that this claim ended: their routes go. */
  readonly endedSubscriptions: readonly StoredSubscription[];
  /**
   * The session that this claim ended, when there was one: by clean start, because it had expired and nobody had
   * taken notice, or because its connection had expiry 0 and was taken over.
   */
  readonly endedIncarnation: SessionIncarnation | undefined;
  /** QoS 2 receive state: packet identifiers whose PUBREL has not come. */
  readonly incoming: readonly IncomingMessage[];
  /**
   * Queue entries before this sequence may have been sent to the client before: resent with DUP. 1 when there are
   * none; everything appended so far when the previous connection did not release the session.
   */
  readonly sentBelow: number;
  /**
   * Sequences of QoS 2 entries that the client has confirmed with PUBREC: go on with PUBREL. In the order in which
   * they were marked. An entry that was dropped since is still named here until it is removed.
   */
  readonly released: readonly number[];
  /**
   * The will of the previous connection when it is due now: the caller publishes and settles it. It is due when
   * this claim ends the session, delay or not [MQTT-3.1.2-8], when it has no delay, and when the delay had passed
   * before this claim; otherwise it is cancelled, because the client is back [MQTT-3.1.3-9]. Of one that was released
   * with a grace only the time counts.
   */
  readonly wills: readonly DueWill[];
}

/** What a connection knows of the session that it serves. */
export interface RestoreRequest extends Omit<ClaimRequest, 'cleanStart'> {
  readonly incarnation: SessionIncarnation;
  /** The session has a queue. */
  readonly queued: boolean;
  readonly subscriptions: readonly StoredSubscription[];
  readonly incoming: readonly IncomingMessage[];
  readonly released: readonly number[];
  /** Entries of the queue before this sequence were sent, or are lost. */
  readonly nextSequence: number;
}

export interface IncomingMessage {
  readonly packetId: number;
  readonly uid: string;
  /** `pending`: accepted, the fan-out may be incomplete; `done`: every queue holds it. */
  readonly state: 'pending' | 'done';
}

/**
 * A will that must be published now, exactly once, under `uid`. `settleWill` when that is done. It is handed out to
 * one caller at a time: again, under the same uid, only when it was not settled within a lease of some
 * seconds. A claim does not call it back.
 */
export interface DueWill {
  readonly uid: string;
  readonly clientId: string;
  readonly username: string;
  readonly will: Will;
}

/** A message for one persistent session, as it stands in the session's queue. */
export interface QueuedMessage {
  readonly message: Message;
  /** 1 or 2: the lower of the message's QoS and the subscription's. */
  readonly qos: 1 | 2;
  /** RETAIN flag to send. */
  readonly retain: boolean;
  readonly subscriptionIds: readonly number[];
  /** The shared subscription (full filter) for which this member was chosen. */
  readonly group?: string | undefined;
}

export interface QueueEntry extends QueuedMessage {
  /** Position in the queue: consecutive from 1 for each incarnation, never used again. A reader sees drops as gaps. */
  readonly sequence: number;
}

export type AppendResult =
  /** Kept at the configured durability. `sequence` is its place; `dropped` older entries went to make room. */
  | { readonly outcome: 'kept'; readonly sequence: number; readonly dropped: number }
  /** The uid was appended before: nothing was done. */
  | { readonly outcome: 'duplicate' }
  /** That session no longer exists: nothing to keep, nothing owed. */
  | { readonly outcome: 'gone' }
  /** Nothing changed: the queue is at its limit and the policy refuses new messages, or no queue could hold this one. */
  | { readonly outcome: 'full' }
  | { readonly outcome: 'failed' };

export type FencedResult = 'ok' | 'fenced';

export interface ReleaseRequest {
  readonly clientId: string;
  readonly token: OwnerToken;
  /** DISCONNECT with reason code 0: the will is deleted [MQTT-3.14.4-3]. */
  readonly discardWill: boolean;
  /** A new session expiry interval from DISCONNECT, in seconds. */
  readonly expiryInterval: number | undefined;
  /**
   * Queue entries below this sequence may have been sent; `Number.MAX_SAFE_INTEGER` when that is not known (a dead
   * node's connection): all that were appended. What an earlier connection said stays true.
   */
  readonly sentBelow: number;
  /**
   * The server ended the connection of a client that may be back at once: the will is not due for so many
   * milliseconds, whatever its delay and also when the session ends before, and any claim of the client id until then
   * cancels it. Not given: no such time.
   */
  readonly willGraceMs?: number;
}

/** What happened because time passed or because the session ended; the caller carries it out. */
export interface DueEvents {
  readonly wills: readonly DueWill[];
  /** Sessions that ended: their routes go. */
  readonly ended: readonly {
    readonly clientId: string;
    readonly incarnation: SessionIncarnation;
    readonly subscriptions: readonly StoredSubscription[];
  }[];
}

export interface StateStore {
  /** What "kept" means: in this process's memory, on the Redis primary, on confirmed replicas. */
  readonly durability: 'memory' | 'primary' | 'replicated';

  /**
   * Makes `token` the owner of the session, creating or (clean start) replacing it, in one step
   * [MQTT-3.1.2-4] [MQTT-3.1.2-5]. The loser of a takeover gets `fenced` from here on. A session whose expiry has
   * passed is not resumed. Called again with the token that owns the session, it changes nothing and answers the
   * same.
   */
  claim(request: ClaimRequest): Promise<ClaimedSession>;
  /**
   * The store was replaced and may have lost what it knew: writes the session of a connected client again when there is
   * none of that client id. `ok`: `token` owns the session. `fenced`: somebody else does; or there is none, and this
   * store is one that loses nothing.
   */
  restore(request: RestoreRequest): Promise<FencedResult>;
  /**
   * The connection ended: starts the will delay and the session expiry, or ends the session at once when its
   * expiry is 0. The will is due after its delay or when the session ends, whichever is first [MQTT-3.1.2-8]; one
   * that is due now is in the result. `fenced`: somebody else owns it or the session has ended, nothing was changed.
   * Called again by the connection that released the session last, it is `ok` and starts nothing again; `ended` is
   * then empty.
   */
  release(
    request: ReleaseRequest,
  ): Promise<({ readonly outcome: 'ok' } & DueEvents) | { readonly outcome: 'fenced' }>;
  /**
   * Will delays and session expiries that are due, at most `limit` of each; each is handed out once, a will again
   * when its lease ran out. A session stays until its end was handed out here or by a claim: appends may still
   * reach an expired one.
   */
  takeDue(limit: number): Promise<DueEvents>;
  /**
   * The will was published: forget it. Until then `takeDue` of some node may hand it out again after a crash. Does
   * nothing when the will is not known, or was not handed out.
   */
  settleWill(clientId: string, uid: string): Promise<void>;

  /** Removes, then adds and replaces (by filter) subscriptions of a persistent session. */
  changeSubscriptions(
    session: SessionRef,
    token: OwnerToken,
    added: readonly StoredSubscription[],
    removed: readonly string[],
  ): Promise<FencedResult>;

  /**
   * Appends to the queue of a persistent session, connected or not. Needs no ownership. `uid` is '' at QoS 1;
   * at QoS 2 a uid is not appended again until `settleUid`, however long that is and although its entry may have left
   * the queue: the publisher's node may have died, and its successor repeats the fan-out under the same uid. `done` is
   * called once, perhaps before this returns; calls for one session are answered in order. No promise: this is the
   * hot path. The message may be borrowed: the store keeps `message.owned()`. The outcomes are decided in this
   * order: `gone`, `duplicate`, `full`. A queue is bounded by messages and by bytes of payload and properties; at
   * the bound the oldest entries go, sent or not, or the new one is refused.
   */
  append(
    session: SessionRef,
    message: QueuedMessage,
    uid: string,
    done: (result: AppendResult) => void,
  ): void;
  /**
   * The fan-out under this uid is complete and will not be repeated: it need not be remembered any more. Best effort,
   * batched; what is never settled goes with the session.
   */
  settleUid(session: SessionRef, uid: string): void;
  /**
   * The token of the connection that owns the session now, '' for none; `undefined` when the store did not answer.
   * Answers after the appends to this session that were made before it, so that an owner that is not in the answer
   * finds them when it claims. Batched like `append`. `replaced`: this session has ended, and a connection owns another
   * one of the same client id.
   */
  owner(
    session: SessionRef,
    done: (token: OwnerToken | undefined, replaced?: boolean) => void,
  ): void;
  /**
   * Entries from `fromSequence` on, in order, at most `countMax` of them and about `bytesMax` of payload, but one at
   * least when there is one. Expired messages are among them: the caller drops and removes them. `droppedBelow`: the
   * queue has dropped entries at its bound, none of this sequence or above; 1 when it never has. With `NOBODY`
   * as the token: `fenced` unless the session has no owner, and only entries that have certainly never been sent.
   */
  read(
    session: SessionRef,
    token: OwnerToken,
    fromSequence: number,
    countMax: number,
    bytesMax: number,
  ): Promise<
    | {
        readonly outcome: 'ok';
        readonly entries: readonly QueueEntry[];
        readonly droppedBelow: number;
      }
    | { readonly outcome: 'fenced' }
  >;
  /**
   * The client has these entries (PUBACK, PUBCOMP, or expired or discarded): they leave the queue, with their
   * `markReleased` marks. Batched, in any order; sequences that are not there are passed over. With `NOBODY` as in
   * `read`: what others were given instead; not held back, and what may have been sent is passed over.
   */
  remove(
    session: SessionRef,
    token: OwnerToken,
    sequences: readonly number[],
  ): Promise<FencedResult>;
  /** PUBREC came for a QoS 2 entry: from now on the message itself must not be sent again [MQTT-4.3.3-3]. */
  markReleased(session: SessionRef, token: OwnerToken, sequence: number): Promise<FencedResult>;

  /**
   * A QoS 2 PUBLISH came: stores packet identifier -> uid as `pending` before any fan-out, and returns what was
   * stored before under that packet identifier instead, when there was something (a retransmission). `repeated`:
   * that has another uid (with this very uid it is this call, made again).
   */
  beginIncoming(
    session: SessionRef,
    token: OwnerToken,
    packetId: number,
    uid: string,
  ): Promise<
    | { readonly outcome: 'ok'; readonly incoming: IncomingMessage; readonly repeated: boolean }
    | { readonly outcome: 'fenced' }
  >;
  /** The fan-out under the uid is complete: PUBREC may go out. `ok` also when the packet identifier is free. */
  finishIncoming(session: SessionRef, token: OwnerToken, packetId: number): Promise<FencedResult>;
  /** PUBREL came: the packet identifier is free [MQTT-4.3.3-11]. `ok` also when it was before. */
  endIncoming(session: SessionRef, token: OwnerToken, packetId: number): Promise<FencedResult>;

  /**
   * Stores (payload not empty) or clears the retained message of a topic. The order of calls from one node for
   * one topic is kept. The message may be borrowed: the store keeps `message.owned()`. `full`: a limit on messages
   * or bytes would be exceeded and nothing changed, so that the topic keeps the message it had.
   */
  retain(message: Message): Promise<{ readonly outcome: 'kept' | 'cleared' | 'full' }>;
  /** The retained messages of these topics that exist and have not expired, in the order asked. */
  readRetained(topics: readonly string[]): Promise<readonly Message[]>;
  /**
   * Removes some of the retained messages that have expired, and returns their topics: to one caller, once. A topic may
   * have a new message by then.
   */
  expireRetained(): Promise<readonly string[]>;
}
