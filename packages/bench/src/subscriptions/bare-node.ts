import { randomBytes, randomInt } from 'node:crypto';

import { allowAll } from '@shoalmq/access';
import { createPacketEncoder } from '@shoalmq/codec';
import { Counters, DEFAULT_LIMITS, Node, noPeers } from '@shoalmq/core';
import type { SessionRef, StateStore } from '@shoalmq/core';
import { createMemoryStore } from '@shoalmq/store-memory';

/** The core of a broker and the embedded store, without a listener. */
export interface BareNode {
  readonly node: Node;
  readonly store: StateStore;
}

/** A persistent session, and the token under which it is owned. */
export interface OwnedSession extends SessionRef {
  readonly token: string;
}

/** Puts together what `createBroker` does, but for everything that has to do with connections. */
export function createBareNode(): BareNode {
  const clock = { monotonicMs: () => performance.now(), wallMs: () => Date.now() };
  const random = {
    id: () => randomBytes(16).toString('base64url'),
    integer: (bound: number) => randomInt(bound),
  };
  const store = createMemoryStore({ clock, random, limits: DEFAULT_LIMITS });
  const node = new Node({
    nodeId: 'bench',
    limits: DEFAULT_LIMITS,
    sharedStrategy: 'round-robin',
    store,
    peers: noPeers,
    access: allowAll(),
    clock,
    random,
    scheduler: {
      defer: (callback) => {
        setImmediate(callback);
      },
    },
    encoder: createPacketEncoder(),
    counters: new Counters(),
    events: { report: () => undefined },
  });
  return { node, store };
}

/** Starts a persistent session in the store. */
export async function claimSession(store: StateStore, clientId: string): Promise<OwnedSession> {
  const token = `bench#${clientId}`;
  const { incarnation } = await store.claim({
    clientId,
    token,
    cleanStart: true,
    expiryInterval: 0xffff_ffff,
    protocolVersion: 5,
    username: '',
    will: undefined,
  });
  return { clientId, incarnation, token };
}
