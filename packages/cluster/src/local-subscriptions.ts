import type { FactChange, FactDigest, NodeIdentity } from '@shoalmq/core';

/** Writes changes of facts in the order of the calls; resolves when all nodes have applied them. */
export type WriteFacts = (changes: readonly FactChange[]) => Promise<void>;

interface Counted {
  /** Clean sessions of this node that are subscribed. */
  count: number;
  /** What was announced last is not applied everywhere yet. */
  announcing: Promise<void> | undefined;
}

/**
 * How many clean sessions of this node are subscribed to which filter. The other nodes need to know whether there are
 * any, and of a shared subscription how many.
 *
 *             first / write                    applied everywhere
 *   (none) ─────────────────▶ (announcing) ─────────────────────▶ (announced)
 *      ▲                        │    ▲  │ more: wait for the same     │   ▲ more
 *      │                        │    └──┘                             │   │
 *      └────────────────────────┴───── last / write ◀─────────────────┴───┘
 *
 * Counts change at once and writes keep the order of the changes, so the last unsubscription and the next first
 * subscription of a filter cannot overtake each other.
 */
export class LocalSubscriptions {
  readonly #self: NodeIdentity;
  readonly #write: WriteFacts;
  readonly #digest: FactDigest | undefined;
  readonly #filters = new Map<string, Counted>();

  /** `digest`: of the facts, which are added to it. */
  constructor(self: NodeIdentity, write: WriteFacts, digest?: FactDigest) {
    this.#self = self;
    this.#write = write;
    this.#digest = digest;
  }

  /** Filters with a subscriber. */
  get size(): number {
    return this.#filters.size;
  }

  /** Whether a clean session of this node is subscribed. */
  has(filter: string): boolean {
    return this.#filters.has(filter);
  }

  /** Resolves when every node knows what it must know of the changes. */
  async announce(
    changes: readonly { readonly change: 'add' | 'remove'; readonly filter: string }[],
  ): Promise<void> {
    const facts: FactChange[] = [];
    const filters: Counted[] = [];
    const announcing = new Set<Promise<void>>();
    for (const { change, filter } of changes) {
      const counted = this.#filters.get(filter) ?? { count: 0, announcing: undefined };
      const before = weightOf(filter, counted.count);
      counted.count = Math.max(0, counted.count + (change === 'add' ? 1 : -1));
      const weight = weightOf(filter, counted.count);
      if (counted.count === 0) this.#filters.delete(filter);
      else this.#filters.set(filter, counted);
      if (weight !== before) {
        if (before > 0) this.#digest?.toggleNode(this.#self, filter, before);
        if (weight > 0) this.#digest?.toggleNode(this.#self, filter, weight);
        facts.push(this.#fact(filter, weight));
        filters.push(counted);
      } else if (counted.announcing !== undefined) {
        announcing.add(counted.announcing);
      }
    }
    if (facts.length > 0) {
      const written = this.#write(facts);
      announcing.add(written);
      for (const counted of filters) counted.announcing = written;
      // Promises are many and are kept no longer than they are needed.
      void written.then(() => {
        for (const counted of filters) {
          if (counted.announcing === written) counted.announcing = undefined;
        }
      });
    }
    await Promise.all(announcing);
  }

  /** The facts as they stand, to be written again. */
  facts(): FactChange[] {
    return [...this.#filters].map(([filter, { count }]) =>
      this.#fact(filter, weightOf(filter, count)),
    );
  }

  #fact(filter: string, weight: number): FactChange {
    return {
      change: weight === 0 ? 'remove' : 'add',
      fact: { kind: 'node', node: this.#self, filter, weight },
    };
  }
}

/** Members of a group have equal chances wherever they are; of other subscriptions one is as good as many. */
function weightOf(filter: string, count: number): number {
  return filter.startsWith('$share/') ? count : Math.min(count, 1);
}
