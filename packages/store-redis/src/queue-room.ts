/** Messages and bytes that one queue may have. */
export interface QueueLimits {
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  readonly queuePolicy: 'drop-oldest' | 'reject-new';
}

/** This part of what is free may be used before the queue is looked at again. */
const SHARE = 16;
/** Appends after which the queue is looked at again in any case. */
const CHECK_AFTER = 128;
/** This part of the limits may be used before the queue was looked at for the first time. */
const UNSEEN_SHARE = 1_000;
const UNSEEN_MAX = 16;

/** Spreads the first look at queues, so that those that nobody remembers are looked at now and then too. */
let spread = 0;

/**
 * What this node may append to one queue without looking: the difference between an `XADD` (1.7 us of Redis) and a
 * script that checks the bounds (8 us or more).
 *
 * A look says how much is free; up to a sixteenth of that is then appended unseen. So a queue with few places left is
 * always looked at, and its bounds are exact; with many, one append in 128 looks. Several nodes that append to one queue
 * at the same time may pass its bounds together by a sixteenth of what was free for each, until the next look brings
 * it back: that is the price. A queue that this node knows nothing of may get a thousandth of the limits, and at most
 * 16 messages, before the first look.
 */
export class QueueRoom {
  readonly #limits: QueueLimits;
  #messages: number;
  #bytes: number;
  #usedMessages = 0;
  #usedBytes = 0;
  #sinceLook = 0;
  #looking = false;
  #scarce = true;
  /** What was used before the look that is under way. */
  #beforeMessages = 0;
  #beforeBytes = 0;

  constructor(limits: QueueLimits) {
    this.#limits = limits;
    const unseen = Math.min(UNSEEN_MAX, Math.floor(limits.queueMessagesMax / UNSEEN_SHARE));
    spread = (spread + 1) & 0xffff;
    this.#messages = spread % (unseen + 1);
    this.#bytes = limits.queueBytesMax / UNSEEN_SHARE;
  }

  /** Whether the queue may be near its bounds, or nobody has looked: then what is removed makes a difference. */
  get scarce(): boolean {
    return this.#scarce;
  }

  /** Whether a message of so many bytes may be appended without a look; if so it counts as appended. */
  takeUnseen(bytes: number): boolean {
    if (this.#usedMessages >= this.#messages || this.#usedBytes + bytes > this.#bytes) return false;
    if (this.#sinceLook >= CHECK_AFTER && !this.#looking) return false;
    this.#usedMessages += 1;
    this.#usedBytes += bytes;
    this.#sinceLook += 1;
    return true;
  }

  /** A message is being appended with a look at the queue. */
  beginLook(): void {
    this.#sinceLook = 0;
    this.#looking = true;
    this.#beforeMessages = this.#usedMessages;
    this.#beforeBytes = this.#usedBytes;
  }

  /** What the look found; nothing is known when it failed. */
  endLook(found: { readonly messages: number; readonly bytes: number } | undefined): void {
    this.#looking = false;
    if (found === undefined) return;
    this.#messages = (this.#limits.queueMessagesMax - found.messages) / SHARE;
    this.#bytes = (this.#limits.queueBytesMax - found.bytes) / SHARE;
    this.#scarce =
      this.#messages * SHARE < this.#limits.queueMessagesMax / 2 ||
      this.#bytes * SHARE < this.#limits.queueBytesMax / 2;
    this.#usedMessages -= this.#beforeMessages;
    this.#usedBytes -= this.#beforeBytes;
    this.#beforeMessages = this.#beforeBytes = 0;
  }
}
