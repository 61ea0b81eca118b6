import type { Message, QueueEntry, QueuedMessage } from '@shoalmq/core';

const CHUNK_ENTRIES = 64;

/** What bounds a queue: messages, bytes of payload and properties, and what happens there. */
export interface QueueLimits {
  readonly queueMessagesMax: number;
  readonly queueBytesMax: number;
  readonly queuePolicy: 'drop-oldest' | 'reject-new';
}

/** Messages and bytes of all queues of a store, kept up to date by each of them. */
export interface QueueTotals {
  messages: number;
  bytes: number;
}

/**
 * The queue of one persistent session: entries by sequence, taken out in any order.
 *
 * Entries lie in chunks of 64 consecutive sequences; a chunk goes when its last entry goes. So append and remove
 * cost O(1), and an entry that is never acknowledged keeps one chunk alive, not everything after it.
 */
export class SessionQueue {
  readonly #totals: QueueTotals;
  readonly #chunks = new Map<number, Chunk>();
  #first: Chunk | undefined = undefined;
  #last: Chunk | undefined = undefined;
  #next = 1;
  #droppedBelow = 1;
  #count = 0;
  #bytes = 0;
  /** Uids that are not settled; made when the first QoS 2 message comes. */
  #uids: Set<string> | undefined = undefined;

  constructor(totals: QueueTotals) {
    this.#totals = totals;
  }

  /** The sequence that the next entry gets. */
  get nextSequence(): number {
    return this.#next;
  }

  /** No entry of this sequence or above was dropped by `makeRoom`. */
  get droppedBelow(): number {
    return this.#droppedBelow;
  }

  /** Whether an entry with this uid was appended, and the uid not settled since. */
  knows(uid: string): boolean {
    return this.#uids?.has(uid) ?? false;
  }

  /** The uid will not come again. */
  settle(uid: string): void {
    this.#uids?.delete(uid);
  }

  /**
   * Drops the oldest entries until one more of `bytes` fits, and returns how many went; -1, and nothing changed,
   * when it cannot fit or the policy is not to drop.
   */
  makeRoom(bytes: number, limits: QueueLimits): number {
    const countMax = limits.queueMessagesMax - 1;
    const bytesMax = limits.queueBytesMax - bytes;
    if (this.#count <= countMax && this.#bytes <= bytesMax) return 0;
    if (limits.queuePolicy === 'reject-new' || countMax < 0 || bytesMax < 0) return -1;
    let dropped = 0;
    while (this.#count > countMax || this.#bytes > bytesMax) {
      const oldest = this.#oldest();
      if (oldest === undefined) break;
      this.remove(oldest.sequence);
      this.#droppedBelow = oldest.sequence + 1;
      dropped += 1;
    }
    return dropped;
  }

  /** Appends without looking at limits and uids; returns the sequence. */
  append(queued: QueuedMessage, message: Message, uid: string): number {
    const sequence = this.#next++;
    let chunk = this.#last;
    if (chunk === undefined || sequence >= chunk.base + CHUNK_ENTRIES) chunk = this.#grow(sequence);
    const entry = new StoredEntry(sequence, queued, message);
    chunk.slots.push(entry);
    chunk.live += 1;
    if (uid !== '') (this.#uids ??= new Set()).add(uid);
    this.#account(1, entryBytes(message));
    return sequence;
  }

  /** Takes an entry out; nothing happens when it is not there. */
  remove(sequence: number): void {
    const base = chunkBase(sequence);
    // The first chunk is where acknowledgements come in.
    const chunk = this.#first?.base === base ? this.#first : this.#chunks.get(base);
    if (chunk === undefined) return;
    const index = sequence - base;
    const entry = chunk.slots[index];
    if (entry === undefined) return;
    chunk.slots[index] = undefined;
    chunk.live -= 1;
    this.#account(-1, -entryBytes(entry.message));
    if (index === chunk.oldest) chunk.oldest += 1;
    // The last chunk stays while it has room: append and remove in turn must not build a chunk each.
    if (chunk.live === 0 && this.#next >= base + CHUNK_ENTRIES) this.#unlink(chunk);
  }

  /** See `StateStore.read`. Skips at most the holes of the chunks it reads from. */
  read(fromSequence: number, countMax: number, bytesMax: number): QueueEntry[] {
    const entries: QueueEntry[] = [];
    let bytes = 0;
    for (let chunk = this.#chunkAt(fromSequence); chunk !== undefined; chunk = chunk.next) {
      const { slots } = chunk;
      const start = Math.max(chunk.oldest, fromSequence - chunk.base);
      for (let index = start; index < slots.length; index++) {
        const entry = slots[index];
        if (entry === undefined) continue;
        if (entries.length >= countMax) return entries;
        bytes += entry.message.payloadBytes;
        if (bytes > bytesMax && entries.length > 0) return entries;
        entries.push(entry);
      }
    }
    return entries;
  }

  /** The session ended: its entries no longer count in the totals. The queue must not be used afterwards. */
  discard(): void {
    this.#account(-this.#count, -this.#bytes);
    this.#chunks.clear();
    this.#first = this.#last = this.#uids = undefined;
  }

  #oldest(): QueueEntry | undefined {
    const chunk = this.#first;
    if (chunk === undefined || chunk.live === 0) return undefined;
    while (chunk.slots[chunk.oldest] === undefined) chunk.oldest += 1;
    return chunk.slots[chunk.oldest];
  }

  /** The chunk of the sequence or, when that is gone, the next one. */
  #chunkAt(sequence: number): Chunk | undefined {
    if (sequence >= this.#next) return undefined;
    const base = chunkBase(sequence);
    const chunk = this.#chunks.get(base);
    if (chunk !== undefined) return chunk;
    let next = this.#first;
    while (next !== undefined && next.base < base) next = next.next;
    return next;
  }

  /** Adds the chunk that starts at `base`. */
  #grow(base: number): Chunk {
    const chunk: Chunk = {
      base,
      slots: [],
      live: 0,
      oldest: 0,
      previous: this.#last,
      next: undefined,
    };
    if (this.#last === undefined) this.#first = chunk;
    else this.#last.next = chunk;
    this.#last = chunk;
    this.#chunks.set(base, chunk);
    return chunk;
  }

  #unlink(chunk: Chunk): void {
    if (chunk.previous === undefined) this.#first = chunk.next;
    else chunk.previous.next = chunk.next;
    if (chunk.next === undefined) this.#last = chunk.previous;
    else chunk.next.previous = chunk.previous;
    this.#chunks.delete(chunk.base);
  }

  #account(count: number, bytes: number): void {
    this.#count += count;
    this.#bytes += bytes;
    this.#totals.messages += count;
    this.#totals.bytes += bytes;
  }
}

/** What one message counts for in `queueBytesMax`. Properties too: user properties may be as large as a payload. */
export function entryBytes(message: Message): number {
  return message.payloadBytes + message.properties.length;
}

function chunkBase(sequence: number): number {
  return sequence - ((sequence - 1) % CHUNK_ENTRIES);
}

/** The entries with sequences `[base, base + slots.length)`; holes where entries were removed. */
interface Chunk {
  /** The sequence of the first slot: 1, 65, 129 and so on. */
  readonly base: number;
  readonly slots: (StoredEntry | undefined)[];
  live: number;
  /** No entry lies below this index. */
  oldest: number;
  previous: Chunk | undefined;
  next: Chunk | undefined;
}

class StoredEntry implements QueueEntry {
  readonly sequence: number;
  readonly message: Message;
  readonly qos: 1 | 2;
  readonly retain: boolean;
  readonly subscriptionIds: readonly number[];
  readonly group: string | undefined;

  constructor(sequence: number, queued: QueuedMessage, message: Message) {
    this.sequence = sequence;
    this.message = message;
    this.qos = queued.qos;
    this.retain = queued.retain;
    this.subscriptionIds = queued.subscriptionIds;
    this.group = queued.group;
  }
}
