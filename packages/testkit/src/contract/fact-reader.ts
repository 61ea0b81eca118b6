import { FACT_BUCKETS } from '@shoalmq/core';
import type { ClusterState, FactChange, LogPosition, SharedFact } from '@shoalmq/core';

/** A node's copy of the shared facts, kept equal to the store by reading its logs. */
export class FactReader {
  /** Logs that did not go back far enough, so that their bucket was loaded again. */
  timesLost = 0;
  readonly #state: ClusterState;
  readonly #buckets: Map<string, SharedFact>[] = [];
  readonly #positions = new Map<number, LogPosition>();

  constructor(state: ClusterState) {
    this.#state = state;
  }

  /** Takes every bucket as it is now. */
  async load(): Promise<void> {
    await Promise.all(Array.from({ length: FACT_BUCKETS }, (_, bucket) => this.#load(bucket)));
  }

  /** Reads the logs, `countMax` changes of each at a time, until there is no more in them. */
  async tail(countMax = 100): Promise<void> {
    while (await this.readOnce(countMax));
  }

  /** Reads at most `countMax` changes of each log. Was there anything? */
  async readOnce(countMax: number): Promise<boolean> {
    let more = false;
    for (const [bucket, read] of await this.#state.readLog(this.#positions, countMax)) {
      if (read === 'lost') {
        this.timesLost++;
        more = true;
        await this.#load(bucket);
        continue;
      }
      if (read.changes.length > 0) more = true;
      for (const change of read.changes) this.#apply(bucket, change);
      this.#positions.set(bucket, read.position);
    }
    return more;
  }

  position(bucket: number): LogPosition {
    return this.#positions.get(bucket) ?? '';
  }

  /** All facts, sorted. */
  facts(): readonly SharedFact[] {
    return this.#buckets
      .flatMap((bucket) => [...bucket.values()])
      .sort((a, b) => (JSON.stringify(a) < JSON.stringify(b) ? -1 : 1));
  }

  async #load(bucket: number): Promise<void> {
    const { facts, position } = await this.#state.loadBucket(bucket);
    this.#buckets[bucket] = new Map();
    for (const fact of facts) this.#apply(bucket, { change: 'add', fact });
    this.#positions.set(bucket, position);
  }

  #apply(bucket: number, { change, fact }: FactChange): void {
    const key = JSON.stringify({ ...fact, weight: undefined, options: undefined });
    if (change === 'add') this.#buckets[bucket]!.set(key, fact);
    else this.#buckets[bucket]!.delete(key);
  }
}
