import type { DueWill, IncomingMessage, StoredSubscription } from '@shoalmq/core';
import type { RedisArgument, RedisReply } from './connection/redis-call.ts';
import { defineScript, loadScript } from './connection/script.ts';
import type { SessionKeys } from './keys.ts';
import { decodeSubscription } from './stored-subscription.ts';
import { decodeWill } from './stored-will.ts';

/** The session has another incarnation than the keys of the call: make it again with those of this one. */
export interface OtherIncarnation {
  readonly outcome: 'other';
  readonly incarnation: string;
}

/** What a session's end leaves to do. */
export interface SessionEnd {
  readonly incarnation: string;
  readonly subscriptions: readonly StoredSubscription[];
}

interface SessionCall {
  readonly clientId: string;
  readonly keys: SessionKeys;
  /** '' when there should be no session. */
  readonly expected: string;
  readonly clockOffsetMs: number;
}

interface FencedCall {
  readonly keys: SessionKeys;
  readonly incarnation: string;
  readonly token: string;
}

const sessionLibrary = ['time', 'session'];

/** See lua/claim-session.lua. */
export const claimSession = defineScript('claim-session', {
  library: [...sessionLibrary, 'queue'],
  writes: true,
  keys: (
    call: SessionCall & {
      readonly token: string;
      readonly fresh: string;
      readonly cleanStart: boolean;
      readonly expiryInterval: number;
      readonly will: Buffer | undefined;
      readonly willUid: string;
      readonly willDelay: number;
      readonly willLeaseMs: number;
      readonly generation: number;
      readonly client: string;
    },
  ) => [...keysOfSession(call), call.keys.queue(call.fresh)],
  argv: (call) => [
    call.clockOffsetMs,
    call.token,
    call.expected,
    call.fresh,
    call.cleanStart ? 1 : 0,
    call.expiryInterval,
    call.will ?? '',
    call.willUid,
    call.willDelay,
    call.willLeaseMs,
    call.generation,
    call.client,
  ],
  reply: (reply, { clientId }) => {
    const values = arrayOf(reply);
    if (textOf(values[0]) === 'other') return otherIncarnation(values);
    const ended = textOf(values[4]);
    return {
      outcome: 'ok' as const,
      incarnation: textOf(values[1]),
      sessionPresent: textOf(values[2]) === '1',
      previousToken: textOf(values[3]),
      endedIncarnation: ended === '' ? undefined : ended,
      endedSubscriptions: subscriptionsOf(values[5]),
      subscriptions: subscriptionsOf(values[6]),
      incoming: pairsOf(values[7]).map(([packetId, stored]) =>
        incomingOf(Number(packetId.toString()), stored),
      ),
      released: arrayOf(values[8]).map((sequence) => Number(textOf(sequence))),
      sentBelow: Number(textOf(values[9])),
      wills: willsOf(clientId, values[10]),
      nextDue: textOf(values[11]),
    };
  },
});

/** See lua/restore-session.lua. */
export const restoreSession = defineScript('restore-session', {
  writes: true,
  urgent: true,
  keys: (
    call: FencedCall & {
      readonly expiryInterval: number;
      readonly will: Buffer | undefined;
      readonly willUid: string;
      readonly willDelay: number;
      readonly client: string;
      /** '' for a session without a queue. */
      readonly lastId: string;
      readonly sentBelow: number;
      readonly subscriptions: readonly (readonly [filter: string, options: string])[];
      readonly incoming: readonly (readonly [packetId: number, stored: string])[];
      readonly released: readonly number[];
    },
  ) => [
    call.keys.session,
    call.keys.subscriptions,
    call.keys.outgoing,
    call.keys.incoming,
    call.keys.queue(call.incarnation),
  ],
  argv: (call) => [
    ...fence(call),
    call.expiryInterval,
    call.will ?? '',
    call.willUid,
    call.willDelay,
    call.client,
    call.lastId,
    call.sentBelow,
    call.subscriptions.length,
    ...call.subscriptions.flatMap((pair) => pair),
    call.incoming.length,
    ...call.incoming.flatMap((pair) => pair),
    ...call.released,
  ],
  reply: isOwner,
});

/** See lua/release-session.lua. */
export const releaseSession = defineScript('release-session', {
  library: [...sessionLibrary, 'queue'],
  writes: true,
  keys: (
    call: SessionCall & {
      readonly token: string;
      readonly discardWill: boolean;
      readonly expiryInterval: number | undefined;
      readonly sentBelow: number;
      readonly willLeaseMs: number;
      /** It was called before, and the outcome is not known. */
      readonly late: boolean;
      /** The outcome of the claim is not known. */
      readonly claimUnheard: boolean;
      readonly willGraceMs: number;
    },
  ) => keysOfSession(call),
  argv: (call, again) => [
    call.clockOffsetMs,
    call.token,
    call.expected,
    call.discardWill ? 1 : 0,
    call.expiryInterval ?? '',
    call.sentBelow,
    call.willLeaseMs,
    again || call.late ? 1 : 0,
    call.claimUnheard ? 1 : 0,
    call.willGraceMs,
  ],
  reply: (reply, { clientId }) => {
    const values = arrayOf(reply);
    switch (textOf(values[0])) {
      case 'other':
        return otherIncarnation(values);
      case 'fenced':
        return { outcome: 'fenced' as const, nextDue: textOf(values[1]) };
      default:
        return {
          outcome: 'ok' as const,
          ...eventsOf(clientId, values),
          endedByClaim: endOf(values[5], values[6]),
        };
    }
  },
});

/** See lua/fire-timer.lua. */
export const fireTimer = defineScript('fire-timer', {
  library: sessionLibrary,
  writes: true,
  keys: (
    call: SessionCall & {
      readonly willsMax: number;
      readonly willLeaseMs: number;
      readonly operationId: string;
    },
  ) => keysOfSession(call),
  argv: (call, again) => [
    call.clockOffsetMs,
    call.expected,
    call.willsMax,
    call.willLeaseMs,
    call.operationId,
    again ? 1 : 0,
  ],
  reply: (reply, { clientId }) => {
    const values = arrayOf(reply);
    if (textOf(values[0]) === 'other') return otherIncarnation(values);
    return { outcome: 'ok' as const, ...eventsOf(clientId, values) };
  },
});

/** See lua/settle-will.lua. */
export const settleWill = defineScript('settle-will', {
  writes: true,
  keys: ({ keys }: { readonly keys: SessionKeys; readonly uid: string }) => [keys.wills],
  argv: ({ uid }) => [uid],
  reply: () => undefined,
});

/** See lua/settle-end.lua. */
export const settleEnd = defineScript('settle-end', {
  writes: true,
  keys: ({ keys }: { readonly keys: SessionKeys; readonly incarnation: string }) => [
    keys.end,
    keys.endedSubscriptions,
  ],
  argv: ({ incarnation }) => [incarnation],
  reply: () => undefined,
});

/** See lua/change-subscriptions.lua. */
export const changeSubscriptions = defineScript('change-subscriptions', {
  library: ['owner'],
  writes: true,
  keys: (
    call: FencedCall & {
      readonly removed: readonly string[];
      readonly added: readonly (readonly [filter: string, options: string])[];
    },
  ) => [call.keys.session, call.keys.subscriptions],
  argv: (call) => [
    ...fence(call),
    call.removed.length,
    ...call.removed,
    ...call.added.flatMap((pair) => pair),
  ],
  reply: isOwner,
});

/** See lua/read-queue.lua. */
export const readQueue = defineScript('read-queue', {
  library: ['owner', 'queue'],
  // At durability `replicated` nothing is delivered that a failover could take back, and hand out its place again.
  writes: true,
  keys: (
    call: FencedCall & {
      readonly generation: number;
      readonly from: number;
      readonly countMax: number;
      readonly bytesMax: number;
    },
  ) => [call.keys.session, call.keys.queue(call.incarnation)],
  argv: (call) => [
    ...fence(call),
    call.generation,
    Math.max(call.from, 0),
    call.countMax,
    call.bytesMax,
  ],
  reply: (reply) => (Array.isArray(reply) ? (reply as readonly Buffer[]) : ('fenced' as const)),
});

/** See lua/mark-released.lua. */
export const markReleased = defineScript('mark-released', {
  library: ['owner'],
  writes: true,
  keys: (call: FencedCall & { readonly sequence: number }) => [
    call.keys.session,
    call.keys.outgoing,
  ],
  argv: (call) => [...fence(call), call.sequence],
  reply: isOwner,
});

/** See lua/begin-incoming.lua. */
export const beginIncoming = defineScript('begin-incoming', {
  library: ['owner'],
  writes: true,
  keys: (call: FencedCall & { readonly packetId: number; readonly uid: string }) => [
    call.keys.session,
    call.keys.incoming,
  ],
  argv: (call) => [...fence(call), call.packetId, call.uid],
  reply: (reply, { packetId }) =>
    Buffer.isBuffer(reply) ? incomingOf(packetId, reply) : ('fenced' as const),
});

/** See lua/finish-incoming.lua. */
export const finishIncoming = defineScript('finish-incoming', {
  library: ['owner'],
  writes: true,
  keys: (call: FencedCall & { readonly packetId: number }) => [
    call.keys.session,
    call.keys.incoming,
  ],
  argv: (call) => [...fence(call), call.packetId],
  reply: isOwner,
});

/** See lua/end-incoming.lua. */
export const endIncoming = defineScript('end-incoming', {
  library: ['owner'],
  writes: true,
  keys: (call: FencedCall & { readonly packetId: number }) => [
    call.keys.session,
    call.keys.incoming,
  ],
  argv: (call) => [...fence(call), call.packetId],
  reply: isOwner,
});

/** See lua/append-message.lua. Sent by `CheckedAppend`. */
export const appendScript = loadScript('append-message', { library: ['queue'] });

/** See lua/remove-entries.lua. Sent by `RemoveBatch`. */
export const removeScript = loadScript('remove-entries', { library: ['queue'] });

function keysOfSession({ keys, expected }: SessionCall): readonly string[] {
  return [
    keys.session,
    keys.subscriptions,
    keys.outgoing,
    keys.incoming,
    keys.wills,
    keys.end,
    keys.endedSubscriptions,
    keys.queue(expected),
    keys.seen(expected),
  ];
}

function fence({ incarnation, token }: FencedCall): readonly RedisArgument[] {
  return [incarnation, token];
}

function isOwner(reply: RedisReply): boolean {
  return reply === 1;
}

function otherIncarnation(values: readonly RedisReply[]): OtherIncarnation {
  return { outcome: 'other', incarnation: textOf(values[1]) };
}

/** Wills, the end of the session and the next time to look: values 1 to 4 of a reply. */
function eventsOf(clientId: string, values: readonly RedisReply[]) {
  return {
    wills: willsOf(clientId, values[1]),
    ended: endOf(values[2], values[3]),
    nextDue: textOf(values[4]),
  };
}

function endOf(
  ended: RedisReply | undefined,
  subscriptions: RedisReply | undefined,
): SessionEnd | undefined {
  const incarnation = textOf(ended);
  if (incarnation === '') return undefined;
  return { incarnation, subscriptions: subscriptionsOf(subscriptions) };
}

function willsOf(clientId: string, reply: RedisReply | undefined): readonly DueWill[] {
  return arrayOf(reply).map((entry) => {
    const [uid, content] = arrayOf(entry);
    return decodeWill(clientId, textOf(uid), content as Buffer);
  });
}

function subscriptionsOf(reply: RedisReply | undefined): readonly StoredSubscription[] {
  return pairsOf(reply).map(([filter, options]) =>
    decodeSubscription(filter.toString(), options.toString('latin1')),
  );
}

function incomingOf(packetId: number, stored: Buffer): IncomingMessage {
  const text = stored.toString();
  return { packetId, uid: text.slice(1), state: text.startsWith('d') ? 'done' : 'pending' };
}

function arrayOf(reply: RedisReply | undefined): readonly RedisReply[] {
  return Array.isArray(reply) ? (reply as readonly RedisReply[]) : [];
}

/** Fields and values of a hash. */
function pairsOf(reply: RedisReply | undefined): readonly (readonly [Buffer, Buffer])[] {
  const flat = arrayOf(reply) as readonly Buffer[];
  return Array.from({ length: flat.length / 2 }, (_, index) => [
    flat[2 * index] as Buffer,
    flat[2 * index + 1] as Buffer,
  ]);
}

function textOf(reply: RedisReply | undefined): string {
  return reply === null || reply === undefined ? '' : String(reply);
}
