/** What happened. `deliver`: a client took a message; `fault`: something was done to the cluster; `end`: quiescence. */
export type HistoryOp =
  | 'connect'
  | 'close'
  | 'subscribe'
  | 'unsubscribe'
  | 'publish'
  | 'resend'
  | 'deliver'
  | 'will'
  | 'retained'
  | 'fault'
  | 'end';

/**
 * How far it is. `invoke`: asked for; `ok`: acknowledged, or done; `fail`: refused, certainly not done; `info`: nobody
 * knows, and nobody will.
 */
export type HistoryPhase = 'invoke' | 'ok' | 'fail' | 'info';

/**
 * One line of a history. What an operation does not have is `''`, 0 or `false`.
 *
 * - `connect ok`: CONNACK; `resumed` is Session Present, `clean` what CONNECT asked for.
 * - `close`: the client knows that its connection is gone.
 * - `publish invoke`: the first byte was written; `ok`: PUBACK or PUBREC. `resend`: written again, on a new connection.
 * - `deliver`: the first PUBLISH of a packet id at QoS 2, each PUBLISH at QoS 0 and 1.
 * - `will ok`: the message has to be published; `fail`: it must not be; `invoke`: it may be.
 * - `retained`: what a node (`client`) gave to a new subscription, after quiescence; seq 0 when it gave nothing.
 * - `fault invoke`: it begins, on the node `client`; `ok`: healed.
 */
export interface HistoryRecord {
  /** Monotonic. The order of records is what counts; times are for liveness and overlap only. */
  readonly atMs: number;
  readonly op: HistoryOp;
  readonly phase: HistoryPhase;
  /** The client id it happened to, or the node. */
  readonly client: string;
  /** Counts the connections of one client id from 1. */
  readonly connection: number;
  /** Topic of a message, or topic filter of a subscription. */
  readonly topic: string;
  /** Who published the message; with the incarnation in it when publishers start over. */
  readonly publisher: string;
  /** Counts the messages of one publisher from 1, in the order in which they were written first. */
  readonly seq: number;
  readonly qos: 0 | 1 | 2;
  readonly dup: boolean;
  readonly retain: boolean;
  readonly clean: boolean;
  /** Of a CONNECT that wanted no earlier session, although the new one is kept. */
  readonly fresh: boolean;
  readonly resumed: boolean;
  /** Of the payload: `payloadHash`. */
  readonly hash: number;
}

/** A record with the fields that matter; the others are filled in. */
export type HistoryFields = Pick<HistoryRecord, 'op'> & Partial<HistoryRecord>;

/** A history, recorded while it happens. Compact: some 40 bytes a record, whatever it says. */
export class History implements Iterable<HistoryRecord> {
  readonly #now: () => number;
  readonly #texts: string[] = [''];
  readonly #textIds = new Map<string, number>([['', 0]]);
  readonly #connections = new Map<string, number>();
  readonly #chunks: { times: Float64Array; columns: Int32Array }[] = [];
  #length = 0;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get length(): number {
    return this.#length;
  }

  /** A number for the next connection of a client id, to be passed with all that happens on it. */
  nextConnection(client: string): number {
    const connection = (this.#connections.get(client) ?? 0) + 1;
    this.#connections.set(client, connection);
    return connection;
  }

  record(fields: HistoryFields): void {
    const index = this.#length % CHUNK_RECORDS;
    if (index === 0) {
      this.#chunks.push({
        times: new Float64Array(CHUNK_RECORDS),
        columns: new Int32Array(CHUNK_RECORDS * COLUMNS),
      });
    }
    const { times, columns } = this.#chunks[this.#chunks.length - 1]!;
    times[index] = fields.atMs ?? this.#now();
    const at = index * COLUMNS;
    columns[at] =
      OPS.indexOf(fields.op) |
      (PHASES.indexOf(fields.phase ?? 'ok') << 4) |
      ((fields.qos ?? 0) << 6) |
      (fields.dup === true ? 0x100 : 0) |
      (fields.retain === true ? 0x200 : 0) |
      (fields.clean === true ? 0x400 : 0) |
      (fields.resumed === true ? 0x800 : 0) |
      (fields.fresh === true ? 0x1000 : 0);
    columns[at + 1] = this.#textId(fields.client ?? '');
    columns[at + 2] = fields.connection ?? 0;
    columns[at + 3] = this.#textId(fields.topic ?? '');
    columns[at + 4] = this.#textId(fields.publisher ?? '');
    columns[at + 5] = fields.seq ?? 0;
    columns[at + 6] = fields.hash ?? 0;
    this.#length += 1;
  }

  *[Symbol.iterator](): Generator<HistoryRecord> {
    for (let i = 0; i < this.#length; i++) {
      const { times, columns } = this.#chunks[Math.floor(i / CHUNK_RECORDS)]!;
      const index = i % CHUNK_RECORDS;
      const at = index * COLUMNS;
      const flags = columns[at]!;
      yield {
        atMs: times[index]!,
        op: OPS[flags & 0xf]!,
        phase: PHASES[(flags >>> 4) & 3]!,
        qos: ((flags >>> 6) & 3) as 0 | 1 | 2,
        dup: (flags & 0x100) !== 0,
        retain: (flags & 0x200) !== 0,
        clean: (flags & 0x400) !== 0,
        resumed: (flags & 0x800) !== 0,
        fresh: (flags & 0x1000) !== 0,
        client: this.#texts[columns[at + 1]!]!,
        connection: columns[at + 2]!,
        topic: this.#texts[columns[at + 3]!]!,
        publisher: this.#texts[columns[at + 4]!]!,
        seq: columns[at + 5]!,
        hash: columns[at + 6]!,
      };
    }
  }

  #textId(text: string): number {
    let id = this.#textIds.get(text);
    if (id === undefined) {
      id = this.#texts.push(text) - 1;
      this.#textIds.set(text, id);
    }
    return id;
  }
}

const OPS: readonly HistoryOp[] = [
  ...(['connect', 'close', 'subscribe', 'unsubscribe', 'publish', 'resend'] as const),
  ...(['deliver', 'will', 'retained', 'fault', 'end'] as const),
];
const PHASES: readonly HistoryPhase[] = ['invoke', 'ok', 'fail', 'info'];
const COLUMNS = 7;
const CHUNK_RECORDS = 65_536;
