import type {
  AppendResult,
  ClusterState,
  OwnerToken,
  QueuedMessage,
  SessionRef,
  StateStore,
} from '@shoalmq/core';
import { DEFAULT_LIMITS, Message, TopicTable } from '@shoalmq/core';
import { createMemoryStore } from '@shoalmq/store-memory';
import { MemoryClusterState, SeededRandom, messageStamp, recordingOwners } from '@shoalmq/testkit';
import type { Network } from './network.ts';
import { Zone } from './virtual-time.ts';
import type { VirtualTime } from './virtual-time.ts';

/** Slots that sessions are spread over: calls within one keep their order. */
const LANES = 3;

/** How often a connection to Redis breaks: before or after one in so many calls took effect; 0: never. */
export interface RedisMischief {
  breaks: number;
}

/** Milliseconds after which calls that look after the cluster are given up; all others wait. */
const DEADLINE_MS = 10_000;

interface Call {
  readonly label: string;
  readonly execute: () => Promise<unknown>;
  readonly answer: (answer: Promise<unknown>) => void;
  /** When a call is repeated, the answer of the first run counts. */
  readonly first: boolean;
  readonly onRepeat: () => void;
  /** What the last run said. */
  ran: { readonly answer: Promise<unknown> } | undefined;
  over: boolean;
  deadline: { cancelled: boolean } | undefined;
}

/** The one store that all nodes share: the memory implementations, at the far end of a network. */
export class Redis {
  readonly zone = new Zone('redis');
  readonly mischief: RedisMischief = { breaks: 0 };
  /** Does not answer anybody. */
  down = false;
  /** Messages that a queue may hold twice, because an append was made again: client id, publisher and number. */
  readonly repeatedAppends = new Set<string>();
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
    /** Resolves when all calls are answered. */
    readonly idle: () => Promise<void>;
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
      idle: async () => {
        for (const lane of lanes) await lane.idle();
      },
    };
  }

  #storeOver(laneOf: (text: string) => Lane): StateStore {
    const store = this.#store;
    const of = ({ clientId }: { readonly clientId: string }): Lane => laneOf(clientId);
    // What comes out of Redis are bytes: no node gets to see a topic of another one, which remembers who subscribed there.
    const topics = new TopicTable();
    const decoded = (stored: Message): Message => {
      const { bytes, start, end, qos, retain, properties, publisher } = stored;
      const name = Buffer.from(stored.topic.name);
      const topic = topics.find(name, 0, name.length) ?? topics.add(stored.topic.name, name);
      const message = Message.of(topic, bytes.subarray(start, end), {
        ...{ qos, retain, properties, publisher },
      });
      message.expiresAtMs = stored.expiresAtMs;
      return message;
    };
    return {
      durability: 'primary',
      claim: (request) => of(request).call('claim', () => store.claim(request)),
      restore: (request) => of(request).call('restore', () => store.restore(request)),
      release: (request) =>
        of(request).call('release', () => store.release(request), { first: true }),
      takeDue: (limit) => laneOf('').call('takeDue', () => store.takeDue(limit)),
      settleWill: (clientId, uid) =>
        laneOf(clientId).call('settleWill', () => store.settleWill(clientId, uid)),
      changeSubscriptions: (session, token, added, removed) =>
        of(session).call('changeSubscriptions', () =>
          store.changeSubscriptions(session, token, added, removed),
        ),
      append: (session, queued, uid, done) => {
        this.#append(of(session), session, queued, uid, done);
      },
      settleUid: (session, uid) => {
        void of(session).call('settleUid', () => {
          store.settleUid(session, uid);
          return Promise.resolve();
        });
      },
      owner: (session, done) => {
        void of(session)
          .call(
            'owner',
            () =>
              new Promise<OwnerToken | undefined>((resolve) => {
                store.owner(session, resolve);
              }),
          )
          .then(done);
      },
      read: (session, token, fromSequence, countMax, bytesMax) =>
        of(session).call('read', async () => {
          const page = await store.read(session, token, fromSequence, countMax, bytesMax);
          if (page.outcome === 'fenced') return page;
          const entries = page.entries.map((entry) => ({
            ...entry,
            message: decoded(entry.message),
          }));
          return { ...page, entries };
        }),
      remove: (session, token, sequences) =>
        of(session).call('remove', () => store.remove(session, token, sequences)),
      markReleased: (session, token, sequence) =>
        of(session).call('markReleased', () => store.markReleased(session, token, sequence)),
      beginIncoming: (session, token, packetId, uid) =>
        of(session).call('beginIncoming', () => store.beginIncoming(session, token, packetId, uid)),
      finishIncoming: (session, token, packetId) =>
        of(session).call('finishIncoming', () => store.finishIncoming(session, token, packetId)),
      endIncoming: (session, token, packetId) =>
        of(session).call('endIncoming', () => store.endIncoming(session, token, packetId)),
      retain: (message) => {
        const owned = message.owned();
        return laneOf(owned.topic.name).call('retain', () => store.retain(owned));
      },
      readRetained: (names) =>
        laneOf('').call('readRetained', async () =>
          (await store.readRetained(names)).map((message) => decoded(message)),
        ),
      expireRetained: () => laneOf('').call('expireRetained', () => store.expireRetained()),
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
    void lane
      .call('append', execute, {
        first: uid !== '',
        onRepeat: () => {
          if (uid !== '') return;
          const { bytes, start, end } = owned.message;
          const { publisher, seq } = messageStamp(bytes.subarray(start, end));
          this.repeatedAppends.add(`${session.clientId} ${publisher} ${String(seq)}`);
        },
      })
      .then(done);
  }

  #stateOver(lane: Lane): ClusterState {
    const state = this.#state;
    const within = <T>(label: string, execute: () => Promise<T>): Promise<T> =>
      lane.call(label, execute, { deadlineMs: DEADLINE_MS });
    return {
      renewLease: (self, ttlMs) => within('renewLease', () => state.renewLease(self, ttlMs)),
      endLease: (self) => within('endLease', () => state.endLease(self)),
      bury: (node) => within('bury', () => state.bury(node)),
      changeFacts: (changes) => within('changeFacts', () => state.changeFacts(changes)),
      loadBucket: (bucket) => within('loadBucket', () => state.loadBucket(bucket)),
      readLog: (positions, countMax) => within('readLog', () => state.readLog(positions, countMax)),
      orphans: (node, cursor, limit) => within('orphans', () => state.orphans(node, cursor, limit)),
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

/**
 * The connection of a node to one part of Redis, as `RedisLink` has it: calls take effect, and are answered, in the order in
 * which they were made. When the connection breaks, those without an answer are sent again, before all others.
 */
class Lane {
  readonly #parts: LaneParts;
  /** Not answered, in order. */
  #calls: Call[] = [];
  #epoch = 0;
  #open = true;
  #arriveAtMs = 0;
  #answerAtMs = 0;
  /** Of a node that died: what was on its way arrives, or not. */
  readonly #arrivesAfterDeath: boolean;
  #idle: (() => void)[] = [];

  constructor(parts: LaneParts) {
    this.#parts = parts;
    this.#arrivesAfterDeath = parts.random.integer(2) === 0;
  }

  /** Resolves when all calls are answered. */
  idle(): Promise<void> {
    if (this.#calls.length === 0) return Promise.resolve();
    return new Promise((resolve) => this.#idle.push(resolve));
  }

  call<T>(
    label: string,
    execute: () => Promise<T>,
    options: {
      readonly first?: boolean;
      readonly onRepeat?: () => void;
      readonly deadlineMs?: number;
    } = {},
  ): Promise<T> {
    const { time, host } = this.#parts;
    const { first = false, onRepeat = () => undefined, deadlineMs } = options;
    return new Promise((resolve, reject) => {
      const call: Call = {
        label,
        execute,
        first,
        onRepeat,
        ran: undefined,
        over: false,
        deadline: undefined,
        answer: (answer) => {
          resolve(answer as Promise<T>);
        },
      };
      this.#calls.push(call);
      if (this.#open) this.#send(call);
      if (deadlineMs === undefined) return;
      call.deadline = time.after(deadlineMs, host.zone, `${label} deadline`, () => {
        this.#forget(call);
        reject(new Error(`${label}: the store did not answer`));
      });
    });
  }

  #send(call: Call): void {
    const { time, network, redis, host } = this.#parts;
    this.#arriveAtMs = Math.max(this.#arriveAtMs, time.nowMs + network.delay());
    const epoch = this.#epoch;
    time.after(this.#arriveAtMs - time.nowMs, redis.zone, call.label, () => {
      if (epoch !== this.#epoch) return;
      if (host.zone.dead && !this.#arrivesAfterDeath) return;
      this.#execute(call, epoch);
    });
  }

  #execute(call: Call, epoch: number): void {
    const { redis, network, host, random, time } = this.#parts;
    const { breaks } = redis.mischief;
    const broken = breaks > 0 && random.integer(breaks) === 0;
    if (this.#unreachable || (broken && random.integer(3) === 0)) {
      this.#break();
      return;
    }
    if (call.ran !== undefined) call.onRepeat();
    const ran = call.execute();
    // What the store refuses it refuses when it is asked again.
    void ran
      .catch(() => undefined)
      .then(() => {
        const answer = call.first && call.ran !== undefined ? call.ran.answer : ran;
        call.ran = { answer };
        if (broken) {
          this.#break();
          return;
        }
        this.#answerAtMs = Math.max(this.#answerAtMs, time.nowMs + network.delay());
        time.after(this.#answerAtMs - time.nowMs, host.zone, call.label, () => {
          if (epoch !== this.#epoch || call.over) return;
          this.#forget(call);
          call.answer(answer);
        });
      });
  }

  get #unreachable(): boolean {
    const { redis, network, host } = this.#parts;
    return redis.down || network.isCut(host.name, 'redis');
  }

  #break(): void {
    if (!this.#open) return;
    this.#epoch += 1;
    this.#open = false;
    this.#connectLater();
  }

  #connectLater(): void {
    const { time, host, random } = this.#parts;
    time.after(20 + random.integer(200), host.zone, 'redis link', () => {
      if (this.#unreachable) {
        this.#connectLater();
        return;
      }
      this.#open = true;
      for (const call of [...this.#calls]) this.#send(call);
    });
  }

  #forget(call: Call): void {
    call.over = true;
    if (call.deadline !== undefined) call.deadline.cancelled = true;
    this.#calls = this.#calls.filter((other) => other !== call);
    if (this.#calls.length > 0) return;
    for (const resolve of this.#idle.splice(0)) resolve();
  }
}

function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  return value >>> 0;
}
