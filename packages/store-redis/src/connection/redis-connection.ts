import { Redis } from 'ioredis';
import { StoreError } from '../errors.ts';
import { addressOf, parseAddress, parseSlots } from './cluster-topology.ts';
import { SLOTS, slotOf } from './hash-slot.ts';
import type { RedisArgument, RedisCall, RedisReply } from './redis-call.ts';
import { encodeCommand, PromisedCall } from './redis-call.ts';
import type { LinkOwner } from './redis-link.ts';
import { RedisLink } from './redis-link.ts';
import type { RedisAddress, RedisOptions } from './redis-options.ts';
import { REDIS_DEFAULTS } from './redis-options.ts';
import { RedisMetrics } from './redis-metrics.ts';
import { ReplicationCommit } from './replication-commit.ts';
import { scriptSources } from './script.ts';

const TICK_MS = 50;
const BACKOFF_MS = 100;
const TOPOLOGY_MS = 1_000;
const HISTORIES_MAX = 1_000;

/** Errors that pass: the same call may succeed in a moment. */
const TRANSIENT = new Set([
  ...['LOADING', 'TRYAGAIN', 'CLUSTERDOWN', 'MASTERDOWN', 'READONLY', 'BUSY'],
  ...['MISCONF', 'OOM', 'NOREPLICAS', 'MOVED', 'ASK', 'NOSCRIPT', 'UNBLOCKED'],
]);

/** Whether the store answers. */
export interface StoreStatus {
  /** `down`: a server that is needed does not answer; calls wait for their deadline. */
  readonly state: 'up' | 'down';
  /** `Date.now()` when that began. */
  readonly sinceMs: number;
}

/** Where calls to Redis can be made. */
export interface RedisCalls {
  readonly keyPrefix: string;
  readonly isCluster: boolean;
  /** Slot of a key; 0 outside a cluster. */
  slotOf(key: string): number;
  /** Sends a call. It leaves with all others of this turn of the event loop. */
  send(call: RedisCall): void;
  /**
   * Sends a command for the server that has `key`. A write must be one that may run twice.
   *
   * @throws StoreError when it was not answered in time, or with an error
   */
  command(
    key: string,
    args: readonly RedisArgument[],
    options?: { readonly durable?: boolean; readonly urgent?: boolean },
  ): Promise<RedisReply>;
  /** One slot of each primary, so that something can be asked of every server. Empty until the servers are known. */
  slotsOfPrimaries(): readonly number[];
}

/** Calls of one slot, which are executed in their order although some must be sent again. */
interface Lane {
  /** Where calls under way are. */
  link: RedisLink | undefined;
  underWay: number;
  /** Calls wait here until all that are under way have been answered. */
  blocked: boolean;
  /** Begins with those that must be sent again. */
  again: RedisCall[];
  waiting: RedisCall[];
  /** `performance.now()` before which nothing is sent again. */
  notBeforeMs: number;
}

/**
 * Sends calls to the Redis that is configured, single, behind Sentinels, or a cluster.
 *
 * A call is sent again whenever its reply may have been lost or the server said that it cannot answer now, until it is
 * answered or its deadline has passed; calls for one slot take effect in the order in which they were made. So a call may
 * run more than once. Without a deadline it waits for as long as Redis is away: whoever calls bounds what waits.
 */
export class RedisConnection implements LinkOwner, RedisCalls {
  readonly options: RedisOptions;
  readonly keyPrefix: string;
  readonly metrics = new RedisMetrics();
  readonly #deadlineMs: number;
  readonly #replyTimeoutMs: number;
  /** By address; '' is the only one outside a cluster. */
  readonly #links = new Map<string, RedisLink>();
  readonly #commits = new Map<RedisLink, ReplicationCommit>();
  readonly #lanes = new Map<number, Lane>();
  readonly #blocked = new Set<Lane>();
  /** `master_replid` of the servers that hold what they should. */
  readonly #trusted = new Set<string>();
  #guard: (() => Promise<void>) | undefined;
  /** Calls with a deadline that are not answered. */
  readonly #timed = new Set<RedisCall>();
  /** Address of the primary of each slot. */
  #slots: readonly (string | undefined)[] = [];
  #topologyAtMs = -Infinity;
  #askingTopology = false;
  #timer: NodeJS.Timeout | undefined = undefined;
  #status: StoreStatus = { state: 'down', sinceMs: Date.now() };
  readonly #listeners = new Set<(status: StoreStatus) => void>();
  #closed = false;

  /** Begins to connect; calls can be made at once and wait for it. */
  constructor(options: RedisOptions) {
    this.options = options;
    this.keyPrefix = options.keyPrefix ?? REDIS_DEFAULTS.keyPrefix;
    this.#deadlineMs = options.deadlineMs ?? Infinity;
    this.#replyTimeoutMs = options.replyTimeoutMs ?? REDIS_DEFAULTS.replyTimeoutMs;
    if (options.mode === 'cluster') this.#learnTopology();
    else this.#link('');
    this.#timer = setInterval(() => this.#tick(), TICK_MS);
    this.#timer.unref();
  }

  get isCluster(): boolean {
    return this.options.mode === 'cluster';
  }

  get status(): StoreStatus {
    return this.#status;
  }

  /** Calls `listener` with each change of the status, until the function that this returns is called. */
  onStatus(listener: (status: StoreStatus) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  slotOf(key: string): number {
    return this.isCluster ? slotOf(key) : 0;
  }

  /**
   * From now on a server with another replication history than those known until then gets only urgent calls until
   * `confirm` has resolved: it may have been started again empty, or be a replica that has missed writes, and nobody may
   * write to it before those have told it what they know whose state it should have.
   */
  guard(confirm: () => Promise<void>): void {
    this.#guard = confirm;
  }

  trusts(link: RedisLink, history: string): boolean {
    const guard = this.#guard;
    if (guard === undefined) this.#trust(history);
    if (guard === undefined || this.#trusted.has(history)) return true;
    void guard().then(() => {
      if (link.history !== history) return;
      this.#trust(history);
      link.trust();
    });
    return false;
  }

  #trust(history: string): void {
    this.#trusted.add(history);
    for (const oldest of this.#trusted) {
      if (this.#trusted.size <= HISTORIES_MAX) break;
      this.#trusted.delete(oldest);
    }
  }

  /** The same connection, with another deadline in milliseconds for each call. */
  within(deadlineMs: number): RedisCalls {
    const { keyPrefix, isCluster } = this;
    const send = (call: RedisCall): void => {
      this.#send(call, deadlineMs);
    };
    return {
      keyPrefix,
      isCluster,
      send,
      slotOf: (key) => this.slotOf(key),
      command: (key, args, options = {}) => {
        const call = this.#commandCall(key, args, options);
        send(call);
        return call.reply;
      },
      slotsOfPrimaries: () => this.slotsOfPrimaries(),
    };
  }

  send(call: RedisCall): void {
    this.#send(call, this.#deadlineMs);
  }

  command(
    key: string,
    args: readonly RedisArgument[],
    options: { readonly durable?: boolean; readonly urgent?: boolean } = {},
  ): Promise<RedisReply> {
    const call = this.#commandCall(key, args, options);
    this.send(call);
    return call.reply;
  }

  #commandCall(
    key: string,
    args: readonly RedisArgument[],
    { durable = false, urgent = false }: { readonly durable?: boolean; readonly urgent?: boolean },
  ): PromisedCall {
    const bytes = encodeCommand(args);
    const name = String(args[0]).toLowerCase();
    const call = new PromisedCall(name, () => bytes, { slot: this.slotOf(key), durable });
    call.urgent = urgent;
    return call;
  }

  #send(call: RedisCall, deadlineMs: number): void {
    if (this.#closed) {
      call.settled = true;
      call.onFailure(new StoreError('SHOAL_STORE_CLOSED', 'the store is closed'));
      return;
    }
    if (deadlineMs < Infinity) {
      call.deadlineAtMs = performance.now() + deadlineMs;
      this.#timed.add(call);
    }
    this.#submit(call);
  }

  slotsOfPrimaries(): readonly number[] {
    if (!this.isCluster) return [0];
    const slots = new Map<string, number>();
    for (const [slot, address] of this.#slots.entries()) {
      if (address !== undefined && !slots.has(address)) slots.set(address, slot);
    }
    return [...slots.values()];
  }

  /** Ends all connections; calls under way fail. */
  close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#timer);
    const calls = [...this.#commits.values()].flatMap((commit) => commit.abandon());
    for (const commit of this.#commits.values()) commit.close();
    for (const link of this.#links.values()) {
      link.close();
      calls.push(...link.surrender());
    }
    for (const lane of this.#lanes.values()) calls.push(...lane.again, ...lane.waiting);
    for (const call of calls) this.#fail(call, 'SHOAL_STORE_CLOSED', 'the store is closed');
    this.#listeners.clear();
    return Promise.resolve();
  }

  replied(call: RedisCall, reply: RedisReply): void {
    if (call.settled) return;
    const lane = this.#lane(call.slot);
    const commit = call.durable && lane.link ? this.#commits.get(lane.link) : undefined;
    if (commit === undefined) this.#answer(call, reply, lane.link?.heardAtMs ?? call.sentAtMs);
    else commit.add(call, reply);
  }

  refused(call: RedisCall, error: Error): void {
    if (call.settled) return;
    const code = /^[A-Z]+/.exec(error.message)?.[0] ?? '';
    if (!TRANSIENT.has(code)) {
      this.#leave(this.#lane(call.slot));
      this.#settle(call);
      this.metrics.failed(call.operation);
      call.onFailure(new StoreError('SHOAL_STORE_REFUSED', error.message, error));
      return;
    }
    call.refusal = error.message;
    const lane = this.#lane(call.slot);
    if (code === 'NOSCRIPT') call.scriptUnknown = true;
    else if (code === 'MOVED' || code === 'ASK') this.#onRedirect(call, lane, code, error);
    else {
      lane.notBeforeMs = performance.now() + BACKOFF_MS;
      if (code === 'READONLY') lane.link?.reconnect();
      if (this.isCluster) this.#learnTopology();
    }
    this.#sendAgain(call, lane);
  }

  changed(link: RedisLink): void {
    if (!link.open) {
      const commit = this.#commits.get(link);
      // Their writes may be on a server that is no primary any more.
      if (commit !== undefined) {
        link.sendFirst(commit.abandon());
        commit.link.reconnect();
      }
      if (this.isCluster) this.#learnTopology();
    }
    this.#updateStatus();
  }

  #submit(call: RedisCall): void {
    const lane = this.#lane(call.slot);
    if (lane.blocked && !(call.urgent && this.#linkOf(call.slot) === lane.link)) {
      lane.waiting.push(call);
      return;
    }
    const link = this.#linkOf(call.slot);
    if (link === undefined || (lane.underWay > 0 && lane.link !== link)) {
      this.#block(lane);
      lane.waiting.push(call);
      return;
    }
    lane.link = link;
    lane.underWay += 1;
    link.send(call);
  }

  #sendAgain(call: RedisCall, lane: Lane): void {
    if (call.urgent) {
      // Those before it may be waiting for what it brings about.
      call.carrier = undefined;
      this.#leave(lane);
      setTimeout(() => {
        if (!call.settled) this.#submit(call);
      }, BACKOFF_MS);
      return;
    }
    this.#block(lane);
    call.carrier = undefined;
    lane.again.push(call);
    this.#leave(lane);
  }

  #block(lane: Lane): void {
    lane.blocked = true;
    this.#blocked.add(lane);
  }

  /** One call of the lane is not under way any more. */
  #leave(lane: Lane): void {
    lane.underWay -= 1;
    if (lane.blocked && lane.underWay === 0) this.#unblock(lane, performance.now());
  }

  /** Sends what waits, if nothing is under way and it is time. */
  #unblock(lane: Lane, nowMs: number): void {
    if (lane.underWay > 0 || nowMs < lane.notBeforeMs) return;
    const [first] = [...lane.again, ...lane.waiting];
    if (first !== undefined && this.#linkOf(first.slot) === undefined) return;
    const calls = [...lane.again, ...lane.waiting];
    lane.again = [];
    lane.waiting = [];
    lane.blocked = false;
    this.#blocked.delete(lane);
    for (const call of calls) if (!call.settled) this.#submit(call);
  }

  #answer(call: RedisCall, reply: RedisReply, nowMs: number): void {
    this.metrics.observe(call.operation, nowMs - call.sentAtMs);
    this.#leave(this.#lane(call.slot));
    this.#settle(call);
    call.onReply(reply);
  }

  #settle(call: RedisCall): void {
    call.settled = true;
    if (call.deadlineAtMs < Infinity) this.#timed.delete(call);
  }

  #fail(call: RedisCall, code: StoreError['code'], message: string): void {
    if (call.settled) return;
    this.#settle(call);
    this.metrics.failed(call.operation);
    call.onFailure(new StoreError(code, message));
  }

  /** Fails the call when its deadline has passed. */
  #expire(call: RedisCall, nowMs: number): void {
    if (nowMs < call.deadlineAtMs) return;
    const lane = this.#lane(call.slot);
    const reason = call.refusal === '' ? 'did not answer in time' : `refuses: ${call.refusal}`;
    this.#fail(call, 'SHOAL_STORE_UNAVAILABLE', `Redis ${reason}`);
    if (call.carrier !== undefined) this.#leave(lane);
  }

  #tick(): void {
    const nowMs = performance.now();
    for (const call of this.#timed) this.#expire(call, nowMs);
    for (const [link, commit] of this.#commits) if (link.open) commit.tick(nowMs);
    for (const link of this.#links.values()) link.checkSilence(nowMs, this.#replyTimeoutMs);
    for (const lane of this.#blocked) this.#unblock(lane, nowMs);
    const uncertain = this.#blocked.size > 0 || this.#status.state === 'down';
    if (this.isCluster && uncertain && nowMs - this.#topologyAtMs > TOPOLOGY_MS) {
      this.#learnTopology();
    }
  }

  #lane(slot: number): Lane {
    let lane = this.#lanes.get(slot);
    if (lane === undefined) {
      lane = {
        link: undefined,
        underWay: 0,
        blocked: false,
        again: [],
        waiting: [],
        notBeforeMs: 0,
      };
      this.#lanes.set(slot, lane);
    }
    return lane;
  }

  #linkOf(slot: number): RedisLink | undefined {
    if (!this.isCluster) return this.#links.get('');
    const address = this.#slots[slot];
    return address === undefined ? undefined : this.#link(address);
  }

  #link(address: string): RedisLink {
    const known = this.#links.get(address);
    if (known !== undefined) return known;
    const link = new RedisLink(address, this.#client(address), this, scriptSources());
    this.#links.set(address, link);
    const replicas = this.options.replicas ?? 0;
    if (replicas > 0) {
      const commit = new ReplicationCommit(this.#client(address), {
        replicas,
        markerKey: () => this.#markerKey(address),
        confirmed: (call, reply) => this.#answer(call, reply, performance.now()),
        lost: () => link.reconnect(),
        main: link,
        replyTimeoutMs: this.#replyTimeoutMs,
      });
      this.#commits.set(link, commit);
    }
    return link;
  }

  /** A key that lives on the server with this address. */
  #markerKey(address: string): string {
    for (let tag = 0; ; tag++) {
      const key = `${this.keyPrefix}{${String(tag)}}:commit`;
      if (!this.isCluster || tag === SLOTS || this.#slots[slotOf(key)] === address) return key;
    }
  }

  #client(address: string): Redis {
    const { options } = this;
    const reconnectMs = options.reconnectMs ?? REDIS_DEFAULTS.reconnectMs;
    const common = {
      lazyConnect: true,
      enableOfflineQueue: false,
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: null,
      protocol: 2 as const,
      disableClientInfo: true,
      connectTimeout: this.#replyTimeoutMs,
      retryStrategy: (times: number) => Math.min(10 * 2 ** Math.min(times, 10), reconnectMs),
      ...(options.tls !== undefined && { tls: options.tls }),
      ...(options.username !== undefined && { username: options.username }),
      ...(options.password !== undefined && { password: options.password }),
    };
    if (options.mode === 'sentinel') {
      return new Redis({
        ...common,
        db: options.db ?? 0,
        sentinels: options.nodes.map(({ host, port }) => ({ host, port })),
        name: options.sentinelName ?? 'mymaster',
        sentinelRetryStrategy: () => reconnectMs,
        failoverDetector: true,
        enableTLSForSentinelMode: options.tls !== undefined,
        ...(options.sentinelUsername !== undefined && {
          sentinelUsername: options.sentinelUsername,
        }),
        ...(options.sentinelPassword !== undefined && {
          sentinelPassword: options.sentinelPassword,
        }),
      });
    }
    const { host, port } =
      address === '' ? (options.nodes[0] as RedisAddress) : parseAddress(address);
    return new Redis({ ...common, host, port, ...(this.isCluster ? {} : { db: options.db ?? 0 }) });
  }

  /** MOVED: the slot has another primary. ASK: this key has, the slot is about to. */
  #onRedirect(call: RedisCall, lane: Lane, code: string, error: Error): void {
    const address = error.message.split(' ')[2] ?? '';
    if (code === 'MOVED' && !address.startsWith(':')) {
      const slots = [...this.#slots];
      slots[call.slot] = address;
      this.#slots = slots;
    } else {
      // A slot under way between two servers takes a moment; asking the other one first would need ASKING.
      lane.notBeforeMs = performance.now() + BACKOFF_MS;
    }
    this.#learnTopology();
  }

  /** Asks any server that answers which primary has which slots. One question at a time. */
  #learnTopology(): void {
    if (this.#askingTopology || this.#closed) return;
    const nowMs = performance.now();
    if (nowMs - this.#topologyAtMs < BACKOFF_MS) return;
    this.#topologyAtMs = nowMs;
    this.#askingTopology = true;
    void this.#askTopology().finally(() => {
      this.#askingTopology = false;
    });
  }

  async #askTopology(): Promise<void> {
    const known = [...this.#links.values()]
      .filter(({ open }) => open)
      .map(({ address }) => address);
    const addresses = new Set([...known, ...this.options.nodes.map(addressOf)]);
    for (const address of addresses) {
      const slots = await this.#slotsFrom(address);
      if (this.#closed) return;
      if (slots === undefined || slots.every((primary) => primary === undefined)) continue;
      this.#useTopology(slots);
      return;
    }
  }

  /** CLUSTER SLOTS over a connection of its own, so that a server that hangs holds up nothing. */
  async #slotsFrom(address: string): Promise<(string | undefined)[] | undefined> {
    const redis = this.#client(address);
    redis.on('error', () => undefined);
    let timer: NodeJS.Timeout | undefined;
    try {
      const timeout = new Promise<undefined>((resolve) => {
        timer = setTimeout(() => resolve(undefined), this.#replyTimeoutMs);
      });
      const asked = redis.connect().then(() => redis.callBuffer('CLUSTER', 'SLOTS'));
      const reply = await Promise.race([asked, timeout]);
      return reply === undefined ? undefined : parseSlots(reply as RedisReply, address);
    } catch {
      return undefined;
    } finally {
      clearTimeout(timer);
      redis.disconnect();
    }
  }

  #useTopology(slots: readonly (string | undefined)[]): void {
    this.#slots = slots;
    const primaries = new Set(slots);
    for (const [address, link] of this.#links) {
      if (primaries.has(address) || link.open) continue;
      // The server is gone, and others have its slots.
      this.#links.delete(address);
      const commit = this.#commits.get(link);
      this.#commits.delete(link);
      commit?.close();
      link.close();
      for (const call of [...(commit?.abandon() ?? []), ...link.surrender()]) {
        if (!call.settled) this.#sendAgain(call, this.#lane(call.slot));
      }
    }
    for (const address of primaries) if (address !== undefined) this.#link(address);
    for (const lane of this.#blocked) this.#unblock(lane, performance.now());
    this.#updateStatus();
  }

  #updateStatus(): void {
    const links = [...this.#links.values()];
    const state = links.length > 0 && links.every(({ open }) => open) ? 'up' : 'down';
    if (state === this.#status.state) return;
    this.#status = { state, sinceMs: Date.now() };
    for (const listener of this.#listeners) {
      try {
        listener(this.#status);
      } catch (error) {
        // Whoever listens has a bug, and the store's other calls are not to suffer for it.
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
}
