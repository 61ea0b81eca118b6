import { IntColumn } from './column.ts';
import { StringMap } from './string-map.ts';

/** "No node", "no such level": ids start at 1. */
export const NONE = 0;

const FIRST_BUCKETS = 16;

/**
 * The tree of topic levels under the wildcard trie and the retained index: nodes are integers, known by their
 * parent and their level. What a node means is in columns of the owner, indexed by node.
 *
 * Levels are interned to integers and counted. Children are found in one hash table over all nodes; it grows by
 * linear hashing (one bucket is split per added node), so that no insertion rehashes everything. Nodes and levels
 * that are removed are used again. 20 bytes per node, and per level a `Map` entry and 4 bytes.
 */
export class LevelTree {
  readonly #parent = new IntColumn();
  readonly #level = new IntColumn();
  /** The next node of the same bucket; of a free node: the next free one. */
  readonly #next = new IntColumn();
  readonly #heads = new IntColumn();
  /** Buckets are `#base + #split`; those below `#split` have been split at twice the base. */
  #base = FIRST_BUCKETS;
  #split = 0;
  #freeNode = NONE;
  #nodesEnd: number;
  #nodes = 0;
  readonly #seed: number;

  readonly #levelIds = new StringMap<number>();
  /** Nodes that use a level; of a free level: the next free one. */
  readonly #levelUses = new IntColumn();
  #freeLevel = NONE;
  #levelsEnd = 1;

  /**
   * Nodes 1 to `roots` exist from the start and for ever. `seed`: any integer; a secret one keeps clients from
   * choosing levels whose nodes collide.
   */
  constructor(roots: number, seed: number) {
    this.#nodesEnd = roots + 1;
    this.#seed = seed | 0;
    this.#reserveNodes();
    this.#heads.reserve(FIRST_BUCKETS);
  }

  /** All nodes are below this number: how long the owner's columns must be. */
  get nodesEnd(): number {
    return this.#nodesEnd;
  }

  /** Nodes in use, without the roots. */
  get nodes(): number {
    return this.#nodes;
  }

  /** Distinct levels in use. */
  get levels(): number {
    return this.#levelIds.size;
  }

  /** Id of a level that is in use, otherwise `NONE`. */
  levelId(text: string): number {
    return this.#levelIds.get(text) ?? NONE;
  }

  /** Interns a level, and counts one use of it. */
  useLevel(text: string): number {
    const known = this.#levelIds.get(text);
    if (known !== undefined) {
      this.#levelUses.set(known, this.#levelUses.get(known) + 1);
      return known;
    }
    let level = this.#freeLevel;
    if (level === NONE) {
      level = this.#levelsEnd++;
      this.#levelUses.reserve(this.#levelsEnd);
    } else {
      this.#freeLevel = this.#levelUses.get(level);
    }
    this.#levelUses.set(level, 1);
    this.#levelIds.set(flat(text), level);
    return level;
  }

  parent(node: number): number {
    return this.#parent.get(node);
  }

  level(node: number): number {
    return this.#level.get(node);
  }

  /** The child of `parent` at `level`, or `NONE`. */
  child(parent: number, level: number): number {
    if (level === NONE) return NONE;
    let node = this.#heads.get(this.#bucket(parent, level));
    while (
      node !== NONE &&
      (this.#level.get(node) !== level || this.#parent.get(node) !== parent)
    ) {
      node = this.#next.get(node);
    }
    return node;
  }

  /** Adds a child that does not exist yet. The number may have belonged to a removed node. */
  add(parent: number, text: string): number {
    const level = this.useLevel(text);
    let node = this.#freeNode;
    if (node === NONE) {
      node = this.#nodesEnd++;
      this.#reserveNodes();
    } else {
      this.#freeNode = this.#next.get(node);
    }
    this.#parent.set(node, parent);
    this.#level.set(node, level);
    const bucket = this.#bucket(parent, level);
    this.#next.set(node, this.#heads.get(bucket));
    this.#heads.set(bucket, node);
    this.#nodes += 1;
    if (this.#nodes > this.#base + this.#split) this.#splitBucket();
    return node;
  }

  /** Removes a node that has no children; `text` is its level. */
  remove(node: number, text: string): void {
    const level = this.#level.get(node);
    const bucket = this.#bucket(this.#parent.get(node), level);
    let before = this.#heads.get(bucket);
    if (before === node) {
      this.#heads.set(bucket, this.#next.get(node));
    } else {
      while (this.#next.get(before) !== node) before = this.#next.get(before);
      this.#next.set(before, this.#next.get(node));
    }
    this.#next.set(node, this.#freeNode);
    this.#freeNode = node;
    this.#nodes -= 1;

    const uses = this.#levelUses.get(level) - 1;
    if (uses > 0) {
      this.#levelUses.set(level, uses);
    } else {
      this.#levelIds.delete(text);
      this.#levelUses.set(level, this.#freeLevel);
      this.#freeLevel = level;
    }
  }

  #reserveNodes(): void {
    this.#parent.reserve(this.#nodesEnd);
    this.#level.reserve(this.#nodesEnd);
    this.#next.reserve(this.#nodesEnd);
  }

  #hash(parent: number, level: number): number {
    let hash = Math.imul(parent ^ this.#seed, 0x9e3779b1) ^ Math.imul(level, 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 15), 0x2c1b3c6d);
    return (hash ^ (hash >>> 13)) & 0x7fffffff;
  }

  #bucket(parent: number, level: number): number {
    const hash = this.#hash(parent, level);
    const bucket = hash & (this.#base - 1);
    return bucket < this.#split ? hash & (this.#base * 2 - 1) : bucket;
  }

  #splitBucket(): void {
    const from = this.#split;
    const to = this.#base + from;
    this.#heads.reserve(to + 1);
    let node = this.#heads.get(from);
    let stays = NONE;
    let goes = NONE;
    while (node !== NONE) {
      const next = this.#next.get(node);
      if ((this.#hash(this.#parent.get(node), this.#level.get(node)) & this.#base) === 0) {
        this.#next.set(node, stays);
        stays = node;
      } else {
        this.#next.set(node, goes);
        goes = node;
      }
      node = next;
    }
    this.#heads.set(from, stays);
    this.#heads.set(to, goes);
    this.#split += 1;
    if (this.#split === this.#base) {
      this.#base *= 2;
      this.#split = 0;
    }
  }
}

/** Where the level that ends at `end` starts in `text`. */
export function levelStart(text: string, end: number): number {
  return end === 0 ? 0 : text.lastIndexOf('/', end - 1) + 1;
}

/** A copy that does not keep the topic alive that it was cut from (V8 makes slices of 13 characters and more). */
function flat(text: string): string {
  return text.length < 13 ? text : [text.slice(0, 1), text.slice(1)].join('');
}
