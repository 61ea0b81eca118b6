import type {
  AppendResult,
  ClusterState,
  OwnerToken,
  QueuedMessage,
  SessionRef,
  StateStore,
} from '@shoalmq/core';
import { DEFAULT_LIMITS } from '@shoalmq/core';
import { createMemoryStore } from '@shoalmq/store-memory';
import { MemoryClusterState, SeededRandom, messageStamp, recordingOwners } from '@shoalmq/testkit';
import type { Network } from './network.ts';
import { Zone } from './virtual-time.ts';
import type { VirtualTime } from './virtual-time.ts';

/** Slots that sessions are spread over: calls within one keep their order. */
const LANES = 3;

/** How often things go wrong between a node and Redis; one in so many calls, 0: never. */
export interface RedisMischief {
  /** The call took effect, the answer was lost, and the adapter gives up: nobody knows. */
  lostReply: number;
  /** The call took effect, the answer was lost, and the adapter repeats the call. */
  repeat: number;
}

interface Call {
  readonly label: string;
  readonly write: boolean;
  readonly execute: () => Promise<unknown>;
  readonly answer: (value: unknown) => void;
  readonly fail: () => void;
  /** Of a repeated call, the answer of the first run counts. */
  readonly first: boolean;
  readonly onRepeat: () => void;
}

/** The one store that all nodes share: the memory implementations, at the far end of a network. */
export class Redis {
  readonly zone = new Zone('redis');
  readonly mischief: RedisMischief = { lostReply: 0, repeat: 0 };
  /** Does not answer anybody. */
  down = false;
  /** Copies of `payload` that the queue of `clientId` may hold because an append was made again. */
  readonly repeatedAppends = new Map<string, number>();
  readonly #time: VirtualTime;
  readonly #random: SeededRandom;
  readonly #network: Network;
  readonly #state: MemoryClusterState;
  readonly #store: StateStore;

  constructor(time: VirtualTime, random: SeededRandom, network: Network, seed: number) {
    this.#time = time;
    this.#random = random;
    this.#network = network;
    const clock = { monotonicMs: () => time.nowMs, wallMs: () => time.nowMs };
    const own = new SeededRandom(seed);
    this.#state = new MemoryClusterState({ clock, random: own });
    const memory = createMemoryStore({ clock, random: own, limits: DEFAULT_LIMITS });
    this.#store = recordingOwners(memory, this.#state);
  }

  /** As the node `host` sees it, in one of its lives. */
  connect(host: { readonly name: string; readonly zone: Zone }): {
    readonly store: StateStore;
    readonly state: ClusterState;
  } {
    const lanes = Array.from(
      { length: LANES + 1 },
      () =>
        new Lane({
          time: this.#time,
          random: this.#random,
          network: this.#network,
          redis: this,
          host,
        }),
    );
    const laneOf = (text: string): Lane => lanes[hash(text) % LANES]!;
    return {
      store: this.#storeOver(laneOf),
      state: this.#stateOver(lanes[LANES]!),
    };
  }

  #storeOver(laneOf: (text: string) => Lane): StateStore {
    const store = this.#store;
    const of = ({ clientId }: { readonly clientId: string }): Lane => laneOf(clientId);
    return {
      durability: 'primary',
      claim: (request) => of(request).write('claim', () => store.claim(request)),
      release: (request) =>
        of(request).write('release', () => store.release(request), { first: true }),
      takeDue: (limit) => laneOf('').read('takeDue', () => store.takeDue(limit)),
      settleWill: (clientId, uid) =>
        laneOf(clientId).write('settleWill', () => store.settleWill(clientId, uid)),
      changeSubscriptions: (session, token, added, removed) =>
        of(session).write('changeSubscriptions', () =>
          store.changeSubscriptions(session, token, added, removed),
        ),
      append: (session, queued, uid, done) => {
        this.#append(of(session), session, queued, uid, done);
      },
      settleUid: (session, uid) => {
        of(session).tell('settleUid', () => {
          store.settleUid(session, uid);
        });
      },
      owner: (session, done) => {
        of(session)
          .read(
            'owner',
            () =>
              new Promise<OwnerToken | undefined>((resolve) => {
                store.owner(session, resolve);
              }),
          )
          .then(done, () => {
            done(undefined);
          });
      },
      read: (session, token, fromSequence, countMax, bytesMax) =>
        of(session).read('read', () =>
          store.read(session, token, fromSequence, countMax, bytesMax),
        ),
      remove: (session, token, sequences) =>
        of(session).write('remove', () => store.remove(session, token, sequences)),
      markReleased: (session, token, sequence) =>
        of(session).write('markReleased', () => store.markReleased(session, token, sequence)),
      beginIncoming: (session, token, packetId, uid) =>
        of(session).write('beginIncoming', () =>
          store.beginIncoming(session, token, packetId, uid),
        ),
      finishIncoming: (session, token, packetId) =>
        of(session).write('finishIncoming', () => store.finishIncoming(session, token, packetId)),
      endIncoming: (session, token, packetId) =>
        of(session).write('endIncoming', () => store.endIncoming(session, token, packetId)),
      retain: (message) => {
        const owned = message.owned();
        return laneOf(owned.topic.name).write('retain', () => store.retain(owned));
      },
      readRetained: (topics) => laneOf('').read('readRetained', () => store.readRetained(topics)),
    };
  }

  #append(
    lane: Lane,
    session: SessionRef,
    queued: QueuedMessage,
    uid: string,
    done: (result: AppendResult) => void,
  ): void {
    const owned = { ...queued, message: queued.message.owned() };
    const execute = (): Promise<AppendResult> =>
      new Promise((resolve) => {
        this.#store.append(session, owned, uid, resolve);
      });
    lane
      .write('append', execute, {
        first: uid !== '',
        onRepeat: () => {
          if (uid !== '') return;
          const { bytes, start, end } = owned.message;
          const { publisher, seq } = messageStamp(bytes.subarray(start, end));
          const key = `${session.clientId} ${publisher} ${String(seq)}`;
          this.repeatedAppends.set(key, (this.repeatedAppends.get(key) ?? 0) + 1);
        },
      })
      .then(done, () => {
        done({ outcome: 'failed' });
      });
  }

  #stateOver(lane: Lane): ClusterState {
    const state = this.#state;
    return {
      renewLease: (self, ttlMs) => lane.write('renewLease', () => state.renewLease(self, ttlMs)),
      endLease: (self) => lane.write('endLease', () => state.endLease(self)),
      bury: (node) => lane.write('bury', () => state.bury(node)),
      changeFacts: (changes) => lane.write('changeFacts', () => state.changeFacts(changes)),
      loadBucket: (bucket) => lane.read('loadBucket', () => state.loadBucket(bucket)),
      readLog: (positions, countMax) =>
        lane.read('readLog', () => state.readLog(positions, countMax)),
      orphans: (node, cursor, limit) =>
        lane.read('orphans', () => state.orphans(node, cursor, limit)),
    };
  }
}

interface LaneParts {
  readonly time: VirtualTime;
  readonly random: SeededRandom;
  readonly network: Network;
  readonly redis: Redis;
  readonly host: { readonly name: string; readonly zone: Zone };
}

/** A connection of a node to one part of Redis: calls take effect, and are answered, in the order in which they were made. */
class Lane {
  readonly #parts: LaneParts;
  readonly #queue: Call[] = [];
  #arriveAtMs = 0;
  #answerAtMs = 0;
  #busy = false;
  /** Of a node that died: what was on its way arrives, or not. */
  readonly #arrivesAfterDeath: boolean;

  constructor(parts: LaneParts) {
    this.#parts = parts;
    this.#arrivesAfterDeath = parts.random.integer(2) === 0;
  }

  read<T>(label: string, execute: () => Promise<T>): Promise<T> {
    return this.#call(label, false, execute, {});
  }

  write<T>(
    label: string,
    execute: () => Promise<T>,
    options: { readonly first?: boolean; readonly onRepeat?: () => void } = {},
  ): Promise<T> {
    return this.#call(label, true, execute, options);
  }

  tell(label: string, execute: () => void): void {
    this.#call(
      label,
      true,
      () => {
        execute();
        return Promise.resolve();
      },
      {},
    ).catch(() => undefined);
  }

  #call<T>(
    label: string,
    write: boolean,
    execute: () => Promise<T>,
    { first = false, onRepeat = () => undefined }: { first?: boolean; onRepeat?: () => void },
  ): Promise<T> {
    const { time, network, redis, host } = this.#parts;
    return new Promise((resolve, reject) => {
      const call: Call = {
        label,
        write,
        execute,
        first,
        onRepeat,
        answer: (value) => {
          resolve(value as T);
        },
        fail: () => {
          reject(new Error(`${label}: the store did not answer`));
        },
      };
      this.#arriveAtMs = Math.max(this.#arriveAtMs, time.nowMs + network.delay());
      time.after(this.#arriveAtMs - time.nowMs, redis.zone, label, () => {
        if (host.zone.dead && !this.#arrivesAfterDeath) return;
        this.#queue.push(call);
        this.#runNext();
      });
    });
  }

  #runNext(): void {
    if (this.#busy) return;
    const call = this.#queue.shift();
    if (call === undefined) return;
    const { redis, network, host, random, time } = this.#parts;
    if (redis.down || network.isCut(host.name, 'redis')) {
      this.#giveUp(call);
      this.#runNext();
      return;
    }
    this.#busy = true;
    const { lostReply, repeat } = redis.mischief;
    const loses = lostReply > 0 && random.integer(lostReply) === 0;
    const repeats = !loses && call.write && repeat > 0 && random.integer(repeat) === 0;
    void call.execute().then((value) => {
      if (!repeats) {
        this.#busy = false;
        if (loses) this.#giveUp(call);
        else this.#answer(call, value);
        this.#runNext();
        return;
      }
      // Others may come in between.
      time.after(network.delay() * 3, redis.zone, `${call.label} again`, () => {
        // A node that is dead repeats nothing.
        if (host.zone.dead) return;
        call.onRepeat();
        void call.execute().then((second) => {
          this.#busy = false;
          this.#answer(call, call.first ? value : second);
          this.#runNext();
        });
      });
    });
  }

  #answer(call: Call, value: unknown): void {
    const { time, network, host } = this.#parts;
    this.#answerAtMs = Math.max(this.#answerAtMs, time.nowMs + network.delay());
    time.after(this.#answerAtMs - time.nowMs, host.zone, call.label, () => {
      call.answer(value);
    });
  }

  #giveUp(call: Call): void {
    const { time, host, random } = this.#parts;
    this.#answerAtMs = Math.max(this.#answerAtMs, time.nowMs + 200 + random.integer(1_500));
    time.after(this.#answerAtMs - time.nowMs, host.zone, call.label, () => {
      call.fail();
    });
  }
}

function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}
