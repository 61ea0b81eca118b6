import { DoubleColumn, IntColumn, ValueColumn } from '../tree/column.ts';
import { LevelTree, NONE, levelStart } from '../tree/level-tree.ts';
import { isSystemTopic } from '../topic/name.ts';

/** Names that begin with `$` are under a root of their own [MQTT-4.7.2-1]. */
const ROOT = 1;
const SYSTEM_ROOT = 2;

/** Children of one node that a walk has yet to visit. */
interface Frame {
  readonly node: number;
  /** How many levels of the filter lead to `node`. */
  readonly depth: number;
  /** The child to visit next. It may be gone, and its number used again, when the walk goes on. */
  next: number;
  /** Birth of the child that was visited last. */
  lastBirth: number;
}

/**
 * The names of the topics that have a retained message, to be found by topic filter. A tree of topic levels whose
 * siblings are listed in the order in which they came. About 44 bytes per node and 60 per distinct level, without
 * the names themselves.
 */
export class RetainedIndex {
  readonly #tree: LevelTree;
  readonly #names = new ValueColumn<string>();
  readonly #firstChild = new IntColumn();
  readonly #nextSibling = new IntColumn();
  /** Of a first child: the last one. */
  readonly #previousSibling = new IntColumn();
  /**
   * When a node was made: a count of all nodes ever made, infinite for a free one. Walks know by it that a node
   * is the one they mean, and leave out what is younger than themselves.
   */
  readonly #births = new DoubleColumn();
  #born = 0;
  #size = 0;
  readonly #onChange: ((name: string) => void) | undefined;

  /**
   * `seed`: a random integer, so that clients cannot choose names whose places in the index collide. `onChange`: gets
   * each name that comes or goes.
   */
  constructor(seed = 0, onChange?: (name: string) => void) {
    this.#onChange = onChange;
    this.#tree = new LevelTree(SYSTEM_ROOT, seed);
    this.#reserve();
    this.#births.set(NONE, Infinity);
  }

  /** Number of names. */
  get size(): number {
    return this.#size;
  }

  /** Rows in use and ever used; those not in use are used again first. For diagnostics. */
  get rows(): { readonly nodes: number; readonly nodesEnd: number; readonly levels: number } {
    const { nodes, nodesEnd, levels } = this.#tree;
    return { nodes, nodesEnd, levels };
  }

  has(name: string): boolean {
    const node = this.#find(name);
    return node !== NONE && this.#names.get(node) !== undefined;
  }

  /** Adds a valid topic name; false: it is there already. */
  add(name: string): boolean {
    const tree = this.#tree;
    let node = root(name);
    for (let start = 0; start <= name.length;) {
      const slash = name.indexOf('/', start);
      const end = slash < 0 ? name.length : slash;
      const text = name.slice(start, end);
      let child = tree.child(node, tree.levelId(text));
      if (child === NONE) {
        child = tree.add(node, text);
        this.#reserve();
        this.#append(node, child);
      }
      node = child;
      start = end + 1;
    }
    if (this.#names.get(node) !== undefined) return false;
    this.#names.set(node, name);
    this.#size += 1;
    this.#onChange?.(name);
    return true;
  }

  /** Removes a name; false: it is not there. */
  delete(name: string): boolean {
    let node = this.#find(name);
    if (node === NONE || this.#names.get(node) === undefined) return false;
    this.#names.set(node, undefined);
    this.#size -= 1;
    this.#onChange?.(name);
    for (let end = name.length; node > SYSTEM_ROOT;) {
      if (this.#firstChild.get(node) !== NONE || this.#names.get(node) !== undefined) break;
      const parent = this.#tree.parent(node);
      this.#unlink(parent, node);
      const start = levelStart(name, end);
      this.#tree.remove(node, name.slice(start, end));
      node = parent;
      end = start - 1;
    }
    return true;
  }

  /**
   * The names that a valid topic filter matches. Lazy: names may be added and removed between two steps, and the
   * walk may be abandoned. A name that was there when `match` was called and is not removed is yielded; a name
   * that was added later may or may not be; none is yielded twice. A step costs no more than the nodes on the way
   * to the next match, unless the very node to be visited next was removed: then its siblings are gone through.
   */
  match(filter: string): IterableIterator<string> {
    return this.#walk(filter.split('/'), root(filter), this.#born);
  }

  *#walk(levels: readonly string[], from: number, bornMax: number): Generator<string, void> {
    const frames: Frame[] = [];
    let node = from;
    let depth = 0;
    for (;;) {
      while (node !== NONE) {
        const level = levels[depth];
        if (level !== undefined && level !== '+' && level !== '#') {
          node = this.#tree.child(node, this.#tree.levelId(level));
          if (this.#births.get(node) > bornMax) node = NONE;
          depth += 1;
          continue;
        }
        if (level !== undefined) {
          const next = this.#firstChild.get(node);
          if (next !== NONE) frames.push({ node, depth, next, lastBirth: 0 });
        }
        const name = level === '+' ? undefined : this.#names.get(node);
        // Whatever happens while the caller has the name, the frames know by the births.
        node = NONE;
        if (name !== undefined) yield name;
      }
      const frame = frames.at(-1);
      if (frame === undefined) return;
      node = this.#nextChild(frame, bornMax);
      if (node === NONE) frames.pop();
      depth = levels[frame.depth] === '#' ? frame.depth : frame.depth + 1;
    }
  }

  #nextChild(frame: Frame, bornMax: number): number {
    if (frame.next === NONE) return NONE;
    let child = frame.next;
    if (this.#births.get(child) > bornMax) {
      // It is gone. So may be the frame's node, but what has its number now has younger children only.
      child = this.#firstChild.get(frame.node);
      while (this.#births.get(child) <= frame.lastBirth) child = this.#nextSibling.get(child);
      if (this.#births.get(child) > bornMax) return NONE;
    }
    frame.lastBirth = this.#births.get(child);
    const next = this.#nextSibling.get(child);
    frame.next = this.#births.get(next) > bornMax ? NONE : next;
    return child;
  }

  #append(parent: number, child: number): void {
    const first = this.#firstChild.get(parent);
    this.#born += 1;
    this.#births.set(child, this.#born);
    this.#nextSibling.set(child, NONE);
    if (first === NONE) {
      this.#firstChild.set(parent, child);
      this.#previousSibling.set(child, child);
    } else {
      const last = this.#previousSibling.get(first);
      this.#nextSibling.set(last, child);
      this.#previousSibling.set(child, last);
      this.#previousSibling.set(first, child);
    }
  }

  #unlink(parent: number, child: number): void {
    const first = this.#firstChild.get(parent);
    const next = this.#nextSibling.get(child);
    const previous = this.#previousSibling.get(child);
    if (child === first) this.#firstChild.set(parent, next);
    else this.#nextSibling.set(previous, next);
    // The last child's place is remembered in the first.
    if (next !== NONE) this.#previousSibling.set(next, previous);
    else if (child !== first) this.#previousSibling.set(first, previous);
    this.#births.set(child, Infinity);
  }

  #find(name: string): number {
    let node = root(name);
    for (let start = 0; start <= name.length && node !== NONE;) {
      const slash = name.indexOf('/', start);
      const end = slash < 0 ? name.length : slash;
      node = this.#tree.child(node, this.#tree.levelId(name.slice(start, end)));
      start = end + 1;
    }
    return node;
  }

  #reserve(): void {
    const end = this.#tree.nodesEnd;
    this.#names.reserve(end);
    this.#firstChild.reserve(end);
    this.#nextSibling.reserve(end);
    this.#previousSibling.reserve(end);
    this.#births.reserve(end);
  }
}

function root(text: string): number {
  return isSystemTopic(text) ? SYSTEM_ROOT : ROOT;
}
