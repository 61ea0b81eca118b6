import { FACT_BUCKETS } from '@shoalmq/core';
import type { Clock, ClusterState, FactChange, LogPosition, SharedFact } from '@shoalmq/core';
import { isReached } from './fact-writer.ts';
import type { FactWriter } from './fact-writer.ts';
import type { Reporter } from './report.ts';

/** Buckets that are loaded at the same time. */
const LOADS_AT_A_TIME = 8;
/** Changes of one bucket that are read in one piece. */
const READ_CHANGES_MAX = 1_000;

/** Where facts go: the tables of the node. */
export interface FactTables {
  apply(change: FactChange): void;
  replace(facts: readonly SharedFact[]): void;
}

export interface FactReplicaParts {
  readonly state: ClusterState;
  readonly tables: FactTables;
  readonly writer: FactWriter;
  readonly clock: Clock;
  /** Milliseconds between two looks at the logs when nobody says that there is something. */
  readonly pollMs: number;
  readonly report: Reporter;
  /** The topics that the tables know as retained, beside those listed, and that have a message all the same. */
  readonly keepRetained?: (listed: ReadonlySet<string>) => Promise<readonly string[]>;
}

interface Waiter {
  readonly positions: ReadonlyMap<number, LogPosition>;
  readonly reached: () => void;
}

/**
 * Keeps the tables of this node equal to the shared facts: loads them, and then follows the log of each bucket. Changes
 * are applied in the order of the log, whoever tells of them.
 */
export class FactReplica {
  readonly #parts: FactReplicaParts;
  readonly #positions = new Map<number, LogPosition>();
  #waiters: Waiter[] = [];
  /** Buckets to look at. */
  readonly #wanted = new Set<number>();
  #polling: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #mustLoad: 'first' | 'add' | 'replace' | undefined = 'first';
  /** All logs were known at this time; -1: never. */
  #currentAtMs = -1;
  #closed = false;

  constructor(parts: FactReplicaParts) {
    this.#parts = parts;
  }

  /** The tables have been filled. */
  get loaded(): boolean {
    return this.#currentAtMs >= 0;
  }

  /** When the tables were last known to hold all that was written before, by the monotonic clock; -1: never. */
  get currentAtMs(): number {
    return this.#currentAtMs;
  }

  /** Everything is being loaded again. */
  get reloading(): boolean {
    return this.loaded && this.#mustLoad !== undefined;
  }

  /** The first bucket that has not been loaded, if any. */
  get missingBucket(): number | undefined {
    for (let bucket = 0; bucket < FACT_BUCKETS; bucket++) {
      if (!this.#positions.has(bucket)) return bucket;
    }
    return undefined;
  }

  /** Begins to load and to follow. */
  start(): void {
    void this.poll();
  }

  /** Looks at all logs now. Resolves when it has, or could not. */
  async poll(): Promise<void> {
    // One that is under way may have passed the entry already that the caller knows to be there.
    await this.#polling;
    await this.#look(allBuckets());
  }

  /** Calls `reached` once the logs have been applied up to these positions, and looks at them now. */
  whenReached(positions: ReadonlyMap<number, LogPosition>, reached: () => void): void {
    if (this.#mustLoad === undefined && isReached(positions, this.#positions)) {
      reached();
      return;
    }
    this.#waiters.push({ positions, reached });
    void this.#look(positions.keys());
  }

  /**
   * Loads everything again. `add`: what is missing in the store stays here for now, because other nodes are still
   * writing it again. `replace`: what is missing goes.
   */
  reload(how: 'add' | 'replace'): void {
    this.#mustLoad = how;
    this.#parts.writer.startAgain();
    void this.poll();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #look(buckets: Iterable<number>): Promise<void> {
    for (const bucket of buckets) this.#wanted.add(bucket);
    this.#polling ??= this.#run().finally(() => {
      this.#polling = undefined;
      this.#schedule();
    });
    return this.#polling;
  }

  #schedule(): void {
    clearTimeout(this.#timer);
    if (this.#closed) return;
    this.#timer = setTimeout(() => void this.#look(allBuckets()), this.#parts.pollMs);
  }

  async #run(): Promise<void> {
    try {
      while (this.#wanted.size > 0 && !this.#closed) {
        if (this.#mustLoad === undefined) await this.#follow();
        else await this.#load(this.#mustLoad);
      }
    } catch (error) {
      this.#parts.report({
        event: 'cluster.state_failed',
        operation: this.#mustLoad === undefined ? 'readLog' : 'loadBucket',
        message: String(error),
      });
    }
  }

  async #follow(): Promise<void> {
    const { state, clock } = this.#parts;
    const startedAtMs = clock.monotonicMs();
    const all = this.#wanted.size === FACT_BUCKETS;
    const from = new Map<number, LogPosition>();
    for (const bucket of this.#wanted) from.set(bucket, this.#positions.get(bucket)!);
    this.#wanted.clear();
    const pages = await state.readLog(from, READ_CHANGES_MAX);
    // The store has been replaced meanwhile: these positions mean nothing.
    if (this.#closed || this.#mustLoad !== undefined) return;
    let complete = true;
    for (const [bucket, page] of pages) {
      if (page === 'lost') {
        this.#mustLoad = 'replace';
        this.#wanted.add(bucket);
        return;
      }
      this.#applyPage(bucket, page);
      if (page.changes.length >= READ_CHANGES_MAX) {
        this.#wanted.add(bucket);
        complete = false;
      }
    }
    this.#parts.writer.passed(this.#positions);
    if (all && complete) this.#currentAtMs = startedAtMs;
    this.#tellWaiters();
  }

  #applyPage(
    bucket: number,
    page: { readonly changes: readonly FactChange[]; readonly position: LogPosition },
  ): void {
    const { tables, writer } = this.#parts;
    /** Of facts that this node has changed too, the last word counts; the ones before may be older than its own. */
    const last = new Map<string, FactChange>();
    for (const change of page.changes) {
      if (writer.isOwn(change.fact)) last.set(JSON.stringify(identityOf(change.fact)), change);
      else tables.apply(change);
    }
    for (const change of last.values()) {
      if (!writer.isOlder(change.fact, bucket, page.position)) tables.apply(change);
    }
    this.#positions.set(bucket, page.position);
  }

  async #load(how: 'first' | 'add' | 'replace'): Promise<void> {
    const { state, tables, writer, clock } = this.#parts;
    const startedAtMs = clock.monotonicMs();
    this.#wanted.clear();
    // All that they wait for was written before, so it will be there, whatever the positions are then.
    const waiters = new Set(this.#waiters);
    const buckets = [...allBuckets()];
    const positions = new Map<number, LogPosition>();
    const loaded: SharedFact[] = [];
    const loads: ReturnType<ClusterState['loadBucket']>[] = [];
    for (const [index, bucket] of buckets.entries()) {
      // Several at a time: the store may be far away.
      for (const next of buckets.slice(index + loads.length, index + LOADS_AT_A_TIME)) {
        const load = state.loadBucket(next);
        load.catch(() => undefined); // of those that are not waited for any more when one has failed
        loads.push(load);
      }
      const { facts, position } = await loads.shift()!;
      positions.set(bucket, position);
      if (this.#closed) return;
      if (how === 'replace') {
        for (const fact of facts) if (!writer.isOwn(fact)) loaded.push(fact);
      } else {
        for (const fact of facts) {
          if (!writer.isOwn(fact)) tables.apply({ change: 'add', fact });
        }
      }
      if (how === 'first') this.#positions.set(bucket, position);
    }
    if (how === 'replace') {
      await this.#keepRetained(loaded);
      if (this.#closed) return;
      for (const fact of writer.ownFacts()) loaded.push(fact);
      tables.replace(loaded);
    }
    // Asked for once more meanwhile: again.
    if (this.#mustLoad !== how) {
      this.#wanted.add(0);
      return;
    }
    for (const [bucket, position] of positions) this.#positions.set(bucket, position);
    this.#mustLoad = undefined;
    this.#currentAtMs = startedAtMs;
    this.#waiters = this.#waiters.filter((waiter) => !waiters.has(waiter));
    for (const waiter of waiters) waiter.reached();
    this.#tellWaiters();
  }

  async #keepRetained(facts: SharedFact[]): Promise<void> {
    const { keepRetained } = this.#parts;
    if (keepRetained === undefined) return;
    const listed = new Set<string>();
    for (const { kind, filter } of facts) if (kind === 'retained') listed.add(filter);
    for (const filter of await keepRetained(listed)) facts.push({ kind: 'retained', filter });
  }

  #tellWaiters(): void {
    if (this.#waiters.length === 0) return;
    const reached = this.#waiters.filter(({ positions }) => isReached(positions, this.#positions));
    if (reached.length === 0) return;
    this.#waiters = this.#waiters.filter((waiter) => !reached.includes(waiter));
    for (const waiter of reached) waiter.reached();
  }
}

function identityOf(fact: SharedFact): unknown {
  switch (fact.kind) {
    case 'node':
      return [fact.node.id, fact.node.incarnation, fact.filter];
    case 'session':
      return [fact.clientId, fact.incarnation, fact.filter];
    case 'retained':
      return fact.filter;
  }
}

function* allBuckets(): Generator<number> {
  for (let bucket = 0; bucket < FACT_BUCKETS; bucket++) yield bucket;
}
