import { expect } from '@jest/globals';
import { Message } from '@shoalmq/core';
import type {
  AppendResult,
  DueEvents,
  DueWill,
  SessionIncarnation,
  SessionRef,
  StateStore,
  StoredSubscription,
} from '@shoalmq/core';
import * as fc from 'fast-check';
import { topicOf } from '../topic.ts';
import { StateStoreModel } from './state-store-model.ts';
import type { ModelWill, StateStoreLimits } from './state-store-model.ts';

/**
 * One call of the port. `who` and `which` choose among the tokens and incarnations the client id has had: 0 is the
 * latest. All durations are multiples of ten seconds but the steps of the clock, which are a little longer: so no
 * deadline is ever met within the accuracy of a clock.
 */
export type Operation =
  | ({ readonly kind: 'claim'; readonly cleanStart: boolean; readonly expiry: number } & Of & {
        readonly willDelay: number | undefined;
      })
  | ({ readonly kind: 'release'; readonly who: number; readonly discardWill: boolean } & Of & {
        readonly expiry: number | undefined;
        readonly sentBelow: number;
        readonly graceMs: number;
      })
  | { readonly kind: 'takeDue' }
  | { readonly kind: 'settle'; readonly will: number }
  | { readonly kind: 'advance'; readonly steps: number }
  | ({ readonly kind: 'append'; readonly which: number; readonly uid: number } & Of & {
        readonly bytes: number;
      })
  | ({ readonly kind: 'settleUid'; readonly which: number; readonly uid: number } & Of)
  | ({ readonly kind: 'fenced'; readonly who: number; readonly which: number } & Of & {
        readonly call: FencedCall;
      })
  | {
      readonly kind: 'retain';
      readonly topic: number;
      readonly bytes: number;
      readonly expires: boolean;
    }
  | { readonly kind: 'readRetained' };

interface Of {
  readonly client: number;
}

type FencedCall =
  | { readonly name: 'subscribe'; readonly filter: number; readonly qos: 0 | 1 | 2 }
  | { readonly name: 'unsubscribe'; readonly filter: number }
  | { readonly name: 'read'; readonly from: number; readonly count: number }
  | { readonly name: 'remove'; readonly sequences: readonly number[] }
  | { readonly name: 'mark'; readonly sequence: number }
  | { readonly name: 'begin'; readonly packetId: number; readonly uid: number }
  | { readonly name: 'finish' | 'end'; readonly packetId: number };

const NEVER = 0xffffffff;
const STEP_MS = 10_050;

const client = fc.nat({ max: 2 });
const mostlyLatest = fc.oneof(
  { weight: 6, arbitrary: fc.constant(0) },
  { weight: 1, arbitrary: fc.constant(1) },
);
const sequence = fc.integer({ min: 1, max: 8 });
const packetId = fc.integer({ min: 1, max: 3 });

const fencedCall: fc.Arbitrary<FencedCall> = fc.oneof(
  fc.record({
    name: fc.constant('subscribe' as const),
    filter: fc.nat({ max: 2 }),
    qos: fc.constantFrom(0 as const, 1 as const, 2 as const),
  }),
  fc.record({ name: fc.constant('unsubscribe' as const), filter: fc.nat({ max: 2 }) }),
  fc.record({
    name: fc.constant('read' as const),
    from: sequence,
    count: fc.integer({ min: 1, max: 5 }),
  }),
  fc.record({
    name: fc.constant('remove' as const),
    sequences: fc.array(sequence, { maxLength: 4 }),
  }),
  fc.record({ name: fc.constant('mark' as const), sequence }),
  fc.record({ name: fc.constant('begin' as const), packetId, uid: fc.nat({ max: 3 }) }),
  fc.record({ name: fc.constantFrom('finish' as const, 'end' as const), packetId }),
);

const operation: fc.Arbitrary<Operation> = fc.oneof(
  {
    weight: 5,
    arbitrary: fc.record({
      kind: fc.constant('claim' as const),
      client,
      cleanStart: fc.oneof(
        { weight: 4, arbitrary: fc.constant(false) },
        { weight: 1, arbitrary: fc.constant(true) },
      ),
      expiry: fc.constantFrom(0, 10, 40, 40, NEVER),
      willDelay: fc.constantFrom(undefined, 0, 20, 60),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant('release' as const),
      client,
      who: mostlyLatest,
      discardWill: fc.oneof(
        { weight: 3, arbitrary: fc.constant(false) },
        { weight: 1, arbitrary: fc.constant(true) },
      ),
      expiry: fc.constantFrom(undefined, undefined, undefined, 0, 10, 30),
      sentBelow: fc.oneof(sequence, fc.constant(Number.MAX_SAFE_INTEGER)),
      graceMs: fc.constantFrom(0, 0, 30_000),
    }),
  },
  { weight: 2, arbitrary: fc.constant({ kind: 'takeDue' as const }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant('settle' as const), will: fc.nat({ max: 5 }) }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      kind: fc.constant('advance' as const),
      steps: fc.integer({ min: 1, max: 4 }),
    }),
  },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant('append' as const),
      client,
      which: mostlyLatest,
      uid: fc.nat({ max: 3 }),
      bytes: fc.oneof(fc.integer({ min: 0, max: 30 }), fc.constant(61)),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('settleUid' as const),
      client,
      which: mostlyLatest,
      uid: fc.nat({ max: 3 }),
    }),
  },
  {
    weight: 10,
    arbitrary: fc.record({
      kind: fc.constant('fenced' as const),
      client,
      who: mostlyLatest,
      which: mostlyLatest,
      call: fencedCall,
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant('retain' as const),
      topic: fc.nat({ max: 2 }),
      bytes: fc.nat({ max: 3 }),
      expires: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.constant({ kind: 'readRetained' as const }) },
);

/** A sequence of calls, and the policy of the queues it is for. */
export const operations: fc.Arbitrary<{
  readonly list: readonly Operation[];
  readonly policy: 'drop-oldest' | 'reject-new';
}> = fc.record({
  list: fc.array(operation, { minLength: 1, maxLength: 80, size: 'max' }),
  policy: fc.constantFrom('drop-oldest' as const, 'reject-new' as const),
});

interface StoreInTime {
  readonly store: StateStore;
  readonly nowMs: () => number;
  readonly advance: (ms: number) => void | Promise<void>;
}

/**
 * Runs the operations on the store and on a model, and expects equal answers after each; at the end every client id
 * is claimed once more and every queue read, so that what the store kept to itself shows too.
 */
export async function runOperations(
  list: readonly Operation[],
  harness: StoreInTime,
  options: { readonly limits: StateStoreLimits; readonly willLeaseMs: number },
): Promise<void> {
  const run = new Run(harness, new StateStoreModel(options.limits, options.willLeaseMs));
  for (const [index, each] of list.entries()) {
    const { actual, expected } = await run.step(each);
    expect({ index, answer: actual }).toEqual({ index, answer: expected });
  }
  for (const each of Run.closing) {
    const { actual, expected } = await run.step(each);
    expect({ closing: each, answer: actual }).toEqual({ closing: each, answer: expected });
  }
}

interface Answers {
  readonly actual: unknown;
  readonly expected: unknown;
}

class Run {
  static readonly closing: readonly Operation[] = [
    ...[0, 1, 2].flatMap((id): Operation[] => [
      { kind: 'claim', client: id, cleanStart: false, expiry: 10, willDelay: undefined },
      {
        kind: 'fenced',
        client: id,
        who: 0,
        which: 0,
        call: { name: 'read', from: 1, count: 100 },
      },
      { kind: 'append', client: id, which: 0, uid: 0, bytes: 1 },
      {
        kind: 'release',
        client: id,
        who: 0,
        discardWill: false,
        expiry: undefined,
        sentBelow: 1,
        graceMs: 0,
      },
    ]),
    { kind: 'readRetained' },
    { kind: 'advance', steps: 10 },
    { kind: 'takeDue' },
  ];

  readonly #harness: StoreInTime;
  readonly #model: StateStoreModel;
  /** Per client id, latest first. */
  readonly #tokens = new Map<string, string[]>();
  readonly #incarnations = new Map<string, SessionIncarnation[]>();
  /** What the model calls an incarnation: the number of its session. */
  readonly #numbers = new Map<SessionIncarnation, number>();
  readonly #willUids = new Map<string, string>();
  readonly #wills: { readonly clientId: string; readonly name: string }[] = [];
  #connections = 0;
  #payloads = 0;

  constructor(harness: StoreInTime, model: StateStoreModel) {
    this.#harness = harness;
    this.#model = model;
  }

  async step(operation: Operation): Promise<Answers> {
    const { store } = this.#harness;
    const model = this.#model;
    switch (operation.kind) {
      case 'claim':
        return this.#claim(operation);
      case 'release':
        return this.#release(operation);
      case 'takeDue':
        return {
          actual: this.#due(await store.takeDue(1_000)),
          expected: sortedDue(model.takeDue()),
        };
      case 'settle': {
        const will = this.#wills[operation.will];
        const uid = will === undefined ? undefined : this.#willUids.get(will.name);
        await store.settleWill(will?.clientId ?? 'nobody', uid ?? 'unknown');
        if (will !== undefined && uid !== undefined) model.settleWill(will.name);
        return { actual: undefined, expected: undefined };
      }
      case 'advance':
        await this.#harness.advance(operation.steps * STEP_MS);
        model.nowMs += operation.steps * STEP_MS;
        return { actual: undefined, expected: undefined };
      case 'append':
        return this.#append(operation);
      case 'settleUid': {
        const session = this.#ref(clientIdOf(operation), operation.which);
        const uid = `uid ${String(operation.uid)}`;
        store.settleUid(session, uid);
        model.settleUid(session.clientId, this.#numberOf(session), uid);
        return { actual: undefined, expected: undefined };
      }
      case 'fenced':
        return this.#fenced(operation);
      case 'retain':
        return this.#retain(operation);
      case 'readRetained': {
        const asked = ['r2', 'unknown', 'r0', 'r1'];
        const read = await store.readRetained(asked);
        return {
          actual: read.map((message) => `${message.topic.name} ${textOf(message)}`),
          expected: model.readRetained(asked),
        };
      }
    }
  }

  async #claim(operation: Extract<Operation, { kind: 'claim' }>): Promise<Answers> {
    const clientId = clientIdOf(operation);
    this.#connections += 1;
    const token = `n#i#${String(this.#connections)}`;
    const { cleanStart, expiry, willDelay } = operation;
    const will: ModelWill | undefined =
      willDelay === undefined
        ? undefined
        : { name: `will ${String(this.#connections)}`, delaySeconds: willDelay };
    if (will !== undefined) this.#wills.push({ clientId, name: will.name });
    const expected = this.#model.claim({
      clientId,
      token,
      cleanStart,
      expirySeconds: expiry,
      will,
    });
    const claimed = await this.#harness.store.claim({
      clientId,
      token,
      cleanStart,
      expiryInterval: expiry,
      protocolVersion: 5,
      username: `user of ${clientId}`,
      will: will && {
        topic: will.name,
        payload: new TextEncoder().encode(will.name),
        qos: 1,
        retain: false,
        delayInterval: will.delaySeconds,
        messageExpiryInterval: undefined,
        properties: new Uint8Array(0),
      },
    });
    const known = this.#numbers.get(claimed.incarnation);
    if (known === undefined) {
      this.#numbers.set(claimed.incarnation, expected.incarnation);
      prepend(this.#incarnations, clientId, claimed.incarnation);
    }
    prepend(this.#tokens, clientId, token);
    const actual = {
      incarnation: known ?? expected.incarnation,
      isNew: known === undefined,
      sessionPresent: claimed.sessionPresent,
      previousToken: claimed.previousToken,
      subscriptions: subscriptionNames(claimed.subscriptions),
      endedSubscriptions: subscriptionNames(claimed.endedSubscriptions),
      endedIncarnation:
        claimed.endedIncarnation === undefined
          ? undefined
          : this.#numbers.get(claimed.endedIncarnation),
      incoming: claimed.incoming
        .map((entry) => `${String(entry.packetId)} ${entry.uid} ${entry.state}`)
        .sort(),
      sentBelow: claimed.sentBelow,
      released: claimed.released,
      wills: this.#willNames(claimed.wills),
    };
    return {
      actual,
      expected: {
        ...expected,
        isNew: !expected.sessionPresent,
        subscriptions: [...expected.subscriptions].sort(),
        endedSubscriptions: [...expected.endedSubscriptions].sort(),
        incoming: [...expected.incoming].sort(),
      },
    };
  }

  async #release(operation: Extract<Operation, { kind: 'release' }>): Promise<Answers> {
    const clientId = clientIdOf(operation);
    const token = this.#tokens.get(clientId)?.[operation.who] ?? 'unknown';
    const { discardWill, sentBelow, graceMs } = operation;
    // A session that began clean cannot be made to last: the core refuses that (§3.14.2.2.2).
    const mayLast = this.#model.mayLast(clientId);
    const expiry = mayLast ? operation.expiry : undefined;
    const expected = this.#model.release({
      clientId,
      token,
      discardWill,
      expirySeconds: expiry,
      sentBelow,
      graceMs,
    });
    const result = await this.#harness.store.release({
      clientId,
      token,
      discardWill,
      expiryInterval: expiry,
      sentBelow,
      willGraceMs: graceMs,
    });
    return {
      actual: result.outcome === 'fenced' ? 'fenced' : this.#due(result),
      expected: expected === 'fenced' ? expected : sortedDue(expected),
    };
  }

  async #append(operation: Extract<Operation, { kind: 'append' }>): Promise<Answers> {
    const session = this.#ref(clientIdOf(operation), operation.which);
    const uid = operation.uid === 0 ? '' : `uid ${String(operation.uid)}`;
    const qos = operation.uid === 0 ? 1 : 2;
    this.#payloads += 1;
    const payload = String(this.#payloads).padStart(operation.bytes, '.').slice(-operation.bytes);
    const text = operation.bytes === 0 ? '' : payload;
    const bytes = new TextEncoder().encode(text);
    const message = Message.of(topicOf('t'), bytes, { qos, retain: false });
    const expired = this.#model.hasExpired(session.clientId);
    const expected = this.#model.append(session.clientId, this.#numberOf(session), {
      payload: text,
      qos,
      uid,
    });
    const result = await new Promise<AppendResult>((resolve) => {
      const queued = { message, qos, retain: false, subscriptionIds: [] } as const;
      this.#harness.store.append(session, queued, uid, resolve);
    });
    const actual =
      result.outcome === 'kept'
        ? `kept as ${String(result.sequence)}, dropped ${String(result.dropped)}`
        : result.outcome;
    // Nobody was told of the session's end yet: the store may know or not, nobody will read it.
    return { actual: expired && actual === 'gone' ? expected : actual, expected };
  }

  async #fenced(operation: Extract<Operation, { kind: 'fenced' }>): Promise<Answers> {
    const { store } = this.#harness;
    const model = this.#model;
    const { call } = operation;
    const clientId = clientIdOf(operation);
    const token = this.#tokens.get(clientId)?.[operation.who] ?? 'unknown';
    const ref = this.#ref(clientId, operation.which);
    const session = model.owned(clientId, this.#numberOf(ref), token);
    switch (call.name) {
      case 'subscribe': {
        const added: StoredSubscription = {
          filter: `f${String(call.filter)}`,
          qos: call.qos,
          noLocal: false,
          retainAsPublished: false,
          retainHandling: 0,
          subscriptionIdentifier: 0,
        };
        if (session !== undefined) model.changeSubscriptions(session, [added], []);
        const actual = await store.changeSubscriptions(ref, token, [added], []);
        return { actual, expected: session === undefined ? 'fenced' : 'ok' };
      }
      case 'unsubscribe': {
        const removed = [`f${String(call.filter)}`];
        if (session !== undefined) model.changeSubscriptions(session, [], removed);
        const actual = await store.changeSubscriptions(ref, token, [], removed);
        return { actual, expected: session === undefined ? 'fenced' : 'ok' };
      }
      case 'read': {
        const result = await store.read(ref, token, call.from, call.count, 1_000_000);
        const actual =
          result.outcome === 'fenced'
            ? 'fenced'
            : {
                droppedBelow: result.droppedBelow,
                entries: result.entries.map((entry) => ({
                  sequence: entry.sequence,
                  payload: textOf(entry.message),
                  qos: entry.qos,
                })),
              };
        const expected =
          session === undefined ? 'fenced' : model.read(session, call.from, call.count);
        return { actual, expected };
      }
      case 'remove':
        if (session !== undefined) model.remove(session, call.sequences);
        return {
          actual: await store.remove(ref, token, call.sequences),
          expected: session === undefined ? 'fenced' : 'ok',
        };
      case 'mark':
        if (session !== undefined) model.markReleased(session, call.sequence);
        return {
          actual: await store.markReleased(ref, token, call.sequence),
          expected: session === undefined ? 'fenced' : 'ok',
        };
      case 'begin': {
        const uid = `incoming ${String(call.uid)}`;
        const expected =
          session === undefined ? 'fenced' : model.beginIncoming(session, call.packetId, uid);
        const result = await store.beginIncoming(ref, token, call.packetId, uid);
        if (result.outcome === 'fenced') return { actual: 'fenced', expected };
        const { incoming, repeated } = result;
        const answer = `${String(incoming.packetId)} ${incoming.uid} ${incoming.state}`;
        return { actual: repeated ? `${answer}, repeated` : answer, expected };
      }
      case 'finish':
        if (session !== undefined) model.finishIncoming(session, call.packetId);
        return {
          actual: await store.finishIncoming(ref, token, call.packetId),
          expected: session === undefined ? 'fenced' : 'ok',
        };
      case 'end':
        if (session !== undefined) model.endIncoming(session, call.packetId);
        return {
          actual: await store.endIncoming(ref, token, call.packetId),
          expected: session === undefined ? 'fenced' : 'ok',
        };
    }
  }

  async #retain(operation: Extract<Operation, { kind: 'retain' }>): Promise<Answers> {
    const topic = `r${String(operation.topic)}`;
    this.#payloads += 1;
    const text = operation.bytes === 0 ? '' : String(this.#payloads);
    const message = Message.of(topicOf(topic), new TextEncoder().encode(text), {
      qos: 1,
      retain: true,
    });
    message.expiresAtMs = operation.expires ? this.#harness.nowMs() + 20_000 : 0;
    const expected = this.#model.retain({
      topic,
      payload: text,
      expiresAtMs: operation.expires ? this.#model.nowMs + 20_000 : Infinity,
    });
    const { outcome } = await this.#harness.store.retain(message);
    return { actual: outcome, expected };
  }

  #ref(clientId: string, which: number): SessionRef {
    return { clientId, incarnation: this.#incarnations.get(clientId)?.[which] ?? 'unknown' };
  }

  /** -1 for an incarnation that never was. */
  #numberOf({ incarnation }: SessionRef): number {
    return this.#numbers.get(incarnation) ?? -1;
  }

  #due({ wills, ended }: DueEvents): unknown {
    return {
      wills: this.#willNames(wills),
      ended: ended
        .map(({ clientId, incarnation, subscriptions }) =>
          [
            clientId,
            String(this.#numbers.get(incarnation)),
            ...subscriptionNames(subscriptions),
          ].join(' '),
        )
        .sort(),
    };
  }

  /** The wills by name; expects that each comes under one uid of its own and with what belongs to it. */
  #willNames(wills: readonly DueWill[]): readonly string[] {
    for (const { clientId, username, uid, will } of wills) {
      expect(this.#willUids.get(will.topic) ?? uid).toBe(uid);
      this.#willUids.set(will.topic, uid);
      expect(this.#wills).toContainEqual({ clientId, name: will.topic });
      expect(username).toBe(`user of ${clientId}`);
      expect(new TextDecoder().decode(will.payload)).toBe(will.topic);
    }
    expect(new Set(this.#willUids.values()).size).toBe(this.#willUids.size);
    return wills.map(({ will }) => will.topic).sort();
  }
}

function clientIdOf({ client: index }: Of): string {
  return ['a', '{b}', '__proto__'][index] as string;
}

function subscriptionNames(subscriptions: readonly StoredSubscription[]): string[] {
  return subscriptions.map(({ filter, qos }) => `${filter}@${String(qos)}`).sort();
}

function sortedDue({
  wills,
  ended,
}: {
  readonly wills: readonly string[];
  readonly ended: readonly string[];
}): unknown {
  return { wills: [...wills].sort(), ended: [...ended].sort() };
}

function prepend<T>(lists: Map<string, T[]>, key: string, item: T): void {
  lists.set(key, [item, ...(lists.get(key) ?? [])]);
}

function textOf(message: Message): string {
  return new TextDecoder().decode(message.bytes.subarray(message.start, message.end));
}
