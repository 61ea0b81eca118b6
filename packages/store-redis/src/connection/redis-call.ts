import type { StoreError } from '../errors.ts';

/** A reply as the parser gives it: strings of any kind are buffers. Errors go another way. */
export type RedisReply = Buffer | number | string | null | readonly RedisReply[];

/** An argument of a command. */
export type RedisArgument = Buffer | string | number;

/**
 * One command on its way: what `RedisConnection.send` takes. Exactly one of `onReply` and `onFailure` is called, once,
 * and must not throw. One object per call and no promise: appends are on the hot path.
 *
 * The members up to `promise` are what ioredis expects of its own `Command`, so that a call can be put through
 * `Redis.sendCommand` with bytes that are already encoded.
 */
export abstract class RedisCall {
  abstract readonly name: string;
  readonly args: readonly never[] = [];
  readonly isTraced = true;
  readonly promise = undefined;
  /** Slot of its keys in a Redis Cluster. */
  readonly slot: number;
  /** A write: at durability `replicated` it is answered when the replicas have it. */
  readonly durable: boolean;
  /** Is sent to a server although it may have been rolled back: it is part of finding out, or of making up for it. */
  urgent = false;
  /** How often it was sent before. More than 0: it may have been executed. */
  attempts = 0;
  /** `performance.now()` after which it fails; set by the connection. */
  deadlineAtMs = Infinity;
  /** `performance.now()` when it was handed to the connection last; set by the link. */
  sentAtMs = 0;
  /** Why the server would not do it when it was sent last; '' when it did not answer. */
  refusal = '';
  /** `onReply` or `onFailure` was called. */
  settled = false;
  /** Redis did not know the script: its source must be sent this time. */
  scriptUnknown = false;
  /** Who is told of the outcome on the wire; set by the link that sends it. */
  carrier: CallCarrier | undefined = undefined;

  constructor(slot: number, durable: boolean) {
    this.slot = slot;
    this.durable = durable;
  }

  /** What metrics call it: out of a closed set. */
  abstract readonly operation: string;

  /** The command in the Redis protocol, asked for each time it is sent. */
  abstract encode(): Buffer | string;
  abstract onReply(reply: RedisReply): void;
  abstract onFailure(error: StoreError): void;

  /** For ioredis. */
  toWritable(): Buffer | string {
    return this.encode();
  }

  /** For ioredis. */
  setReplyContext(): void {
    // Replies are taken as they come.
  }

  /** For ioredis: the reply came. */
  resolve(reply: RedisReply): void {
    this.carrier?.replied(this, reply);
  }

  /** For ioredis: an error reply came, or it could not be written. */
  reject(error: Error): void {
    this.carrier?.refused(this, error);
  }
}

/** Where a call is under way. */
export interface CallCarrier {
  replied(call: RedisCall, reply: RedisReply): void;
  refused(call: RedisCall, error: Error): void;
}

/** A command given by its arguments, with a promise for its outcome. */
export class PromisedCall extends RedisCall {
  readonly name: string;
  override readonly operation: string;
  readonly reply: Promise<RedisReply>;
  readonly #encode: (call: RedisCall) => Buffer | string;
  #resolve!: (reply: RedisReply) => void;
  #reject!: (error: StoreError) => void;

  constructor(
    name: string,
    encode: (call: RedisCall) => Buffer | string,
    {
      slot,
      durable,
      operation = name,
    }: { readonly slot: number; readonly durable: boolean; readonly operation?: string },
  ) {
    super(slot, durable);
    this.name = name;
    this.operation = operation;
    this.#encode = encode;
    this.reply = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
  }

  override encode(): Buffer | string {
    return this.#encode(this);
  }

  override onReply(reply: RedisReply): void {
    this.#resolve(reply);
  }

  override onFailure(error: StoreError): void {
    this.#reject(error);
  }
}

/** Writes a command in the Redis protocol: one string when no argument is a buffer, otherwise one buffer. */
export function encodeCommand(args: readonly RedisArgument[]): Buffer | string {
  let text = `*${String(args.length)}\r\n`;
  let parts: Buffer[] | undefined;
  for (const arg of args) {
    if (typeof arg === 'object') {
      parts ??= [];
      parts.push(Buffer.from(`${text}$${String(arg.length)}\r\n`), arg);
      text = '\r\n';
    } else {
      const value = typeof arg === 'number' ? String(arg) : arg;
      text += `$${String(Buffer.byteLength(value))}\r\n${value}\r\n`;
    }
  }
  if (parts === undefined) return text;
  parts.push(Buffer.from(text));
  return Buffer.concat(parts);
}
