import type { DueEvents, DueWill, OwnerToken, Peers, SessionRef, StateStore } from '@shoalmq/core';
import type { Defect } from './simulated-node.ts';

/** Nodes that each break one promise, in the way of a mistake that somebody could make. */
export const KNOWN_BAD: Readonly<Record<string, () => Defect>> = {
  'ack before persist': () => {
    const sequences = new Map<string, number>();
    return {
      store: (store) =>
        over(store, {
          append(session, message, uid, done) {
            const key = `${session.clientId} ${session.incarnation}`;
            const guess = (sequences.get(key) ?? 0) + 1;
            sequences.set(key, guess);
            const owned = { ...message, message: message.message.owned() };
            setTimeout(() => {
              store.append(session, owned, uid, (result) => {
                if (result.outcome === 'kept') sequences.set(key, result.sequence);
              });
            }, 5);
            done({ outcome: 'kept', sequence: guess, dropped: 0 });
          },
        }),
    };
  },

  'no fence': () => ({ store: (store) => withTokens(store, (_token, owner) => owner) }),

  'numeric epoch': () => ({
    // Two nodes count their connections alike.
    store: (store) =>
      withTokens(store, (token, owner) => (epochOf(token) === epochOf(owner) ? owner : token)),
  }),

  'dedupe off': () => ({
    store: (store) =>
      over(store, {
        append(session, message, _uid, done) {
          store.append(session, message, '', done);
        },
      }),
  }),

  'SUBACK early': () => ({
    peers: (peers) =>
      Object.create(peers, {
        announceSubscriptions: {
          value: (...args: Parameters<Peers['announceSubscriptions']>) => {
            void peers.announceSubscriptions(...args);
            return Promise.resolve();
          },
        },
      }) as Peers,
  }),

  'will published twice': () => ({
    store: (store) =>
      over(store, {
        async claim(request) {
          const claimed = await store.claim(request);
          return { ...claimed, wills: twice(claimed.wills) };
        },
        async release(request) {
          const released = await store.release(request);
          return released.outcome === 'ok' ? { ...released, ...dueTwice(released) } : released;
        },
        takeDue: async (limit) => dueTwice(await store.takeDue(limit)),
      }),
  }),

  'late append after a clean start': () => {
    const incarnations = new Map<string, string>();
    return {
      store: (store) =>
        over(store, {
          async claim(request) {
            const claimed = await store.claim(request);
            incarnations.set(request.clientId, claimed.incarnation);
            return claimed;
          },
          append(session, message, uid, done) {
            const { clientId } = session;
            const incarnation = incarnations.get(clientId) ?? session.incarnation;
            store.append({ clientId, incarnation }, message, uid, done);
          },
        }),
    };
  },
};

function over(store: StateStore, overrides: Partial<StateStore>): StateStore {
  return { ...store, ...overrides };
}

/** `effective`: the token that a call uses in place of its own, when the session has that owner. */
function withTokens(
  store: StateStore,
  effective: (token: OwnerToken, owner: OwnerToken) => OwnerToken,
): StateStore {
  const tokenFor = (session: SessionRef, token: OwnerToken): Promise<OwnerToken> =>
    new Promise((resolve) => {
      store.owner(session, (owner = '') => {
        resolve(owner === '' ? token : effective(token, owner));
      });
    });
  const incarnations = new Map<string, string>();
  return over(store, {
    async claim(request) {
      const claimed = await store.claim(request);
      incarnations.set(request.clientId, claimed.incarnation);
      return claimed;
    },
    async release(request) {
      const { clientId, token } = request;
      const incarnation = incarnations.get(clientId);
      if (incarnation === undefined) return store.release(request);
      return store.release({
        ...request,
        token: await tokenFor({ clientId, incarnation }, token),
      });
    },
    read: async (session, token, ...rest) =>
      store.read(session, await tokenFor(session, token), ...rest),
    remove: async (session, token, ...rest) =>
      store.remove(session, await tokenFor(session, token), ...rest),
    markReleased: async (session, token, ...rest) =>
      store.markReleased(session, await tokenFor(session, token), ...rest),
    changeSubscriptions: async (session, token, ...rest) =>
      store.changeSubscriptions(session, await tokenFor(session, token), ...rest),
    beginIncoming: async (session, token, ...rest) =>
      store.beginIncoming(session, await tokenFor(session, token), ...rest),
    finishIncoming: async (session, token, ...rest) =>
      store.finishIncoming(session, await tokenFor(session, token), ...rest),
    endIncoming: async (session, token, ...rest) =>
      store.endIncoming(session, await tokenFor(session, token), ...rest),
  });
}

function epochOf(token: OwnerToken): number {
  return Number(token.slice(token.lastIndexOf('#') + 1));
}

function dueTwice<T extends DueEvents>(due: T): T {
  return { ...due, wills: twice(due.wills) };
}

function twice(wills: readonly DueWill[]): DueWill[] {
  return wills.flatMap((will) => [
    will,
    {
      uid: `${will.uid}-again`,
      clientId: will.clientId,
      username: will.username,
      will: will.will,
    },
  ]);
}
