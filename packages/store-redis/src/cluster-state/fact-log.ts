import { FACT_BUCKETS } from '@shoalmq/core';
import type { FactChange, LogPosition, SharedFact } from '@shoalmq/core';
import type { RedisReply } from '../connection/redis-call.ts';
import type { RedisCalls } from '../connection/redis-connection.ts';
import { defineScript } from '../connection/script.ts';
import { StoreError } from '../errors.ts';
import { keysOf } from '../keys.ts';
import type { Keys } from '../keys.ts';
import { factBucket, factField, factValue, parseFact } from './fact-text.ts';
import { entryIdOf, positionOf } from './log-position.ts';

/** Changes that one script makes at most; see lua/change-facts.lua. */
const CHANGES_MAX = 500;

/** Facts, or entries of a log, that are read at a time. */
const PAGE_SIZE = 1_000;

const LOAD_ATTEMPTS = 3;

/** What a reader of a log gets. */
export type LogPage =
  { readonly changes: readonly FactChange[]; readonly position: LogPosition } | 'lost';

/** Changes of a bucket that wait for those before them. */
interface Write {
  readonly changes: readonly FactChange[];
  readonly resolve: (position: LogPosition) => void;
  readonly reject: (error: unknown) => void;
}

/** See lua/change-facts.lua. */
const changeBucket = defineScript('change-facts', {
  writes: true,
  keys: ({ keys, bucket }: { readonly keys: Keys; readonly bucket: number } & Change) => [
    keys.facts(bucket),
    keys.factLog(bucket),
  ],
  argv: ({ changes, logLengthMax }) => {
    const argv: (string | number)[] = [logLengthMax];
    for (const { change, fact } of changes) {
      argv.push(factField(fact), change === 'add' ? `+${factValue(fact)}` : '-');
    }
    return argv;
  },
  reply: (reply) => positionOf(textOf(reply)),
});

interface Change {
  readonly changes: readonly FactChange[];
  readonly logLengthMax: number;
}

/** See lua/load-facts.lua. */
const loadFacts = defineScript('load-facts', {
  writes: false,
  keys: ({
    keys,
    bucket,
  }: {
    readonly keys: Keys;
    readonly bucket: number;
    readonly factsMax: number;
  }) => [keys.facts(bucket), keys.factLog(bucket)],
  argv: ({ factsMax }) => [factsMax],
  reply: (reply) => {
    const [last, count, texts] = reply as readonly [Buffer, number, readonly Buffer[]];
    return { position: positionOf(textOf(last)), count, texts };
  },
});

/**
 * The shared facts, in buckets with a log each. Of each bucket one script is under way at a time, with all the changes
 * that came meanwhile: repeated or not, changes take effect in the order in which they were asked for.
 */
export class FactLog {
  readonly #redis: RedisCalls;
  readonly #keys: Keys;
  readonly #logLengthMax: number;
  /** By bucket; the writes that are under way are not in them. */
  readonly #waiting = new Map<number, Write[]>();
  readonly #buckets: ReadonlyMap<string, number>;

  /** `logLengthMax`: changes that each bucket's log keeps at least. */
  constructor(redis: RedisCalls, logLengthMax: number) {
    this.#redis = redis;
    this.#keys = keysOf(redis.keyPrefix);
    this.#logLengthMax = logLengthMax;
    this.#buckets = new Map(
      Array.from({ length: FACT_BUCKETS }, (_, bucket) => [this.#keys.factLog(bucket), bucket]),
    );
  }

  /** Up to 500 changes of a bucket are made in one step. */
  async change(changes: readonly FactChange[]): Promise<ReadonlyMap<number, LogPosition>> {
    const byBucket = new Map<number, FactChange[]>();
    for (const change of changes) {
      const bucket = factBucket(change.fact.filter);
      const list = byBucket.get(bucket);
      if (list === undefined) byBucket.set(bucket, [change]);
      else list.push(change);
    }
    const positions = new Map<number, LogPosition>();
    await Promise.all(
      [...byBucket].map(async ([bucket, list]) => {
        positions.set(bucket, await this.#write(bucket, list));
      }),
    );
    return positions;
  }

  /**
   * A small bucket comes in one piece. A large one is scanned in pages, so that Redis answers others meanwhile, and what
   * was logged from before to after the scan is applied to what it found: as each change says how its fact is
   * afterwards, that is what the bucket was at the end. A scan that was moved to another server, by a failover or with
   * its slot, skips facts; then the number of facts is wrong and it starts again.
   *
   * @throws StoreError when the bucket changes faster than it can be read
   */
  async load(
    bucket: number,
  ): Promise<{ readonly facts: readonly SharedFact[]; readonly position: LogPosition }> {
    for (let attempt = 1; attempt <= LOAD_ATTEMPTS; attempt++) {
      const at = { keys: this.#keys, bucket };
      const start = await loadFacts(this.#redis, { ...at, factsMax: PAGE_SIZE });
      const facts = new Map<string, SharedFact | undefined>();
      takeFacts(facts, start.texts);
      if (start.count <= PAGE_SIZE) return { facts: known(facts), position: start.position };
      await this.#scan(bucket, facts);
      const { position, count } = await loadFacts(this.#redis, { ...at, factsMax: 0 });
      const replayed = await this.#replay(bucket, facts, start.position, position);
      if (replayed && facts.size === count) return { facts: known(facts), position };
    }
    throw new StoreError('SHOAL_STORE_UNAVAILABLE', 'the shared facts change while they are read');
  }

  async read(
    positions: ReadonlyMap<number, LogPosition>,
    countMax: number,
  ): Promise<ReadonlyMap<number, LogPage>> {
    const pages = new Map<number, LogPage>();
    for (const [bucket, position] of positions) pages.set(bucket, { changes: [], position });
    // One command reads all logs of one slot. It does not block: others use the connection too.
    const slots = this.#redis.isCluster
      ? [...positions].map((entry) => [entry])
      : positions.size === 0
        ? []
        : [[...positions]];
    await Promise.all(
      slots.map(async (entries) => {
        const logs = entries.map(([bucket]) => this.#keys.factLog(bucket));
        const ids = entries.map(([, position]) => entryIdOf(position));
        const head = ['XREAD', 'COUNT', countMax, 'STREAMS'];
        const reply = await this.#redis.command(logs[0]!, [...head, ...logs, ...ids]);
        for (const [log, entriesOfLog] of (reply ?? []) as readonly [Buffer, Entries][]) {
          const bucket = this.#buckets.get(log.toString())!;
          pages.set(bucket, pageOf(entriesOfLog, positions.get(bucket)!));
        }
      }),
    );
    return pages;
  }

  async #scan(bucket: number, facts: Map<string, SharedFact | undefined>): Promise<void> {
    const key = this.#keys.facts(bucket);
    let cursor = '0';
    do {
      const reply = await this.#redis.command(key, ['HSCAN', key, cursor, 'COUNT', PAGE_SIZE]);
      const [next, texts] = reply as readonly [Buffer, readonly Buffer[]];
      takeFacts(facts, texts);
      cursor = next.toString();
    } while (cursor !== '0');
  }

  /** Applies the changes after `from` up to `to`. `false`: the log does not have all of them. */
  async #replay(
    bucket: number,
    facts: Map<string, SharedFact | undefined>,
    from: LogPosition,
    to: LogPosition,
  ): Promise<boolean> {
    const key = this.#keys.factLog(bucket);
    const head = ['XRANGE', key];
    let position = from;
    while (position < to) {
      const range = [`(${entryIdOf(position)}`, entryIdOf(to), 'COUNT', PAGE_SIZE];
      const entries = (await this.#redis.command(key, [...head, ...range])) as unknown as Entries;
      if (!follows(entries, position)) return false;
      for (const [, [, field, , text]] of entries) {
        const change = text.toString();
        if (change === '-') facts.delete(field.toString());
        else facts.set(field.toString(), parseFact(field.toString(), change.slice(1)));
      }
      position = positionOf(entries.at(-1)![0].toString());
    }
    return position === to;
  }

  #write(bucket: number, changes: readonly FactChange[]): Promise<LogPosition> {
    return new Promise((resolve, reject) => {
      const write = { changes, resolve, reject };
      const waiting = this.#waiting.get(bucket);
      if (waiting !== undefined) {
        waiting.push(write);
        return;
      }
      const first = [write];
      this.#waiting.set(bucket, first);
      void this.#writeAll(bucket, first);
    });
  }

  async #writeAll(bucket: number, waiting: Write[]): Promise<void> {
    while (waiting.length > 0) {
      let size = 0;
      let count = 0;
      do {
        size += waiting[count]!.changes.length;
        count += 1;
      } while (count < waiting.length && size + waiting[count]!.changes.length <= CHANGES_MAX);
      const writes = waiting.splice(0, count);
      try {
        const position = await this.#run(
          bucket,
          writes.flatMap(({ changes }) => changes),
        );
        for (const { resolve } of writes) resolve(position);
      } catch (error) {
        for (const { reject } of writes) reject(error);
      }
    }
    this.#waiting.delete(bucket);
  }

  async #run(bucket: number, changes: readonly FactChange[]): Promise<LogPosition> {
    let position: LogPosition = '';
    for (let from = 0; from < changes.length; from += CHANGES_MAX) {
      position = await changeBucket(this.#redis, {
        keys: this.#keys,
        bucket,
        changes: changes.slice(from, from + CHANGES_MAX),
        logLengthMax: this.#logLengthMax,
      });
    }
    return position;
  }
}

/** Entries of a stream as XREAD gives them: id, and names and values in the order in which the script writes them. */
type Entries = readonly (readonly [
  Buffer,
  readonly [Buffer, Buffer, Buffer, Buffer, Buffer, Buffer],
])[];

/** The changes that these entries are, for a reader that stood at `position`. */
function pageOf(entries: Entries, position: LogPosition): LogPage {
  if (!follows(entries, position)) return 'lost';
  const changes: FactChange[] = [];
  for (const [, [, field, , text]] of entries) {
    const change = text.toString();
    const fact = parseFact(field.toString(), change.slice(1));
    if (fact === undefined) continue;
    changes.push({ change: change === '-' ? 'remove' : 'add', fact });
  }
  return { changes, position: positionOf(entries.at(-1)![0].toString()) };
}

/** Nothing is missing between the position and the first of these entries. */
function follows(entries: Entries, position: LogPosition): boolean {
  const [first] = entries;
  return first !== undefined && positionOf(first[1][5].toString()) === position;
}

/** Adds the facts that these fields and values are; those of an unknown kind count, but have no meaning. */
function takeFacts(facts: Map<string, SharedFact | undefined>, texts: readonly Buffer[]): void {
  for (let i = 0; i < texts.length; i += 2) {
    const field = texts[i]!.toString();
    facts.set(field, parseFact(field, texts[i + 1]!.toString()));
  }
}

function known(facts: ReadonlyMap<string, SharedFact | undefined>): readonly SharedFact[] {
  return [...facts.values()].filter((fact) => fact !== undefined);
}

function textOf(reply: RedisReply): string {
  return (reply as Buffer).toString();
}
