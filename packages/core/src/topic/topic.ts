/**
 * Topic names, interned. A publisher repeats the same few names, so the decoder looks a name up by its bytes:
 * a hit costs a hash over the bytes and one comparison, and skips UTF-8 checking, string building and matching.
 */
import type { Matches } from '../route/matches.ts';
import { isLocalTopic } from './name.ts';

/** A valid topic name. Compare by `name`, not by identity: the table may forget a topic that is still in use. */
export class Topic {
  readonly name: string;
  /** UTF-8 of `name`. Never written to. */
  readonly bytes: Uint8Array;
  readonly hash: number;
  /** Belongs to the server: begins with `$`. Clients cannot publish to it [MQTT-4.7.2-1]. */
  readonly system: boolean;
  /** Belongs to this node: is neither stored nor sent to other nodes. */
  readonly local: boolean;
  /** Who gets messages of this topic, as of the last look-up; the route table says when it is stale. */
  matches: Matches | undefined;
  /** Bytes of `matches` that are this topic's alone. */
  weight = 0;
  /** The table that remembers the topic. */
  table: TopicTable | undefined = undefined;
  constructor(name: string, bytes: Uint8Array, hash: number) {
    this.name = name;
    this.bytes = bytes;
    this.hash = hash;
    this.system = name.startsWith('$');
    this.local = this.system && isLocalTopic(name);
    this.matches = undefined;
  }

  /** `matches` takes so many bytes now: they count in the budget of the table. */
  weigh(weight: number): void {
    this.table?.charge(weight - this.weight);
    this.weight = weight;
  }
}

/**
 * FNV-1a over `bytes[start, end)`, as an unsigned 31 bit integer (a small integer in V8). With a secret `seed`
 * nobody can choose names that collide.
 */
export function hashBytes(bytes: Uint8Array, start: number, end: number, seed = 0): number {
  let hash = (0x811c9dc5 ^ seed) | 0;
  for (let i = start; i < end; i++) hash = Math.imul(hash ^ (bytes[i] as number), 0x01000193);
  return (hash ^ (hash >>> 15)) & 0x7fffffff;
}

/**
 * The bounded set of recently used topics. Two generations: when the young one is full it becomes the old one
 * and the old one is forgotten, so that a flood of unique names costs memory for at most `2 * topicsMax` names, and
 * for no more bytes of them than `2 * bytesMax`: a name may have 65,535. Who gets their messages is remembered with
 * them, in no more than `2 * weightMax` bytes.
 */
export class TopicTable {
  readonly #topicsMax: number;
  readonly #bytesMax: number;
  #young: (Topic | undefined)[];
  #old: (Topic | undefined)[];
  #youngCount = 0;
  #youngBytes = 0;
  #youngWeight = 0;
  readonly #weightMax: number;
  readonly #mask: number;

  readonly #seed: number;

  /**
   * `topicsMax` is rounded up to a power of two. `seed`: a random integer, the one the route table has. `bytesMax`:
   * bytes of the names of one generation; what is remembered takes about three times as much. `weightMax`: bytes of
   * the cached matches of one generation.
   */
  constructor(topicsMax = 16_384, seed = 0, bytesMax = 4_194_304, weightMax = 16_777_216) {
    this.#weightMax = weightMax;
    this.#seed = seed;
    this.#bytesMax = bytesMax;
    let size = 16;
    while (size < topicsMax) size *= 2;
    this.#topicsMax = size;
    this.#mask = size * 2 - 1;
    this.#young = new Array<Topic | undefined>(size * 2).fill(undefined);
    this.#old = this.#young.slice();
  }

  /** The topic with exactly these bytes, or `undefined`: then check and decode them, and call `add`. */
  find(bytes: Uint8Array, start: number, end: number): Topic | undefined {
    const hash = hashBytes(bytes, start, end, this.#seed);
    const young = probe(this.#young, this.#mask, hash, bytes, start, end);
    if (young !== undefined) return young;
    const old = probe(this.#old, this.#mask, hash, bytes, start, end);
    if (old !== undefined) this.#insert(old);
    return old;
  }

  /** Interns a name that was found valid. `bytes` must be its UTF-8 and must not be written to afterwards. */
  add(name: string, bytes: Uint8Array): Topic {
    const topic = new Topic(name, bytes, hashBytes(bytes, 0, bytes.length, this.#seed));
    this.#insert(topic);
    return topic;
  }

  /** What is remembered of topics grew by so many bytes. */
  charge(bytes: number): void {
    this.#youngWeight += bytes;
  }

  #insert(topic: Topic): void {
    if (
      this.#youngCount >= this.#topicsMax ||
      this.#youngBytes >= this.#bytesMax ||
      this.#youngWeight >= this.#weightMax
    ) {
      this.#old = this.#young;
      this.#young = new Array<Topic | undefined>(this.#old.length).fill(undefined);
      this.#youngCount = 0;
      this.#youngBytes = 0;
      this.#youngWeight = 0;
    }
    let slot = topic.hash & this.#mask;
    while (this.#young[slot] !== undefined) slot = (slot + 1) & this.#mask;
    this.#young[slot] = topic;
    this.#youngCount += 1;
    this.#youngBytes += topic.bytes.length;
    this.#youngWeight += topic.weight;
    topic.table = this;
  }
}

function probe(
  table: (Topic | undefined)[],
  mask: number,
  hash: number,
  bytes: Uint8Array,
  start: number,
  end: number,
): Topic | undefined {
  for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
    const topic = table[slot];
    if (topic === undefined) return undefined;
    if (topic.hash === hash && equalBytes(topic.bytes, bytes, start, end)) return topic;
  }
}

function equalBytes(known: Uint8Array, bytes: Uint8Array, start: number, end: number): boolean {
  const length = end - start;
  if (known.length !== length) return false;
  for (let i = 0; i < length; i++) if (known[i] !== bytes[start + i]) return false;
  return true;
}
