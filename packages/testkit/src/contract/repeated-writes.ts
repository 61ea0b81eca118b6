import type { StateStore } from '@shoalmq/core';

/**
 * The store as an adapter uses it that loses every first reply and tries again: each write that may run twice
 * does. Answers what the caller of the port must see in that case: the answer of the second run where the port
 * promises that it is the same, otherwise (`append` under a uid, `release`) the first.
 */
export function repeatingWrites(store: StateStore): StateStore {
  return {
    durability: store.durability,
    claim: (request) => second(() => store.claim(request)),
    restore: (request) => second(() => store.restore(request)),
    async release(request) {
      const result = await store.release(request);
      await store.release(request);
      return result;
    },
    takeDue: (limit) => store.takeDue(limit),
    settleWill: (clientId, uid) => second(() => store.settleWill(clientId, uid)),
    changeSubscriptions: (session, token, added, removed) =>
      second(() => store.changeSubscriptions(session, token, added, removed)),
    append(session, message, uid, done) {
      store.append(session, message, uid, done);
      if (uid !== '') store.append(session, message, uid, () => undefined);
    },
    settleUid(session, uid) {
      store.settleUid(session, uid);
      store.settleUid(session, uid);
    },
    owner: (session, done) => {
      store.owner(session, done);
    },
    read: (session, token, fromSequence, countMax, bytesMax) =>
      store.read(session, token, fromSequence, countMax, bytesMax),
    remove: (session, token, sequences) => second(() => store.remove(session, token, sequences)),
    markReleased: (session, token, sequence) =>
      second(() => store.markReleased(session, token, sequence)),
    beginIncoming: (session, token, packetId, uid) =>
      second(() => store.beginIncoming(session, token, packetId, uid)),
    finishIncoming: (session, token, packetId) =>
      second(() => store.finishIncoming(session, token, packetId)),
    endIncoming: (session, token, packetId) =>
      second(() => store.endIncoming(session, token, packetId)),
    retain: (message) => second(() => store.retain(message)),
    readRetained: (topics) => store.readRetained(topics),
    expireRetained: () => store.expireRetained(),
  };
}

async function second<T>(run: () => Promise<T>): Promise<T> {
  await run();
  return run();
}
