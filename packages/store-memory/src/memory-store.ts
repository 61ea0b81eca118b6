import { NOBODY } from '@shoalmq/core';
import type {
  AppendResult,
  ClaimedSession,
  ClaimRequest,
  Clock,
  DueEvents,
  FencedResult,
  IncomingMessage,
  Limits,
  Message,
  OwnerToken,
  QueuedMessage,
  QueueEntry,
  Random,
  ReleaseRequest,
  RestoreRequest,
  SessionRef,
  StateStore,
  StoredSubscription,
} from '@shoalmq/core';
import { RetainedMessages } from './retained-messages.ts';
import { entryBytes } from './session-queue.ts';
import type { QueueTotals } from './session-queue.ts';
import { PendingWill, SessionRecord } from './session-record.ts';
import type { ClaimOutcome } from './session-record.ts';
import { SessionSubscriptions } from './session-subscriptions.ts';
import { TimerHeap } from './timer-heap.ts';

/** How long a will that was handed out has time to be settled before it is handed out again. */
export const WILL_LEASE_MS = 30_000;

/** What a memory store is made of; `limits` has what the operator set. */
export interface MemoryStoreOptions {
  readonly clock: Clock;
  readonly random: Random;
  readonly limits: Pick<
    Limits,
    | 'queueMessagesMax'
    | 'queueBytesMax'
    | 'queuePolicy'
    | 'retainedMessagesMax'
    | 'retainedBytesMax'
  >;
}

/** How much a memory store holds, for metrics. */
export interface MemoryStoreSizes {
  readonly sessionsConnected: number;
  readonly sessionsOffline: number;
  /** Messages and bytes (payload and properties) in the queues of all sessions. */
  readonly queuedMessages: number;
  readonly queuedBytes: number;
  /** Retained messages and bytes (topic name, payload and properties), expired ones that nobody met included. */
  readonly retainedMessages: number;
  readonly retainedBytes: number;
  /** Wills that wait for their delay, or are due and not settled. */
  readonly willsPending: number;
}

/** Makes an empty store that lives as long as the process. */
export function createMemoryStore(options: MemoryStoreOptions): MemoryStore {
  return new MemoryStore(options);
}

const NONE: readonly never[] = [];
const DUPLICATE: AppendResult = { outcome: 'duplicate' };
const GONE: AppendResult = { outcome: 'gone' };
const FULL: AppendResult = { outcome: 'full' };
const OK: Promise<FencedResult> = Promise.resolve('ok');
const FENCED: Promise<FencedResult> = Promise.resolve('fenced');
const FENCED_OUTCOME: Promise<{ readonly outcome: 'fenced' }> = Promise.resolve({
  outcome: 'fenced',
});
const SETTLED: Promise<void> = Promise.resolve();

/**
 * The `StateStore` of a single node, in the memory of its process, and the reference for stores across a network.
 * Every call takes effect before it returns; what it promises is already resolved. Nothing runs by itself: time
 * passes when a call looks at the clock.
 */
export class MemoryStore implements StateStore {
  readonly durability = 'memory';
  readonly #clock: Clock;
  readonly #random: Random;
  readonly #limits: MemoryStoreOptions['limits'];
  readonly #sessions = new Map<string, SessionRecord>();
  /** Sessions without a connection that will expire. */
  readonly #expiring = new TimerHeap<SessionRecord>();
  /** Wills that wait for their delay, or, once handed out, for `settleWill`. */
  readonly #wills = new TimerHeap<PendingWill>();
  /** Wills that any claim of their client id cancels until they are due. */
  readonly #graced = new Map<string, PendingWill>();
  /** Wills that were handed out, by uid. */
  readonly #outbox = new Map<string, PendingWill>();
  readonly #retained: RetainedMessages;
  readonly #queued: QueueTotals = { messages: 0, bytes: 0 };
  #connected = 0;

  constructor({ clock, random, limits }: MemoryStoreOptions) {
    this.#clock = clock;
    this.#random = random;
    this.#limits = limits;
    this.#retained = new RetainedMessages(limits);
  }

  /** What the store holds now. O(1). */
  sizes(): MemoryStoreSizes {
    return {
      sessionsConnected: this.#connected,
      sessionsOffline: this.#sessions.size - this.#connected,
      queuedMessages: this.#queued.messages,
      queuedBytes: this.#queued.bytes,
      retainedMessages: this.#retained.size,
      retainedBytes: this.#retained.bytes,
      willsPending: this.#wills.size,
    };
  }

  claim(request: ClaimRequest): Promise<ClaimedSession> {
    const found = this.#sessions.get(request.clientId);
    if (found?.token === request.token && found.claim !== undefined) {
      return Promise.resolve(this.#claimed(found, found.claim));
    }
    const nowMs = this.#clock.wallMs();
    const owned = found !== undefined && found.token !== '';
    const ends =
      found !== undefined &&
      (request.cleanStart || (owned ? found.endsWithConnection : found.dueMs <= nowMs));
    const outcome: ClaimOutcome = {
      sessionPresent: found !== undefined && !ends,
      previousToken: found?.token ?? '',
      endedIncarnation: ends ? found.incarnation : undefined,
      endedSubscriptions: ends ? subscriptionsOf(found) : NONE,
      wills: [
        ...this.#gracedAtClaim(request.clientId, nowMs),
        ...(found === undefined ? NONE : this.#willsAtClaim(found, ends, nowMs)),
      ],
    };
    if (owned) {
      this.#connected -= 1;
      // What the previous connection sent is known to nobody: it may be everything.
      found.noteSentBelow(Number.MAX_SAFE_INTEGER);
    }
    if (ends) this.#end(found);
    const session = found === undefined || ends ? this.#create(request) : found;
    this.#expiring.remove(session);
    session.assign(request, outcome);
    this.#connected += 1;
    return Promise.resolve(this.#claimed(session, outcome));
  }

  restore({ clientId, incarnation, token }: RestoreRequest): Promise<FencedResult> {
    return this.#owned({ clientId, incarnation }, token) === undefined ? FENCED : OK;
  }

  release(
    request: ReleaseRequest,
  ): Promise<({ readonly outcome: 'ok' } & DueEvents) | { readonly outcome: 'fenced' }> {
    const { clientId, token } = request;
    const session = this.#sessions.get(clientId);
    if (session === undefined) return FENCED_OUTCOME;
    if (session.token !== token) {
      if (session.releasedToken !== token) return FENCED_OUTCOME;
      // The same release once more: its reply was lost. Nothing starts again.
      const delayed = session.pendingWill?.will.delayInterval !== 0;
      const wills = delayed ? NONE : this.#willAtRelease(session);
      return Promise.resolve({ outcome: 'ok', wills, ended: NONE });
    }

    const nowMs = this.#clock.wallMs();
    const { will } = session;
    if (request.expiryInterval !== undefined) session.expiryInterval = request.expiryInterval;
    session.noteSentBelow(request.sentBelow);
    session.unassign(nowMs);
    this.#connected -= 1;
    if (will !== undefined && !request.discardWill) {
      const { willGraceMs = 0 } = request;
      const dueMs = Math.max(
        Math.min(nowMs + will.delayInterval * 1_000, session.dueMs),
        nowMs + willGraceMs,
      );
      const pending = new PendingWill(this.#random.id(), session, will, dueMs);
      if (willGraceMs > 0) this.#graced.set(clientId, pending);
      else session.pendingWill = pending;
      if (dueMs <= nowMs) this.#handOut(pending, nowMs);
      else this.#wills.add(pending);
    }
    const wills = this.#willAtRelease(session);
    if (!session.endsWithConnection) {
      if (session.dueMs !== Infinity) this.#expiring.add(session);
      return Promise.resolve({ outcome: 'ok', wills, ended: NONE });
    }
    this.#end(session);
    return Promise.resolve({ outcome: 'ok', wills, ended: [endOf(session)] });
  }

  takeDue(limit: number): Promise<DueEvents> {
    const nowMs = this.#clock.wallMs();
    const wills: PendingWill[] = [];
    while (wills.length < limit) {
      const will = this.#wills.takeDue(nowMs);
      if (will === undefined) break;
      this.#handOut(will, nowMs);
      wills.push(will);
    }
    const ended: DueEvents['ended'][number][] = [];
    while (ended.length < limit) {
      const session = this.#expiring.takeDue(nowMs);
      if (session === undefined) break;
      this.#end(session);
      ended.push(endOf(session));
    }
    return Promise.resolve({ wills, ended });
  }

  settleWill(clientId: string, uid: string): Promise<void> {
    const will = this.#outbox.get(uid);
    if (will?.clientId === clientId) {
      this.#outbox.delete(uid);
      this.#wills.remove(will);
    }
    return SETTLED;
  }

  changeSubscriptions(
    ref: SessionRef,
    token: OwnerToken,
    added: readonly StoredSubscription[],
    removed: readonly string[],
  ): Promise<FencedResult> {
    const session = this.#owned(ref, token);
    if (session === undefined) return FENCED;
    session.subscriptions ??= new SessionSubscriptions();
    for (const filter of removed) session.subscriptions.delete(filter);
    for (const subscription of added) session.subscriptions.set(subscription);
    return OK;
  }

  append(
    ref: SessionRef,
    queued: QueuedMessage,
    uid: string,
    done: (result: AppendResult) => void,
  ): void {
    const queue = this.#current(ref)?.queue;
    if (queue === undefined) {
      done(GONE);
      return;
    }
    if (uid !== '' && queue.knows(uid)) {
      done(DUPLICATE);
      return;
    }
    const dropped = queue.makeRoom(entryBytes(queued.message), this.#limits);
    if (dropped < 0) {
      done(FULL);
      return;
    }
    const sequence = queue.append(queued, queued.message.owned(), uid);
    done({ outcome: 'kept', sequence, dropped });
  }

  settleUid(session: SessionRef, uid: string): void {
    this.#current(session)?.queue?.settle(uid);
  }

  owner(
    session: SessionRef,
    done: (token: OwnerToken | undefined, replaced?: boolean) => void,
  ): void {
    const known = this.#sessions.get(session.clientId);
    const token = known?.token ?? '';
    if (known?.incarnation === session.incarnation) done(token, false);
    else done('', token !== '');
  }

  read(
    ref: SessionRef,
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
  > {
    const session = token === NOBODY ? this.#unowned(ref) : this.#owned(ref, token);
    if (session === undefined) return FENCED_OUTCOME;
    const { queue } = session;
    const from = token === NOBODY ? Math.max(fromSequence, session.sentBelow) : fromSequence;
    const entries = queue?.read(from, countMax, bytesMax) ?? NONE;
    return Promise.resolve({ outcome: 'ok', entries, droppedBelow: queue?.droppedBelow ?? 1 });
  }

  remove(ref: SessionRef, token: OwnerToken, sequences: readonly number[]): Promise<FencedResult> {
    const session = token === NOBODY ? this.#unowned(ref) : this.#owned(ref, token);
    if (session === undefined) return FENCED;
    for (const sequence of sequences) {
      if (token === NOBODY && sequence < session.sentBelow) continue;
      session.queue?.remove(sequence);
      session.released?.delete(sequence);
    }
    return OK;
  }

  markReleased(ref: SessionRef, token: OwnerToken, sequence: number): Promise<FencedResult> {
    const session = this.#owned(ref, token);
    if (session === undefined) return FENCED;
    (session.released ??= new Set()).add(sequence);
    return OK;
  }

  beginIncoming(
    ref: SessionRef,
    token: OwnerToken,
    packetId: number,
    uid: string,
  ): Promise<
    | { readonly outcome: 'ok'; readonly incoming: IncomingMessage; readonly repeated: boolean }
    | { readonly outcome: 'fenced' }
  > {
    const session = this.#owned(ref, token);
    if (session === undefined) return FENCED_OUTCOME;
    session.incoming ??= new Map();
    let incoming = session.incoming.get(packetId);
    if (incoming === undefined) {
      incoming = { packetId, uid, state: 'pending' };
      session.incoming.set(packetId, incoming);
    }
    // The same uid is this very call, made again after its reply was lost.
    return Promise.resolve({ outcome: 'ok', incoming, repeated: incoming.uid !== uid });
  }

  finishIncoming(ref: SessionRef, token: OwnerToken, packetId: number): Promise<FencedResult> {
    const session = this.#owned(ref, token);
    if (session === undefined) return FENCED;
    const incoming = session.incoming?.get(packetId);
    if (incoming !== undefined) session.incoming?.set(packetId, { ...incoming, state: 'done' });
    return OK;
  }

  endIncoming(ref: SessionRef, token: OwnerToken, packetId: number): Promise<FencedResult> {
    const session = this.#owned(ref, token);
    if (session === undefined) return FENCED;
    session.incoming?.delete(packetId);
    return OK;
  }

  retain(message: Message): Promise<{ readonly outcome: 'kept' | 'cleared' | 'full' }> {
    if (message.payloadBytes === 0) {
      this.#retained.clear(message.topic.name);
      return Promise.resolve({ outcome: 'cleared' });
    }
    const kept = this.#retained.store(message, this.#clock.wallMs());
    return Promise.resolve({ outcome: kept ? 'kept' : 'full' });
  }

  readRetained(topics: readonly string[]): Promise<readonly Message[]> {
    const nowMs = this.#clock.wallMs();
    const messages: Message[] = [];
    for (const topic of topics) {
      const message = this.#retained.read(topic, nowMs);
      if (message !== undefined) messages.push(message);
    }
    return Promise.resolve(messages);
  }

  expireRetained(): Promise<readonly string[]> {
    return Promise.resolve(this.#retained.expire(this.#clock.wallMs()));
  }

  /** The session, unless it ended and another one has its client id. */
  #current(ref: SessionRef): SessionRecord | undefined {
    const session = this.#sessions.get(ref.clientId);
    return session?.incarnation === ref.incarnation ? session : undefined;
  }

  #owned(ref: SessionRef, token: OwnerToken): SessionRecord | undefined {
    const session = this.#sessions.get(ref.clientId);
    if (session?.incarnation !== ref.incarnation) return undefined;
    return session.token === token && token !== '' ? session : undefined;
  }

  #unowned(ref: SessionRef): SessionRecord | undefined {
    const session = this.#current(ref);
    return session?.token === '' ? session : undefined;
  }

  #create(request: ClaimRequest): SessionRecord {
    const totals = request.expiryInterval === 0 ? undefined : this.#queued;
    const session = new SessionRecord(request.clientId, this.#random.id(), totals);
    this.#sessions.set(request.clientId, session);
    return session;
  }

  /** Removes the session; its will and its connection are the caller's. */
  #end(session: SessionRecord): void {
    this.#expiring.remove(session);
    this.#sessions.delete(session.clientId);
    session.queue?.discard();
  }

  /** The will that was released with a grace is cancelled, because the client is back in time. */
  #gracedAtClaim(clientId: string, nowMs: number): readonly PendingWill[] {
    const will = this.#graced.get(clientId);
    if (will === undefined) return NONE;
    this.#graced.delete(clientId);
    this.#wills.remove(will);
    if (will.dueMs > nowMs) return NONE;
    this.#handOut(will, nowMs);
    return [will];
  }

  /** The will of the last connection is due now, or is cancelled because the client is back. */
  #willsAtClaim(session: SessionRecord, ends: boolean, nowMs: number): readonly PendingWill[] {
    const { will, pendingWill } = session;
    if (will !== undefined) {
      if (!ends && will.delayInterval > 0) return NONE; // [MQTT-3.1.3-9]
      const due = new PendingWill(this.#random.id(), session, will, nowMs);
      this.#handOut(due, nowMs);
      return [due];
    }
    if (pendingWill === undefined || pendingWill.heapIndex < 0) return NONE;
    if (this.#outbox.has(pendingWill.uid)) return NONE; // somebody is publishing it
    const due = ends || pendingWill.dueMs <= nowMs;
    this.#wills.remove(pendingWill);
    if (!due) return NONE; // [MQTT-3.1.3-9]
    this.#handOut(pendingWill, nowMs);
    return [pendingWill];
  }

  /** The will that the release itself handed out, unless it is settled. */
  #willAtRelease({ pendingWill }: SessionRecord): readonly PendingWill[] {
    if (pendingWill === undefined || !this.#outbox.has(pendingWill.uid)) return NONE;
    return [pendingWill];
  }

  /** The caller publishes the will; when it does not settle it within the lease, somebody else gets it. */
  #handOut(will: PendingWill, nowMs: number): void {
    if (this.#graced.get(will.clientId) === will) this.#graced.delete(will.clientId);
    will.dueMs = nowMs + WILL_LEASE_MS;
    this.#outbox.set(will.uid, will);
    this.#wills.add(will);
  }

  #claimed(session: SessionRecord, outcome: ClaimOutcome): ClaimedSession {
    const { incoming, released } = session;
    return {
      ...outcome,
      incarnation: session.incarnation,
      subscriptions: subscriptionsOf(session),
      incoming: incoming === undefined ? NONE : [...incoming.values()],
      sentBelow: session.sentBelow,
      released: released === undefined ? NONE : [...released],
      wills: outcome.wills.filter(({ uid }) => this.#outbox.has(uid)),
    };
  }
}

function subscriptionsOf({ subscriptions }: SessionRecord): readonly StoredSubscription[] {
  return subscriptions?.all() ?? NONE;
}

function endOf(session: SessionRecord): DueEvents['ended'][number] {
  const { clientId, incarnation } = session;
  return { clientId, incarnation, subscriptions: subscriptionsOf(session) };
}
