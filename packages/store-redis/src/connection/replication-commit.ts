import type { Redis } from 'ioredis';
import { StoreError } from '../errors.ts';
import type { RedisCall, RedisReply } from './redis-call.ts';
import { encodeCommand, PromisedCall } from './redis-call.ts';
import type { LinkOwner } from './redis-link.ts';
import { RedisLink } from './redis-link.ts';

/** Milliseconds that one WAIT blocks its connection before it is tried again. */
const WAIT_MS = 1_000;
const RETRY_MS = 50;

/** What a commit needs to know. */
export interface CommitOptions {
  readonly replicas: number;
  /** A key on the same server. */
  readonly markerKey: () => string;
  /** The replicas have the write that this call made. */
  readonly confirmed: (call: RedisCall, reply: RedisReply) => void;
  /** The connection was lost: what waits may be on a server that is no primary any more. */
  readonly lost: () => void;
  /** The connection whose writes are committed. */
  readonly main: RedisLink;
  /** Milliseconds without a reply after which the connection is given up. */
  readonly replyTimeoutMs: number;
}

interface Executed {
  readonly call: RedisCall;
  readonly reply: RedisReply;
}

/**
 * Group commit for one server: replies wait here until the replicas have the writes. WAIT covers what its own
 * connection wrote; a marker that is written after the replies came has a later place in the replication stream than
 * all of them, so one WAIT behind the marker covers them. It blocks its connection, so it has one of its own.
 */
export class ReplicationCommit implements LinkOwner {
  readonly #options: CommitOptions;
  readonly #link: RedisLink;
  /** What the WAIT that is under way covers. */
  #covered: readonly Executed[] = [];
  #waiting: Executed[] = [];
  #running = false;
  #closed = false;
  /** Both connections were found to lead to the same server, and neither was lost since. */
  #sameServer = false;
  /** How often one of the connections was lost. */
  #losses = 0;

  constructor(redis: Redis, options: CommitOptions) {
    this.#options = options;
    this.#link = new RedisLink('', redis, this, []);
  }

  get link(): RedisLink {
    return this.#link;
  }

  /** Calls whose replies wait. */
  get outstanding(): number {
    return this.#waiting.length + this.#covered.length;
  }

  /** Answers the call when the replicas have what it wrote. In the order of these calls. */
  add(call: RedisCall, reply: RedisReply): void {
    this.#waiting.push({ call, reply });
    if (!this.#running) void this.#run();
  }

  /** Takes out the calls that wait, in order: they must be executed again. */
  abandon(): RedisCall[] {
    this.#lose();
    const calls = [...this.#covered, ...this.#waiting].map(({ call }) => call);
    this.#covered = [];
    this.#waiting = [];
    return calls;
  }

  replied(call: RedisCall, reply: RedisReply): void {
    call.settled = true;
    call.onReply(reply);
  }

  refused(call: RedisCall, error: Error): void {
    call.settled = true;
    call.onFailure(new StoreError('SHOAL_STORE_REFUSED', error.message, error));
  }

  changed(link: RedisLink): void {
    if (link.open) return;
    this.#lose();
    this.#fail();
    this.#options.lost();
  }

  /** Gives up a WAIT that hangs. */
  tick(nowMs: number): void {
    this.#link.checkSilence(nowMs, this.#options.replyTimeoutMs + WAIT_MS);
  }

  close(): void {
    this.#closed = true;
    this.#link.close();
    this.#fail();
  }

  /** One WAIT after the other until nothing waits: what comes during one goes into the next. */
  async #run(): Promise<void> {
    this.#running = true;
    const { replicas, confirmed } = this.#options;
    while (this.#waiting.length > 0 && !this.#closed) {
      this.#covered = this.#waiting.filter(({ call }) => !call.settled);
      this.#waiting = [];
      const done = await this.#wait();
      const covered = this.#covered;
      this.#covered = [];
      if (done >= replicas) {
        for (const { call, reply } of covered) if (!call.settled) confirmed(call, reply);
        continue;
      }
      this.#waiting = [...covered.filter(({ call }) => !call.settled), ...this.#waiting];
      if (done < 0) await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
    }
    this.#running = false;
  }

  /** How many replicas have everything up to now; -1 when that could not be found out. */
  async #wait(): Promise<number> {
    try {
      // During a failover the two could lead to different servers, and the new one knows nothing of the write.
      if (!this.#sameServer) {
        const { main, replyTimeoutMs } = this.#options;
        const losses = this.#losses;
        const ids = await Promise.all([
          main.runId(replyTimeoutMs),
          this.#link.runId(replyTimeoutMs),
        ]);
        if (ids[0] !== ids[1]) {
          main.reconnect();
          this.#link.reconnect();
          return -1;
        }
        if (losses !== this.#losses) return -1;
        this.#sameServer = true;
      }
      const marker = this.#call(['SET', this.#options.markerKey(), '']);
      const count = this.#call(['WAIT', this.#options.replicas, WAIT_MS]);
      await Promise.all([marker, count]);
      return Number(await count);
    } catch {
      return -1;
    }
  }

  #lose(): void {
    this.#sameServer = false;
    this.#losses += 1;
  }

  #call(args: readonly (string | number)[]): Promise<RedisReply> {
    const bytes = encodeCommand(args);
    const name = String(args[0]).toLowerCase();
    const call = new PromisedCall(name, () => bytes, { slot: 0, durable: false });
    this.#link.send(call);
    return call.reply;
  }

  #fail(): void {
    for (const call of this.#link.surrender()) {
      if (call.settled) continue;
      call.settled = true;
      call.onFailure(new StoreError('SHOAL_STORE_UNAVAILABLE', 'the connection was lost'));
    }
  }
}
