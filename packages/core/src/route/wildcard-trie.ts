import { IntColumn, ValueColumn } from '../tree/column.ts';
import { LevelTree, NONE, levelStart } from '../tree/level-tree.ts';
import { isSystemTopic } from '../topic/name.ts';

/**
 * Names that begin with `$` have a root of their own, where no filter that begins with a wildcard stands: that is
 * the whole of [MQTT-4.7.2-1].
 */
const ROOT = 1;
const SYSTEM_ROOT = 2;

/** What `links` of a node holds: four times its children, and these. */
const HAS_PLUS = 1;
const HAS_HASH = 2;
const CHILD = 4;

/**
 * Values by topic filter, for matching: a topic name costs one look-up per node whose filter levels match the
 * levels of the name, however many other filters there are. `+` and `#` are levels like others, so that a filter
 * is a path of nodes; a node exists once, thus no combination of filters makes a match visit it twice.
 *
 * About 28 bytes per node and 60 per distinct level, without the values.
 */
export class WildcardTrie<V extends object> {
  readonly #tree: LevelTree;
  readonly #plus: number;
  readonly #hash: number;
  readonly #links = new IntColumn();
  readonly #values = new ValueColumn<V>();

  /** `seed`: see `LevelTree`. */
  constructor(seed: number) {
    this.#tree = new LevelTree(SYSTEM_ROOT, seed);
    this.#plus = this.#tree.useLevel('+');
    this.#hash = this.#tree.useLevel('#');
    this.#reserve();
  }

  /** Rows in use and ever used; those not in use are used again first. For tests and diagnostics. */
  get rows(): { readonly nodes: number; readonly nodesEnd: number; readonly levels: number } {
    const { nodes, nodesEnd, levels } = this.#tree;
    return { nodes, nodesEnd, levels };
  }

  get(filter: string): V | undefined {
    const node = this.#find(filter);
    return node === NONE ? undefined : this.#values.get(node);
  }

  /** Sets the value of a valid topic filter. */
  set(filter: string, value: V): void {
    const tree = this.#tree;
    let node = root(filter);
    for (let start = 0; start <= filter.length;) {
      const slash = filter.indexOf('/', start);
      const end = slash < 0 ? filter.length : slash;
      const text = filter.slice(start, end);
      let child = tree.child(node, tree.levelId(text));
      if (child === NONE) {
        child = tree.add(node, text);
        this.#reserve();
        this.#links.set(node, this.#links.get(node) + this.#link(child));
      }
      node = child;
      start = end + 1;
    }
    this.#values.set(node, value);
  }

  /** Removes a filter and the nodes that only it needed. */
  delete(filter: string): boolean {
    let node = this.#find(filter);
    if (node === NONE || this.#values.get(node) === undefined) return false;
    this.#values.set(node, undefined);
    for (let end = filter.length; node > SYSTEM_ROOT;) {
      if (this.#links.get(node) !== 0 || this.#values.get(node) !== undefined) break;
      const parent = this.#tree.parent(node);
      this.#links.set(parent, this.#links.get(parent) - this.#link(node));
      const start = levelStart(filter, end);
      this.#tree.remove(node, filter.slice(start, end));
      node = parent;
      end = start - 1;
    }
    return true;
  }

  /** Adds the values of all filters that match a valid topic name to `found`; returns how many nodes it visited. */
  match(name: string, found: V[]): number {
    const tree = this.#tree;
    /** Levels of the name, looked up when a path first gets there. */
    const levels: number[] = [];
    /** Where the next of them starts; -1: all are known. */
    let scanned = 0;
    const waiting = [root(name)];
    const depths = [0];
    let visited = 0;
    while (waiting.length > 0) {
      let node = waiting.pop() as number;
      let depth = depths.pop() as number;
      while (node !== NONE) {
        visited += 1;
        const links = this.#links.get(node);
        if ((links & HAS_HASH) !== 0) this.#take(tree.child(node, this.#hash), found);
        if (depth === levels.length && scanned >= 0 && links !== 0) {
          const slash = name.indexOf('/', scanned);
          levels.push(tree.levelId(name.slice(scanned, slash < 0 ? name.length : slash)));
          scanned = slash < 0 ? -1 : slash + 1;
        }
        const level = levels[depth];
        if (level === undefined) {
          // Either the name ends here, or no filter goes on below this node.
          if (scanned < 0) this.#take(node, found);
          break;
        }
        depth += 1;
        const plus = (links & HAS_PLUS) !== 0 ? tree.child(node, this.#plus) : NONE;
        node = tree.child(node, level);
        if (node === NONE) {
          node = plus;
        } else if (plus !== NONE) {
          waiting.push(plus);
          depths.push(depth);
        }
      }
    }
    return visited;
  }

  #take(node: number, found: V[]): void {
    const value = this.#values.get(node);
    if (value !== undefined) found.push(value);
  }

  #find(filter: string): number {
    let node = root(filter);
    for (let start = 0; start <= filter.length && node !== NONE;) {
      const slash = filter.indexOf('/', start);
      const end = slash < 0 ? filter.length : slash;
      node = this.#tree.child(node, this.#tree.levelId(filter.slice(start, end)));
      start = end + 1;
    }
    return node;
  }

  /** What `child` adds to the links of its parent. */
  #link(child: number): number {
    const level = this.#tree.level(child);
    if (level === this.#plus) return CHILD + HAS_PLUS;
    return level === this.#hash ? CHILD + HAS_HASH : CHILD;
  }

  #reserve(): void {
    this.#links.reserve(this.#tree.nodesEnd);
    this.#values.reserve(this.#tree.nodesEnd);
  }
}

function root(text: string): number {
  return isSystemTopic(text) ? SYSTEM_ROOT : ROOT;
}
