import type { ClusterState, FactChange, LogPosition, SharedFact } from '@shoalmq/core';
import type { Reporter } from './report.ts';

/** Changes that go out in one call, about. */
const BATCH_CHANGES_MAX = 1_000;
/** Milliseconds until a write that failed is repeated. */
const RETRY_MS = 250;

interface Batch {
  readonly changes: FactChange[];
  /** By bucket, once it is written. */
  positions: Map<number, LogPosition> | undefined;
  readonly done: Promise<void>;
  readonly resolve: () => void;
}

interface OwnChange {
  readonly batch: Batch;
  readonly change: FactChange;
}

/**
 * Writes this node's changes of shared facts, in the order of the calls: what is asked for while one write is under
 * way goes out with the next.
 *
 * Until the log has been read up to such a write, what the log says of the same fact is older than what this node has
 * done to its tables, and must not be applied; see `isOlder`.
 */
export class FactWriter {
  readonly #state: Pick<ClusterState, 'changeFacts'>;
  readonly #tell: (positions: ReadonlyMap<number, LogPosition>) => Promise<void>;
  readonly #report: Reporter;
  readonly #queue: Batch[] = [];
  readonly #own = new Map<string, OwnChange>();
  /** Written, and not yet met in the log. */
  readonly #unread = new Set<Batch>();
  #writing: Promise<void> | undefined;
  #retry: { readonly timer: NodeJS.Timeout; readonly now: () => void } | undefined;
  #closed = false;

  /** `tell`: resolves when all other nodes have read their logs up to these positions. */
  constructor(
    state: Pick<ClusterState, 'changeFacts'>,
    tell: (positions: ReadonlyMap<number, LogPosition>) => Promise<void>,
    report: Reporter,
  ) {
    this.#state = state;
    this.#tell = tell;
    this.#report = report;
  }

  /** Resolves when all nodes have applied the changes; also when the writer was closed. */
  write(changes: readonly FactChange[]): Promise<void> {
    if (changes.length === 0 || this.#closed) return Promise.resolve();
    let batch = this.#queue.at(-1);
    if (batch === undefined || batch.changes.length >= BATCH_CHANGES_MAX) {
      batch = newBatch();
      this.#queue.push(batch);
    }
    for (const change of changes) {
      batch.changes.push(change);
      // Its own clean sessions a node does not learn about from the log.
      if (change.fact.kind !== 'node') this.#own.set(factKey(change.fact), { batch, change });
    }
    this.#writing ??= Promise.resolve().then(() => this.#run());
    return batch.done;
  }

  /** Whether a fact was changed here, and what the log says up to this position is older than that. */
  isOlder(fact: SharedFact, bucket: number, position: LogPosition): boolean {
    const own = this.#own.get(factKey(fact));
    if (own === undefined) return false;
    const written = own.batch.positions?.get(bucket);
    return written === undefined || written > position;
  }

  /** Whether a change of the fact was not yet met in the log. */
  isOwn(fact: SharedFact): boolean {
    return this.#own.size > 0 && fact.kind !== 'node' && this.#own.has(factKey(fact));
  }

  /** The log has been read up to these positions. */
  passed(positions: ReadonlyMap<number, LogPosition>): void {
    for (const batch of this.#unread) {
      if (!isReached(batch.positions!, positions)) continue;
      this.#unread.delete(batch);
      for (const { fact } of batch.changes) {
        const key = factKey(fact);
        if (this.#own.get(key)?.batch === batch) this.#own.delete(key);
      }
    }
  }

  /** Facts that were added here and not yet met in the log. */
  ownFacts(): SharedFact[] {
    return [...this.#own.values()].flatMap(({ change }) =>
      change.change === 'add' ? [change.fact] : [],
    );
  }

  /** Positions start again: what was written is in what will be loaded. */
  startAgain(): void {
    for (const batch of this.#unread) batch.positions = new Map();
    this.passed(new Map());
  }

  /** Resolves when nothing waits to be written. */
  async idle(): Promise<void> {
    await this.#writing;
  }

  /** Gives up what is not written. */
  close(): void {
    this.#closed = true;
    this.#retry?.now();
  }

  async #run(): Promise<void> {
    for (let batch = this.#queue.shift(); batch !== undefined; batch = this.#queue.shift()) {
      const positions = await this.#writeBatch(batch);
      batch.positions = new Map(positions);
      this.#unread.add(batch);
      void this.#tell(positions).then(batch.resolve);
    }
    this.#writing = undefined;
  }

  /** Until it succeeds: SUBACK waits, and a fact that nobody wrote would be missing for ever. */
  async #writeBatch({ changes }: Batch): Promise<ReadonlyMap<number, LogPosition>> {
    for (;;) {
      if (this.#closed) return new Map();
      try {
        return await this.#state.changeFacts(changes);
      } catch (error) {
        this.#report({
          event: 'cluster.state_failed',
          operation: 'changeFacts',
          message: String(error),
        });
        await new Promise<void>((resolve) => {
          this.#retry = { timer: setTimeout(resolve, RETRY_MS), now: resolve };
        });
        clearTimeout(this.#retry!.timer);
      }
    }
  }
}

/** Whether `reached` is at or behind each of `positions`. */
export function isReached(
  positions: ReadonlyMap<number, LogPosition>,
  reached: ReadonlyMap<number, LogPosition>,
): boolean {
  for (const [bucket, position] of positions) {
    const at = reached.get(bucket);
    if (at === undefined || at < position) return false;
  }
  return true;
}

function newBatch(): Batch {
  let resolve = (): void => undefined;
  const done = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { changes: [], positions: undefined, done, resolve };
}

/** Equal for facts that are the same. Incarnations have no spaces. */
function factKey(fact: SharedFact): string {
  switch (fact.kind) {
    case 'node':
      return `n ${fact.node.incarnation} ${fact.filter}`;
    case 'session':
      return `s ${fact.incarnation} ${fact.clientId.length} ${fact.clientId}${fact.filter}`;
    case 'retained':
      return `r ${fact.filter}`;
  }
}
