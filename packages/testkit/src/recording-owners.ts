import type { StateStore } from '@shoalmq/core';
import type { MemoryClusterState } from './memory-cluster-state.ts';

/** The store, but what it claims and releases is noted in `cluster`, whose `orphans` then says what a node left. */
export function recordingOwners(store: StateStore, cluster: MemoryClusterState): StateStore {
  return {
    durability: store.durability,
    async claim(request) {
      const { clientId, token } = request;
      cluster.own(token, clientId);
      const claimed = await store.claim(request);
      if (claimed.previousToken !== '' && claimed.previousToken !== token) {
        cluster.disown(claimed.previousToken, clientId);
      }
      return claimed;
    },
    restore(request) {
      cluster.own(request.token, request.clientId);
      return store.restore(request);
    },
    async release(request) {
      const result = await store.release(request);
      cluster.disown(request.token, request.clientId);
      return result;
    },
    takeDue: (limit) => store.takeDue(limit),
    settleWill: (clientId, uid) => store.settleWill(clientId, uid),
    changeSubscriptions: (session, token, added, removed) =>
      store.changeSubscriptions(session, token, added, removed),
    append: (session, message, uid, done) => store.append(session, message, uid, done),
    settleUid: (session, uid) => store.settleUid(session, uid),
    owner: (session, done) => store.owner(session, done),
    read: (session, token, fromSequence, countMax, bytesMax) =>
      store.read(session, token, fromSequence, countMax, bytesMax),
    remove: (session, token, sequences) => store.remove(session, token, sequences),
    markReleased: (session, token, sequence) => store.markReleased(session, token, sequence),
    beginIncoming: (session, token, packetId, uid) =>
      store.beginIncoming(session, token, packetId, uid),
    finishIncoming: (session, token, packetId) => store.finishIncoming(session, token, packetId),
    endIncoming: (session, token, packetId) => store.endIncoming(session, token, packetId),
    retain: (message) => store.retain(message),
    readRetained: (topics) => store.readRetained(topics),
    expireRetained: () => store.expireRetained(),
  };
}
