import { randomBytes } from 'node:crypto';
import { NOBODY, TopicTable } from '@shoalmq/core';
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
import { Appends, CheckedAppend, NativeAppend, sequenceOf } from './append-calls.ts';
import type { RedisConnection, StoreStatus } from './connection/redis-connection.ts';
import { believed, LASTING_CONTENTS } from './contents.ts';
import type { Contents } from './contents.ts';
import { StoreError } from './errors.ts';
import { HeldCalls } from './held-calls.ts';
import { keysOf } from './keys.ts';
import type { Keys } from './keys.ts';
import { LateReleases } from './late-releases.ts';
import { OwnedConnections } from './owned-connections.ts';
import { OwnerLookUp } from './owner-look-up.ts';
import { REMOVED_MAX, RemoveBatch } from './remove-batch.ts';
import { RetainedStore } from './retained-store.ts';
import { SessionHandles } from './session-handle.ts';
import type { SessionHandle } from './session-handle.ts';
import * as scripts from './session-scripts.ts';
import type { OtherIncarnation } from './session-scripts.ts';
import { SessionTimers } from './session-timers.ts';
import type { Fired } from './session-timers.ts';
import { SettleBatch } from './settle-batch.ts';
import { countedBytes, decodeQueueEntry } from './stored-message.ts';
import { encodeOptions } from './stored-subscription.ts';
import { encodeWill } from './stored-will.ts';

/** How long a will that was handed out has time to be settled before it is handed out again. */
export const WILL_LEASE_MS = 8_000;

/** How long removals and settled uids are held back by default. */
const HOLD_MS = 50;
/** Removals of one session that are not held back any longer. */
const HELD_MAX = 256;

/** Times that a call is made again because the session has another incarnation than this node believed. */
const GUESSES_MAX = 10;

/** What a store on Redis is made of; `limits` has what the operator set. */
export interface RedisStoreOptions {
  /** The store closes it. */
  readonly redis: RedisConnection;
  readonly limits: Pick<
    Limits,
    | 'queueMessagesMax'
    | 'queueBytesMax'
    | 'queuePolicy'
    | 'retainedMessagesMax'
    | 'retainedBytesMax'
  >;
  /** The clock that messages expire by. */
  readonly clock?: Pick<Clock, 'wallMs'>;
  readonly random?: Pick<Random, 'id'>;
  /** Where topics of messages that are read are interned. */
  readonly topics?: TopicTable;
  /** First part of the ids in queues; rises when Redis was rolled back. */
  readonly generation?: number;
  /** Milliseconds for which removals and settled uids of a session are gathered; 0: not at all. 50 by default. */
  readonly holdMs?: number;
  /**
   * Whom to ask when Redis answers as if it had lost a session. Without it such answers are believed at once.
   */
  readonly contents?: Contents;
  /** For tests: milliseconds by which sessions and wills are ahead of Redis's clock. */
  readonly clockOffsetMs?: () => number;
}

/**
 * The `StateStore` on Redis, shared by all nodes of a cluster. The scripts in `lua/` are where its promises are kept:
 * each checks its fence and writes in one step, and can run twice.
 *
 * A call waits for as long as Redis is away, unless its connection has a deadline; a rejection or `failed` means that
 * nobody knows whether it took effect.
 */
export class RedisStore implements StateStore {
  readonly durability: 'primary' | 'replicated';
  readonly #redis: RedisConnection;
  readonly #limits: RedisStoreOptions['limits'];
  readonly #keys: Keys;
  readonly #random: Pick<Random, 'id'>;
  readonly #topics: TopicTable;
  readonly #generation: number;
  readonly #clockOffsetMs: () => number;
  readonly #handles: SessionHandles;
  readonly #held: HeldCalls;
  readonly #contents: Contents;
  readonly #appends: Appends;
  readonly #connections: OwnedConnections;
  readonly #timers: SessionTimers;
  readonly #late = new LateReleases();
  readonly #retained: RetainedStore;

  constructor(options: RedisStoreOptions) {
    const { redis, limits, generation = 1 } = options;
    this.durability = (redis.options.replicas ?? 0) > 0 ? 'replicated' : 'primary';
    this.#redis = redis;
    this.#limits = limits;
    this.#keys = keysOf(redis.keyPrefix);
    this.#random = options.random ?? { id: () => randomBytes(16).toString('base64url') };
    this.#topics = options.topics ?? new TopicTable();
    this.#generation = generation;
    this.#clockOffsetMs = options.clockOffsetMs ?? (() => 0);
    this.#handles = new SessionHandles({
      keys: this.#keys,
      slotOf: (key) => redis.slotOf(key),
      limits,
      generation,
    });
    this.#held = new HeldCalls((call) => redis.send(call), options.holdMs ?? HOLD_MS);
    this.#contents = options.contents ?? LASTING_CONTENTS;
    this.#appends = new Appends((call) => redis.send(call), this.#contents);
    this.#connections = new OwnedConnections(redis);
    this.#timers = new SessionTimers(redis, this.#keys, this.#clockOffsetMs);
    this.#retained = new RetainedStore(redis, {
      keys: this.#keys,
      limits,
      clock: options.clock ?? { wallMs: () => Date.now() },
      topics: this.#topics,
    });
  }

  /** Whether Redis answers, and since when. */
  get status(): StoreStatus {
    return this.#redis.status;
  }

  /** Bytes of all retained messages, as of some seconds ago; `undefined` when not known yet. */
  get retainedBytes(): number | undefined {
    return this.#retained.bytes;
  }

  /** Calls `listener` with each change of the status, until the function that this returns is called. */
  onStatus(listener: (status: StoreStatus) => void): () => void {
    return this.#redis.onStatus(listener);
  }

  /** Ends the connections to Redis; calls under way fail. */
  close(): Promise<void> {
    this.#held.releaseAll();
    return this.#redis.close();
  }

  async claim(request: ClaimRequest): Promise<ClaimedSession> {
    const { clientId, token } = request;
    try {
      return await this.#claim(request);
    } catch (error) {
      // The caller gives up, but the session may be this connection's now.
      const end = { discardWill: true, expiryInterval: undefined, sentBelow: 1 };
      this.#late.add({ request: { clientId, token, ...end }, claimUnheard: true });
      throw error;
    }
  }

  async restore(request: RestoreRequest): Promise<FencedResult> {
    const { clientId, incarnation, token, will, username } = request;
    await this.#connections.add(token, clientId, { urgent: true });
    const owned = await scripts.restoreSession(this.#redis, {
      ...this.#fenced(request, token),
      incarnation,
      expiryInterval: request.expiryInterval,
      will: will && encodeWill(will, username),
      willUid: will === undefined ? '' : this.#random.id(),
      willDelay: will?.delayInterval ?? 0,
      client: `${request.protocolVersion} ${username}`,
      lastId: request.queued ? `${this.#generation}-${request.nextSequence - 1}` : '',
      sentBelow: request.nextSequence,
      subscriptions: request.subscriptions.map((each) => [each.filter, encodeOptions(each)]),
      incoming: request.incoming.map(({ packetId, uid, state }) => [
        packetId,
        `${state === 'done' ? 'd' : 'p'}${uid}`,
      ]),
      released: request.released,
    });
    return fencedUnless(owned);
  }

  async release(
    request: ReleaseRequest,
  ): Promise<({ readonly outcome: 'ok' } & DueEvents) | { readonly outcome: 'fenced' }> {
    try {
      return await this.#release(request, { late: false, claimUnheard: false });
    } catch (error) {
      this.#late.add({ request, claimUnheard: false });
      throw error;
    }
  }

  async takeDue(limit: number): Promise<DueEvents> {
    if (this.#late.size > 0 && this.status.state === 'up') {
      await this.#late.retry(({ request, claimUnheard }) =>
        this.#release(request, { late: true, claimUnheard }),
      );
    }
    const late = this.#late.take(limit);
    const room = limit - Math.max(late.wills.length, late.ended.length);
    if (room === 0) return late;
    const fire = (clientId: string, willsMax: number) => this.#fire(clientId, willsMax);
    if (late.wills.length + late.ended.length === 0) return this.#timers.takeDue(room, fire);
    // What was taken must not be lost because the rest fails.
    const due = await this.#timers.takeDue(room, fire).catch(() => ({ wills: [], ended: [] }));
    return { wills: [...late.wills, ...due.wills], ended: [...late.ended, ...due.ended] };
  }

  async settleWill(clientId: string, uid: string): Promise<void> {
    await scripts.settleWill(this.#redis, { keys: this.#keys.session(clientId), uid });
  }

  async changeSubscriptions(
    ref: SessionRef,
    token: OwnerToken,
    added: readonly StoredSubscription[],
    removed: readonly string[],
  ): Promise<FencedResult> {
    return this.#unlessFenced(() =>
      scripts.changeSubscriptions(this.#redis, {
        ...this.#fenced(ref, token),
        removed,
        added: added.map((subscription) => [subscription.filter, encodeOptions(subscription)]),
      }),
    );
  }

  append(
    ref: SessionRef,
    queued: QueuedMessage,
    uid: string,
    done: (result: AppendResult) => void,
  ): void {
    const handle = this.#handles.get(ref.clientId, ref.incarnation);
    const unseen = handle.room.takeUnseen(countedBytes(queued.message));
    if (unseen && uid === '') {
      this.#appends.append(new NativeAppend(handle, queued, done, this.#appends));
      return;
    }
    this.#releaseBeforeAppend(handle, uid, unseen);
    if (!unseen) handle.room.beginLook();
    this.#appends.append(
      new CheckedAppend(handle, queued, {
        ...{ uid, unseen, done },
        limits: this.#limits,
        generation: this.#generation,
        appends: this.#appends,
      }),
    );
  }

  settleUid(ref: SessionRef, uid: string): void {
    const handle = this.#handles.get(ref.clientId, ref.incarnation);
    if (handle.heldUids?.add(uid) === true) return;
    this.#held.release(handle);
    handle.heldUids = new SettleBatch(handle, uid);
    this.#held.add(handle);
  }

  owner(ref: SessionRef, done: (token: OwnerToken | undefined, replaced?: boolean) => void): void {
    this.#redis.send(new OwnerLookUp(this.#handle(ref), done));
  }

  async read(
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
    const read = () =>
      scripts.readQueue(this.#redis, {
        ...this.#fenced(ref, token),
        generation: this.#generation,
        from: fromSequence,
        countMax,
        bytesMax,
      });
    const found = await believed(this.#contents, (result) => result === 'fenced', read);
    if (found === 'fenced') return { outcome: 'fenced' };
    const entries: QueueEntry[] = [];
    for (let i = 1; i < found.length; i += 2) {
      const sequence = sequenceOf(found[i] as Buffer);
      entries.push(decodeQueueEntry(found[i + 1] as Buffer, sequence, this.#topics));
    }
    return { outcome: 'ok', entries, droppedBelow: Number(found[0]) };
  }

  async remove(
    ref: SessionRef,
    token: OwnerToken,
    sequences: readonly number[],
  ): Promise<FencedResult> {
    const remove = (some: readonly number[]) =>
      believed(
        this.#contents,
        (result) => result === 'fenced',
        () => this.#remove(ref, token, some),
      );
    if (sequences.length <= REMOVED_MAX) return remove(sequences);
    const results: Promise<FencedResult>[] = [];
    for (let from = 0; from < sequences.length; from += REMOVED_MAX) {
      results.push(remove(sequences.slice(from, from + REMOVED_MAX)));
    }
    return (await Promise.all(results)).includes('fenced') ? 'fenced' : 'ok';
  }

  async markReleased(ref: SessionRef, token: OwnerToken, sequence: number): Promise<FencedResult> {
    return this.#unlessFenced(() =>
      scripts.markReleased(this.#redis, { ...this.#fenced(ref, token), sequence }),
    );
  }

  async beginIncoming(
    ref: SessionRef,
    token: OwnerToken,
    packetId: number,
    uid: string,
  ): Promise<
    | { readonly outcome: 'ok'; readonly incoming: IncomingMessage; readonly repeated: boolean }
    | { readonly outcome: 'fenced' }
  > {
    const begin = () =>
      scripts.beginIncoming(this.#redis, { ...this.#fenced(ref, token), packetId, uid });
    const incoming = await believed(this.#contents, (result) => result === 'fenced', begin);
    if (incoming === 'fenced') return { outcome: 'fenced' };
    return { outcome: 'ok', incoming, repeated: incoming.uid !== uid };
  }

  async finishIncoming(
    ref: SessionRef,
    token: OwnerToken,
    packetId: number,
  ): Promise<FencedResult> {
    return this.#unlessFenced(() =>
      scripts.finishIncoming(this.#redis, { ...this.#fenced(ref, token), packetId }),
    );
  }

  async endIncoming(ref: SessionRef, token: OwnerToken, packetId: number): Promise<FencedResult> {
    return this.#unlessFenced(() =>
      scripts.endIncoming(this.#redis, { ...this.#fenced(ref, token), packetId }),
    );
  }

  retain(message: Message): Promise<{ readonly outcome: 'kept' | 'cleared' | 'full' }> {
    return this.#retained.retain(message);
  }

  readRetained(topics: readonly string[]): Promise<readonly Message[]> {
    return this.#retained.read(topics);
  }

  expireRetained(): Promise<readonly string[]> {
    return this.#retained.expire();
  }

  async #claim(request: ClaimRequest): Promise<ClaimedSession> {
    const { clientId, token, will, username } = request;
    // Before the claim, so that a node that dies in between leaves a name without a session and not the reverse.
    const added = this.#connections.add(token, clientId);
    added.catch(() => undefined);
    // To a single server it goes ahead on the same connection.
    if (this.#redis.isCluster) await added;
    const call = {
      token,
      fresh: this.#random.id(),
      cleanStart: request.cleanStart,
      expiryInterval: request.expiryInterval,
      will: will && encodeWill(will, username),
      willUid: will === undefined ? '' : this.#random.id(),
      willDelay: will?.delayInterval ?? 0,
      willLeaseMs: WILL_LEASE_MS,
      generation: this.#generation,
      client: `${request.protocolVersion} ${username}`,
    };
    const answer = await this.#withIncarnation(clientId, (session) =>
      scripts.claimSession(this.#redis, { ...call, ...session }),
    );
    await added;
    const { nextDue, previousToken, incarnation } = answer;
    this.#handles.get(clientId, incarnation);
    if (previousToken !== '' && previousToken !== token) this.#disown(previousToken, clientId);
    await this.#timers.set(clientId, nextDue);
    return {
      incarnation,
      previousToken,
      sessionPresent: answer.sessionPresent,
      subscriptions: answer.subscriptions,
      endedSubscriptions: answer.endedSubscriptions,
      endedIncarnation: answer.endedIncarnation,
      incoming: answer.incoming,
      sentBelow: answer.sentBelow,
      released: answer.released,
      wills: answer.wills,
    };
  }

  async #release(
    request: ReleaseRequest,
    repeated: { readonly late: boolean; readonly claimUnheard: boolean },
  ): Promise<({ readonly outcome: 'ok' } & DueEvents) | { readonly outcome: 'fenced' }> {
    const { clientId, token } = request;
    const answer = await this.#withIncarnation(clientId, (session) =>
      scripts.releaseSession(this.#redis, {
        token,
        discardWill: request.discardWill,
        expiryInterval: request.expiryInterval,
        sentBelow: request.sentBelow,
        willGraceMs: request.willGraceMs ?? 0,
        willLeaseMs: WILL_LEASE_MS,
        ...repeated,
        ...session,
      }),
    );
    await this.#timers.set(clientId, answer.nextDue);
    // Not before the timer is set: until then whoever buries this node, or the one that does, makes up for it.
    this.#disown(token, clientId);
    if (answer.outcome === 'fenced') return { outcome: 'fenced' };
    const { wills, ended, endedByClaim } = answer;
    if (ended !== undefined) this.#handles.forget(clientId);
    const ends = [endedByClaim, ended].filter((end) => end !== undefined);
    return { outcome: 'ok', wills, ended: ends.map((end) => ({ clientId, ...end })) };
  }

  /** The handle of a session for a call that must see the effect of all before it. */
  #handle({ clientId, incarnation }: SessionRef): SessionHandle {
    const handle = this.#handles.get(clientId, incarnation);
    this.#held.release(handle);
    return handle;
  }

  /** Sends what a checked append could see: what it makes room by, and its own uid. */
  #releaseBeforeAppend(handle: SessionHandle, uid: string, unseen: boolean): void {
    const sameUid = uid !== '' && handle.heldUids?.has(uid) === true;
    if (sameUid || (!unseen && handle.heldRemovals !== undefined && handle.room.scarce)) {
      this.#held.release(handle);
    }
  }

  #fenced(ref: SessionRef, token: OwnerToken) {
    const { keys, incarnation } = this.#handle(ref);
    return { keys, incarnation, token };
  }

  /** Runs a script that says whether the token owns the session. */
  async #unlessFenced(run: () => Promise<boolean>): Promise<FencedResult> {
    return fencedUnless(await believed(this.#contents, (owned) => !owned, run));
  }

  #remove(ref: SessionRef, token: OwnerToken, sequences: readonly number[]): Promise<FencedResult> {
    const handle = this.#handles.get(ref.clientId, ref.incarnation);
    const held = handle.heldRemovals;
    if (held?.token === token && held.add(sequences)) {
      if (held.size >= HELD_MAX) this.#held.release(handle);
      return held.result;
    }
    this.#held.release(handle);
    const made = new RemoveBatch(handle, token, sequences, this.#generation);
    if (token === NOBODY) {
      // Whoever claims the session next does not know that it is held.
      this.#redis.send(made);
      return made.result;
    }
    handle.heldRemovals = made;
    this.#held.add(handle);
    return made.result;
  }

  /** See lua/fire-timer.lua. */
  async #fire(clientId: string, willsMax: number): Promise<Fired> {
    const operationId = this.#random.id();
    const { wills, ended, nextDue } = await this.#withIncarnation(clientId, (session) =>
      scripts.fireTimer(this.#redis, {
        willsMax,
        willLeaseMs: WILL_LEASE_MS,
        operationId,
        ...session,
      }),
    );
    if (ended !== undefined) this.#handles.forget(clientId);
    const heard = async () => {
      if (ended === undefined) return;
      const keys = this.#keys.session(clientId);
      await scripts.settleEnd(this.#redis, { keys, incarnation: ended.incarnation });
    };
    return { wills, ended, nextDue, heard };
  }

  /**
   * Makes a call whose keys have the session's incarnation in them: first with the one that this node knew last, then
   * with what the script says.
   */
  async #withIncarnation<Answer extends { readonly outcome: string }>(
    clientId: string,
    call: (session: {
      readonly clientId: string;
      readonly keys: SessionHandle['keys'];
      readonly expected: string;
      readonly clockOffsetMs: number;
    }) => Promise<Answer | OtherIncarnation>,
  ): Promise<Exclude<Answer, OtherIncarnation>> {
    const keys = this.#keys.session(clientId);
    let expected = this.#handles.lastIncarnation(clientId);
    if (expected !== '') this.#held.release(this.#handles.get(clientId, expected));
    for (let guess = 0; guess < GUESSES_MAX; guess++) {
      const clockOffsetMs = this.#clockOffsetMs();
      const answer = await call({ clientId, keys, expected, clockOffsetMs });
      if (answer.outcome !== 'other') return answer as Exclude<Answer, OtherIncarnation>;
      expected = (answer as OtherIncarnation).incarnation;
    }
    throw new StoreError('SHOAL_STORE_UNAVAILABLE', 'the session changes faster than it is read');
  }

  /** The connection that `token` names does not own the session any more. If that is not noted, a burial finds out. */
  #disown(token: OwnerToken, clientId: string): void {
    this.#connections.remove(token, clientId).catch(() => undefined);
  }
}

function fencedUnless(owned: boolean): FencedResult {
  return owned ? 'ok' : 'fenced';
}
