import type { Redis } from 'ioredis';
import { CallQueue } from './call-queue.ts';
import type { CallCarrier, RedisCall, RedisReply } from './redis-call.ts';
import { encodeCommand } from './redis-call.ts';

/** Milliseconds until a client that gave up is told to connect again. */
const REVIVE_MS = 100;
/** Milliseconds in which a server must have said who it is. */
const INTRODUCTION_MS = 3_000;

/** Who owns a link. Called in the order in which things happened. */
export interface LinkOwner {
  /** The reply to a call. */
  replied(call: RedisCall, reply: RedisReply): void;
  /** The error reply to a call. */
  refused(call: RedisCall, error: Error): void;
  /** The link began or ceased to take calls. */
  changed(link: RedisLink): void;
  /**
   * Whether a server with this replication history holds what it should. False: `RedisLink.trust` is called when it does.
   * Without this member nobody is asked.
   */
  trusts?(link: RedisLink, history: string): boolean;
}

/**
 * The connection to one server, kept up by ioredis. Calls of one event-loop turn leave in one write. When the
 * connection is lost, calls without a reply are sent again on the next one, before later calls: so the order of calls
 * is that of their effects, and a call may run twice. (ioredis would do that too, but then its promises never settle;
 * and it would not stop at a deadline.)
 */
export class RedisLink implements CallCarrier {
  /** `host:port`, as the cluster names it; '' for the only link. */
  readonly address: string;
  /** Calls are being sent. */
  open = false;
  readonly redis: Redis;
  readonly #owner: LinkOwner;
  readonly #preload: readonly string[];
  readonly #waiting = new CallQueue();
  readonly #sent = new CallQueue();
  /** `performance.now()` when a reply came last, or when the first call was sent after all were answered. */
  heardAtMs = 0;
  /** `performance.now()` since when the link is trying to open. */
  #openingSinceMs = performance.now();
  /** What the server last said that its replication history is called; '' when that was not asked. */
  #history = '';
  /** Only urgent calls are sent. */
  #doubted = false;
  #flushing = false;
  #closed = false;

  /**
   * @param redis not connected yet (`lazyConnect`), without an offline queue and without resending
   * @param preload sources of scripts that the server is told before anything else
   */
  constructor(address: string, redis: Redis, owner: LinkOwner, preload: readonly string[]) {
    this.address = address;
    this.redis = redis;
    this.#owner = owner;
    this.#preload = preload;
    redis.on('error', () => undefined); // what it means is in `close`
    redis.on('ready', () => this.#onReady());
    redis.on('close', () => this.#onClose());
    redis.on('end', () => this.#onEnd());
    redis.connect().catch(() => undefined); // `retryStrategy` goes on trying
  }

  /** Calls that were neither answered nor given up. */
  get outstanding(): number {
    return this.#waiting.length + this.#sent.length;
  }

  /** Sends the call, now or when the link is open. */
  send(call: RedisCall): void {
    call.carrier = this;
    this.#waiting.push(call);
    if (this.#flushing || !this.open || (this.#doubted && !call.urgent)) return;
    this.#flushing = true;
    setImmediate(this.#flush);
  }

  replied(call: RedisCall, reply: RedisReply): void {
    this.heardAtMs = performance.now();
    this.#sent.shift();
    this.#owner.replied(call, reply);
  }

  refused(call: RedisCall, error: Error): void {
    // Anything but an error reply means that the connection is about to close: then all calls are sent again.
    if (error.name !== 'ReplyError') return;
    this.heardAtMs = performance.now();
    this.#sent.shift();
    this.#owner.refused(call, error);
  }

  /** Gives up a connection on which nothing was heard for `replyTimeoutMs` although something should have been. */
  checkSilence(nowMs: number, replyTimeoutMs: number): void {
    const since = this.open ? this.heardAtMs : this.#openingSinceMs;
    if (this.open && this.#sent.length === 0) return;
    if (nowMs - since < replyTimeoutMs) return;
    this.#openingSinceMs = nowMs;
    this.reconnect();
  }

  /**
   * What names the process of the server that this link leads to.
   *
   * @throws when it does not say so in time, or the link is not open
   */
  async runId(timeoutMs: number): Promise<string> {
    if (!this.open) throw new Error('the link is not open');
    let timer: NodeJS.Timeout | undefined;
    // The promise of a client whose connection was lost may never settle.
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error('the server did not say who it is')), timeoutMs);
    });
    try {
      const info = await Promise.race([this.redis.info('server'), late]);
      const id = /run_id:(\w+)/.exec(info)?.[1];
      if (id === undefined) throw new Error('the server does not say who it is');
      return id;
    } finally {
      clearTimeout(timer);
    }
  }

  get history(): string {
    return this.#history;
  }

  /** The server holds what it should: all calls are sent. */
  trust(): void {
    this.#doubted = false;
    this.#flush();
  }

  /** Drops the connection, if there is one, and makes another. */
  reconnect(): void {
    if (this.#closed) return;
    // Not `disconnect(true)`: that waits for the other side, which may be the one that hangs.
    const stream = this.redis.stream as typeof this.redis.stream | undefined;
    stream?.destroy();
  }

  /** Puts calls before all others. For a link that is not open. */
  sendFirst(calls: readonly RedisCall[]): void {
    const later = this.#waiting.drain();
    for (const call of [...calls, ...later]) {
      call.carrier = this;
      this.#waiting.push(call);
    }
  }

  /** Takes out all calls, in order: they belong elsewhere now. */
  surrender(): RedisCall[] {
    const calls = [...this.#sent.drain(), ...this.#waiting.drain()];
    for (const call of calls) call.carrier = undefined;
    return calls;
  }

  /** Ends the link; calls on it are the owner's to fail. */
  close(): void {
    this.#closed = true;
    this.open = false;
    this.redis.disconnect();
  }

  readonly #flush = (): void => {
    this.#flushing = false;
    const { redis } = this;
    if (!this.open || redis.status !== 'ready') return;
    if (this.#sent.length === 0) this.heardAtMs = performance.now();
    const { stream } = redis;
    const nowMs = performance.now();
    const held: RedisCall[] = [];
    stream.cork();
    for (let call = this.#waiting.shift(); call !== undefined; call = this.#waiting.shift()) {
      if (call.settled) continue;
      if (this.#doubted && !call.urgent) {
        held.push(call);
        continue;
      }
      this.#sent.push(call);
      call.sentAtMs = nowMs;
      redis.sendCommand(call as never);
      call.attempts += 1;
    }
    stream.uncork();
    for (const call of held) this.#waiting.push(call);
  };

  #onReady(): void {
    if (this.#closed) return;
    for (const source of this.#preload) {
      this.redis.sendCommand(new Preload(source) as never);
    }
    void this.#introduce();
  }

  /** Begins to send, once the server has said who it is. */
  async #introduce(): Promise<void> {
    const { stream } = this.redis;
    this.#history = '';
    this.#doubted = false;
    if (this.#owner.trusts !== undefined) {
      const history = await this.#askHistory().catch(() => '');
      if (this.#closed || this.redis.stream !== stream || this.redis.status !== 'ready') return;
      if (history === '') {
        this.reconnect();
        return;
      }
      this.#history = history;
      this.#doubted = !this.#owner.trusts(this, history);
    }
    this.open = true;
    this.#owner.changed(this);
    this.#flush();
  }

  async #askHistory(): Promise<string> {
    let timer: NodeJS.Timeout | undefined;
    // The promise of a client whose connection was lost may never settle.
    const late = new Promise<string>((resolve) => {
      timer = setTimeout(resolve, INTRODUCTION_MS, '');
    });
    try {
      const info = await Promise.race([this.redis.info('replication'), late]);
      return /^master_replid:(\w+)/m.exec(info)?.[1] ?? '';
    } finally {
      clearTimeout(timer);
    }
  }

  #onClose(): void {
    if (this.open) this.#openingSinceMs = performance.now();
    this.open = false;
    const later = this.#waiting.drain();
    for (const call of this.#sent.drain()) if (!call.settled) this.#waiting.push(call);
    for (const call of later) this.#waiting.push(call);
    if (!this.#closed) this.#owner.changed(this);
  }

  /** ioredis gave up, as it does when a Sentinel reports a failover while it connects. */
  #onEnd(): void {
    if (this.#closed) return;
    if (this.open) this.#onClose();
    setTimeout(() => {
      if (!this.#closed) this.redis.connect().catch(() => undefined);
    }, REVIVE_MS);
  }
}

/** SCRIPT LOAD, whose reply interests nobody: a script that is not there is found out when it is called. */
class Preload {
  readonly name = 'script';
  readonly args: readonly never[] = [];
  readonly isTraced = true;
  readonly promise = undefined;
  readonly #source: string;

  constructor(source: string) {
    this.#source = source;
  }

  toWritable(): Buffer | string {
    return encodeCommand(['SCRIPT', 'LOAD', this.#source]);
  }

  setReplyContext(): void {
    // Nothing depends on it.
  }

  resolve(): void {
    // Nobody asked.
  }

  reject(): void {
    // Nobody asked.
  }
}
