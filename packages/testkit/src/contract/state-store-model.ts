import type { QoS, StoredSubscription } from '@shoalmq/core';

/** What bounds a store under test. */
export interface StateStoreLimits {
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  readonly queuePolicy: 'drop-oldest' | 'reject-new';
  readonly retainedMessagesMax: number;
  readonly retainedBytesMax: number;
}

/** A will in the model; `name` is unique and stands for its content and for its uid. */
export interface ModelWill {
  readonly name: string;
  readonly delaySeconds: number;
}

export interface ModelEntry {
  readonly sequence: number;
  readonly payload: string;
  readonly qos: 1 | 2;
}

export interface ModelClaim {
  readonly clientId: string;
  readonly token: string;
  readonly cleanStart: boolean;
  readonly expirySeconds: number;
  readonly will: ModelWill | undefined;
}

export interface ModelClaimed {
  readonly incarnation: number;
  readonly sessionPresent: boolean;
  readonly previousToken: string;
  readonly subscriptions: readonly string[];
  readonly endedSubscriptions: readonly string[];
  readonly endedIncarnation: number | undefined;
  readonly incoming: readonly string[];
  readonly sentBelow: number;
  readonly released: readonly number[];
  readonly wills: readonly string[];
}

export interface ModelDue {
  readonly wills: readonly string[];
  readonly ended: readonly string[];
}

export interface ModelSession {
  readonly clientId: string;
  readonly incarnation: number;
  readonly hasQueue: boolean;
  owner: string;
  releasedBy: string;
  expirySeconds: number;
  endsAtMs: number;
  will: ModelWill | undefined;
  subscriptions: { filter: string; qos: QoS }[];
  entries: ModelEntry[];
  uids: string[];
  nextSequence: number;
  sentBelow: number;
  released: number[];
  droppedBelow: number;
  incoming: { packetId: number; uid: string; state: string }[];
}

interface ModelPendingWill extends ModelWill {
  readonly clientId: string;
  /** Released with a grace. */
  graced: boolean;
  /** Incarnation of the session whose connection had the will. */
  readonly incarnation: number;
  atMs: number;
  handedOut: boolean;
}

interface ModelRetained {
  readonly topic: string;
  readonly payload: string;
  readonly expiresAtMs: number;
}

const NEVER = 0xffffffff;

/**
 * The contract of `StateStore` in its simplest form: lists that are searched and filtered, a clock that is a
 * number. Incarnations are numbers in the order in which sessions began; one string stands for each thing listed.
 */
export class StateStoreModel {
  nowMs = 0;
  readonly #limits: StateStoreLimits;
  readonly #willLeaseMs: number;
  #sessions: ModelSession[] = [];
  #wills: ModelPendingWill[] = [];
  #retained: ModelRetained[] = [];
  #sessionsBegun = 0;

  constructor(limits: StateStoreLimits, willLeaseMs: number) {
    this.#limits = limits;
    this.#willLeaseMs = willLeaseMs;
  }

  claim(request: ModelClaim): ModelClaimed {
    const { clientId, token, cleanStart, expirySeconds } = request;
    const old = this.#sessions.find((session) => session.clientId === clientId);
    const takenOver = old !== undefined && old.owner !== '';
    let ends = false;
    if (old !== undefined) {
      if (cleanStart) ends = true;
      if (takenOver && old.expirySeconds === 0) ends = true;
      if (!takenOver && old.endsAtMs <= this.nowMs) ends = true;
    }
    const wills: string[] = [];
    for (const will of this.#wills) {
      if (will.clientId !== clientId || !will.graced || will.handedOut) continue;
      if (will.atMs <= this.nowMs) wills.push(this.#handOut(will));
    }
    this.#wills = this.#wills.filter(
      (will) => will.clientId !== clientId || !will.graced || will.handedOut,
    );
    if (old !== undefined) {
      if (takenOver && old.will !== undefined) this.#startWill(old, this.nowMs);
      for (const will of this.#wills) {
        if (will.incarnation !== old.incarnation || will.handedOut) continue;
        const delayed = takenOver ? will.delaySeconds > 0 : will.atMs > this.nowMs;
        if (ends || !delayed) wills.push(this.#handOut(will));
      }
      this.#wills = this.#wills.filter(
        (will) => will.incarnation !== old.incarnation || will.handedOut,
      );
    }
    const resumed = ends ? undefined : old;
    if (resumed !== undefined && takenOver) resumed.sentBelow = resumed.nextSequence;
    const session = resumed ?? this.#begin(clientId, expirySeconds !== 0);
    const previousToken = old?.owner ?? '';
    session.owner = token;
    session.releasedBy = '';
    session.expirySeconds = expirySeconds;
    session.will = request.will;
    if (ends) this.#sessions = this.#sessions.filter((other) => other !== old);
    return {
      incarnation: session.incarnation,
      sessionPresent: resumed !== undefined,
      previousToken,
      subscriptions: subscriptionNames(session),
      endedSubscriptions: ends && old !== undefined ? subscriptionNames(old) : [],
      endedIncarnation: ends ? old?.incarnation : undefined,
      incoming: session.incoming.map((entry) => `${entry.packetId} ${entry.uid} ${entry.state}`),
      sentBelow: session.sentBelow,
      released: [...session.released],
      wills,
    };
  }

  release(request: {
    readonly clientId: string;
    readonly token: string;
    readonly discardWill: boolean;
    readonly expirySeconds: number | undefined;
    readonly sentBelow: number;
    readonly graceMs: number;
  }): ModelDue | 'fenced' {
    const session = this.#sessions.find(({ clientId }) => clientId === request.clientId);
    if (session === undefined) return 'fenced';
    if (session.owner !== request.token) {
      if (session.releasedBy !== request.token) return 'fenced';
      const again = this.#wills.filter(
        (will) => will.incarnation === session.incarnation && will.handedOut && !will.graced,
      );
      const last = again.filter((will) => will.name === session.will?.name);
      return {
        wills: last.filter((will) => will.delaySeconds === 0).map((will) => will.name),
        ended: [],
      };
    }
    session.releasedBy = session.owner;
    session.owner = '';
    if (request.expirySeconds !== undefined) session.expirySeconds = request.expirySeconds;
    session.endsAtMs =
      session.expirySeconds === NEVER ? Infinity : this.nowMs + session.expirySeconds * 1_000;
    const sentBelow = Math.min(request.sentBelow, session.nextSequence);
    if (sentBelow > session.sentBelow) session.sentBelow = sentBelow;
    const wills: string[] = [];
    if (request.discardWill) session.will = undefined;
    if (session.will !== undefined) {
      const afterDelayMs = this.nowMs + session.will.delaySeconds * 1_000;
      const will = this.#startWill(session, Math.min(afterDelayMs, session.endsAtMs));
      will.graced = request.graceMs > 0;
      will.atMs = Math.max(will.atMs, this.nowMs + request.graceMs);
      if (will.atMs <= this.nowMs) wills.push(this.#handOut(will));
    }
    const ended = session.expirySeconds === 0 ? [this.#end(session)] : [];
    return { wills, ended };
  }

  /** As `takeDue` without a limit. */
  takeDue(): ModelDue {
    const wills = this.#wills
      .filter((will) => will.atMs <= this.nowMs)
      .map((will) => this.#handOut(will));
    const ended = this.#sessions
      .filter((session) => session.owner === '' && session.endsAtMs <= this.nowMs)
      .map((session) => this.#end(session));
    return { wills, ended };
  }

  settleWill(name: string): void {
    this.#wills = this.#wills.filter((will) => will.name !== name || !will.handedOut);
  }

  /** Whether the session may outlive its connection: it did not begin clean. */
  mayLast(clientId: string): boolean {
    return this.#sessions.some((session) => session.clientId === clientId && session.hasQueue);
  }

  /** Whether nobody owns the session and its time is over, but nobody was told. */
  hasExpired(clientId: string): boolean {
    return this.#sessions.some(
      (session) =>
        session.clientId === clientId && session.owner === '' && session.endsAtMs <= this.nowMs,
    );
  }

  changeSubscriptions(
    session: ModelSession,
    added: readonly StoredSubscription[],
    removed: readonly string[],
  ): void {
    const replaced = [...removed, ...added.map(({ filter }) => filter)];
    session.subscriptions = [
      ...session.subscriptions.filter(({ filter }) => !replaced.includes(filter)),
      ...added,
    ];
  }

  append(
    clientId: string,
    incarnation: number,
    entry: { readonly payload: string; readonly qos: 1 | 2; readonly uid: string },
  ): string {
    const session = this.#sessions.find(
      (candidate) => candidate.clientId === clientId && candidate.incarnation === incarnation,
    );
    if (!session?.hasQueue) return 'gone';
    if (entry.uid !== '' && session.uids.includes(entry.uid)) return 'duplicate';
    const { queueMessagesMax, queueBytesMax, queuePolicy } = this.#limits;
    const fits = (entries: readonly { readonly payload: string }[]) =>
      entries.length + 1 <= queueMessagesMax &&
      payloadBytes(entries) + entry.payload.length <= queueBytesMax;
    if (!fits([]) || (queuePolicy === 'reject-new' && !fits(session.entries))) return 'full';
    let dropped = 0;
    while (!fits(session.entries)) {
      session.droppedBelow = session.entries.shift()!.sequence + 1;
      dropped += 1;
    }
    const sequence = session.nextSequence;
    session.nextSequence += 1;
    session.entries.push({ payload: entry.payload, qos: entry.qos, sequence });
    if (entry.uid !== '') session.uids.push(entry.uid);
    return `kept as ${String(sequence)}, dropped ${String(dropped)}`;
  }

  settleUid(clientId: string, incarnation: number, settled: string): void {
    const session = this.#sessions.find(
      (candidate) => candidate.clientId === clientId && candidate.incarnation === incarnation,
    );
    if (session !== undefined) session.uids = session.uids.filter((uid) => uid !== settled);
  }

  read(
    session: ModelSession,
    fromSequence: number,
    countMax: number,
  ): { readonly droppedBelow: number; readonly entries: readonly ModelEntry[] } {
    const entries = session.entries
      .filter(({ sequence }) => sequence >= fromSequence)
      .slice(0, countMax)
      .map(({ sequence, payload, qos }) => ({ sequence, payload, qos }));
    return { droppedBelow: session.droppedBelow, entries };
  }

  remove(session: ModelSession, sequences: readonly number[]): void {
    session.entries = session.entries.filter(({ sequence }) => !sequences.includes(sequence));
    session.released = session.released.filter((sequence) => !sequences.includes(sequence));
  }

  markReleased(session: ModelSession, sequence: number): void {
    if (!session.released.includes(sequence)) session.released.push(sequence);
  }

  beginIncoming(session: ModelSession, packetId: number, uid: string): string {
    let incoming = session.incoming.find((entry) => entry.packetId === packetId);
    if (incoming === undefined) {
      incoming = { packetId, uid, state: 'pending' };
      session.incoming.push(incoming);
    }
    const answer = `${String(packetId)} ${incoming.uid} ${incoming.state}`;
    return incoming.uid === uid ? answer : `${answer}, repeated`;
  }

  finishIncoming(session: ModelSession, packetId: number): void {
    for (const entry of session.incoming) if (entry.packetId === packetId) entry.state = 'done';
  }

  endIncoming(session: ModelSession, packetId: number): void {
    session.incoming = session.incoming.filter((entry) => entry.packetId !== packetId);
  }

  /** The session if it is this incarnation and the token owns it; `undefined`: fenced. */
  owned(clientId: string, incarnation: number, token: string): ModelSession | undefined {
    return this.#sessions.find(
      (session) =>
        session.clientId === clientId &&
        session.incarnation === incarnation &&
        session.owner === token,
    );
  }

  /** Without limits. */
  retain(message: ModelRetained): string {
    const others = this.#retained.filter(({ topic }) => topic !== message.topic);
    if (message.payload === '') {
      this.#retained = others;
      return 'cleared';
    }
    this.#retained = [...others, message];
    return 'kept';
  }

  readRetained(topics: readonly string[]): readonly string[] {
    return topics.flatMap((asked) =>
      this.#retained
        .filter(({ topic, expiresAtMs }) => topic === asked && expiresAtMs > this.nowMs)
        .map(({ topic, payload }) => `${topic} ${payload}`),
    );
  }

  #begin(clientId: string, hasQueue: boolean): ModelSession {
    this.#sessionsBegun += 1;
    const session: ModelSession = {
      clientId,
      incarnation: this.#sessionsBegun,
      hasQueue,
      owner: '',
      releasedBy: '',
      expirySeconds: 0,
      endsAtMs: Infinity,
      will: undefined,
      subscriptions: [],
      entries: [],
      uids: [],
      nextSequence: 1,
      sentBelow: 1,
      released: [],
      droppedBelow: 1,
      incoming: [],
    };
    this.#sessions.push(session);
    return session;
  }

  #end(session: ModelSession): string {
    this.#sessions = this.#sessions.filter((other) => other !== session);
    const { clientId, incarnation } = session;
    return [clientId, String(incarnation), ...subscriptionNames(session)].join(' ');
  }

  #startWill(session: ModelSession, atMs: number): ModelPendingWill {
    const will = session.will ?? { name: 'none', delaySeconds: 0 };
    const { clientId, incarnation } = session;
    const pending = { ...will, clientId, incarnation, atMs, graced: false, handedOut: false };
    this.#wills.push(pending);
    return pending;
  }

  #handOut(will: ModelPendingWill): string {
    will.handedOut = true;
    will.atMs = this.nowMs + this.#willLeaseMs;
    return will.name;
  }
}

function subscriptionNames(session: ModelSession): readonly string[] {
  return session.subscriptions.map(({ filter, qos }) => `${filter}@${String(qos)}`).sort();
}

function payloadBytes(entries: readonly { readonly payload: string }[]): number {
  return entries.reduce((sum, { payload }) => sum + payload.length, 0);
}
