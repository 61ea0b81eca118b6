import type { AppendResult, QueuedMessage } from '@shoalmq/core';
import { DoubtedAppends, LASTING_CONTENTS } from './contents.ts';
import type { Contents, DoubtedAppend } from './contents.ts';
import { RedisCall } from './connection/redis-call.ts';
import type { RedisReply } from './connection/redis-call.ts';
import type { QueueLimits } from './queue-room.ts';
import type { SessionHandle } from './session-handle.ts';
import { appendScript } from './session-scripts.ts';
import { countedBytes, encodeStoredMessage } from './stored-message.ts';

const GONE: AppendResult = { outcome: 'gone' };
const DUPLICATE: AppendResult = { outcome: 'duplicate' };
const FULL: AppendResult = { outcome: 'full' };
const FAILED: AppendResult = { outcome: 'failed' };

type Done = (result: AppendResult) => void;

/** An append to the queue of a session. */
export abstract class AppendCall extends RedisCall implements DoubtedAppend {
  readonly handle: SessionHandle;
  madeAt = '';
  protected readonly done: Done;
  readonly #appends: Appends;

  constructor(handle: SessionHandle, done: Done, appends: Appends) {
    super(handle.slot, true);
    this.handle = handle;
    this.done = done;
    this.#appends = appends;
  }

  repeat(): void {
    this.settled = false;
    this.#appends.append(this);
  }

  giveUp(): void {
    this.done(GONE);
  }

  protected onGone(): void {
    this.#appends.onGone(this);
  }
}

/** Where appends are sent, in the order of the calls for each session. */
export class Appends {
  readonly #send: (call: RedisCall) => void;
  readonly #contents: Contents;

  constructor(send: (call: RedisCall) => void, contents: Contents) {
    this.#send = send;
    this.#contents = contents;
  }

  append(call: AppendCall): void {
    call.madeAt = this.#contents.generation;
    const { doubted } = call.handle;
    if (doubted === undefined) this.#send(call);
    else doubted.push(call);
  }

  /** The session was not there. */
  onGone(call: AppendCall): void {
    if (this.#contents === LASTING_CONTENTS) {
      call.giveUp();
      return;
    }
    const { handle } = call;
    handle.doubted ??= new DoubtedAppends(this.#contents, () => {
      handle.doubted = undefined;
    });
    handle.doubted.push(call);
  }
}

/**
 * Appends with a native XADD: no uid, and no look at the bounds of the queue. NOMKSTREAM and the incarnation in the key
 * make it nothing when the session is gone. A repetition after a lost reply appends again, which QoS 1 allows.
 */
export class NativeAppend extends AppendCall {
  override readonly name = 'xadd';
  override readonly operation = 'append-native';
  readonly #bytes: Buffer;

  constructor(handle: SessionHandle, message: QueuedMessage, done: Done, appends: Appends) {
    super(handle, done, appends);
    this.#bytes = encodeAppend(handle.appendHead, message);
  }

  override encode(): Buffer {
    return this.#bytes;
  }

  override onReply(reply: RedisReply): void {
    if (reply === null) this.onGone();
    else this.done({ outcome: 'kept', sequence: sequenceOf(reply as Buffer), dropped: 0 });
  }

  override onFailure(): void {
    this.done(FAILED);
  }
}

/** Appends with a script: within the bounds of the queue unless it is `unseen`, and once for each uid. */
export class CheckedAppend extends AppendCall {
  override readonly name = 'evalsha';
  override readonly operation = 'append-message';
  readonly #message: Buffer;
  readonly #size: number;
  readonly #uid: string;
  readonly #unseen: boolean;
  readonly #limits: QueueLimits;
  readonly #generation: number;

  constructor(
    handle: SessionHandle,
    queued: QueuedMessage,
    options: {
      readonly uid: string;
      /** `QueueRoom.takeUnseen` allowed it. */
      readonly unseen: boolean;
      readonly limits: QueueLimits;
      readonly generation: number;
      readonly done: Done;
      readonly appends: Appends;
    },
  ) {
    super(handle, options.done, options.appends);
    this.#message = encodeStoredMessage(queued.message, queued, options.uid);
    this.#size = countedBytes(queued.message);
    this.#uid = options.uid;
    this.#unseen = options.unseen;
    this.#limits = options.limits;
    this.#generation = options.generation;
  }

  override encode(): Buffer | string {
    const { keys, incarnation } = this.handle;
    const { queueMessagesMax, queueBytesMax, queuePolicy } = this.#limits;
    return appendScript.encode(
      this,
      [keys.session, keys.queue(incarnation), keys.seen(incarnation)],
      [
        this.#generation,
        this.#message,
        this.#size,
        this.#uid,
        this.#unseen ? '' : queueMessagesMax,
        queueBytesMax,
        queuePolicy === 'drop-oldest' ? 1 : 0,
        this.attempts > 0 ? 1 : 0,
      ],
    );
  }

  override onReply(reply: RedisReply): void {
    const [outcome, messages, bytes, sequence, dropped] = reply as readonly (Buffer | number)[];
    if (!this.#unseen) {
      const found = { messages: Number(messages), bytes: Number(bytes) };
      this.handle.room.endLook(messages === undefined ? undefined : found);
    }
    switch (String(outcome)) {
      case 'kept':
        this.done({ outcome: 'kept', sequence: Number(sequence), dropped: Number(dropped) });
        break;
      case 'full':
        this.done(FULL);
        break;
      case 'duplicate':
        this.done(DUPLICATE);
        break;
      default:
        this.onGone();
    }
  }

  override onFailure(): void {
    if (!this.#unseen) this.handle.room.endLook(undefined);
    this.done(FAILED);
  }
}

/** The sequence in the id of a queue entry, `<generation>-<sequence>`. */
export function sequenceOf(id: Buffer): number {
  let at = id.length;
  while (at > 0 && id[at - 1] !== 0x2d) at -= 1;
  let sequence = 0;
  for (; at < id.length; at++) sequence = sequence * 10 + (id[at] as number) - 0x30;
  return sequence;
}

/** Room for `$<length>` and a line end. */
const LENGTH_BYTES_MAX = 12;

/** The whole XADD in one buffer: its head, `$<length>`, the message, line end. */
function encodeAppend(head: Buffer, queued: QueuedMessage): Buffer {
  const start = head.length + LENGTH_BYTES_MAX;
  const buffer = encodeStoredMessage(queued.message, queued, '', start, 2);
  const end = buffer.length - 2;
  buffer[end] = 0x0d;
  buffer[end + 1] = 0x0a;
  // From the message to the left, because its length is known last.
  let at = start;
  buffer[--at] = 0x0a;
  buffer[--at] = 0x0d;
  let rest = end - start;
  do {
    buffer[--at] = 0x30 + (rest % 10);
    rest = Math.floor(rest / 10);
  } while (rest > 0);
  buffer[--at] = 0x24;
  at -= head.length;
  buffer.set(head, at);
  return buffer.subarray(at);
}
