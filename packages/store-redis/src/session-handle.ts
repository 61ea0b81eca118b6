import type { DoubtedAppends } from './contents.ts';
import type { Keys, SessionKeys } from './keys.ts';
import { QueueRoom } from './queue-room.ts';
import type { QueueLimits } from './queue-room.ts';
import type { RemoveBatch } from './remove-batch.ts';
import type { SettleBatch } from './settle-batch.ts';

const HANDLES_MAX = 65_536;

/** What this node remembers of a session to append to it, and to gather calls for it. Losing it costs a look. */
export class SessionHandle {
  readonly clientId: string;
  readonly incarnation: string;
  readonly keys: SessionKeys;
  /** Slot of its keys in a Redis Cluster. */
  readonly slot: number;
  readonly room: QueueRoom;
  /** An XADD up to the message. */
  readonly appendHead: Buffer;
  /** Calls that are held back for a moment so that more can join them; see `HeldCalls`. */
  heldRemovals: RemoveBatch | undefined = undefined;
  heldUids: SettleBatch | undefined = undefined;
  /** Appends that were told that the session is gone, and those after them, until it is known whether to believe that. */
  doubted: DoubtedAppends | undefined = undefined;

  constructor(
    clientId: string,
    incarnation: string,
    { keys, slotOf, limits, generation }: SessionHandlesParts,
  ) {
    this.clientId = clientId;
    this.incarnation = incarnation;
    this.keys = keys.session(clientId);
    this.slot = slotOf(this.keys.session);
    this.room = new QueueRoom(limits);
    const queue = this.keys.queue(incarnation);
    const id = `${generation}-*`;
    this.appendHead = Buffer.from(
      `*6\r\n$4\r\nXADD\r\n$${queue.length}\r\n${queue}\r\n$10\r\nNOMKSTREAM\r\n` +
        `$${id.length}\r\n${id}\r\n$1\r\nm\r\n`,
      'latin1',
    );
  }
}

/** What handles are made of. */
export interface SessionHandlesParts {
  readonly keys: Keys;
  readonly slotOf: (key: string) => number;
  readonly limits: QueueLimits;
  readonly generation: number;
}

/** The handles of the sessions that were used last: at most twice 65,536 of them. */
export class SessionHandles {
  readonly #parts: SessionHandlesParts;
  #young = new Map<string, SessionHandle>();
  #old = new Map<string, SessionHandle>();

  constructor(parts: SessionHandlesParts) {
    this.#parts = parts;
  }

  /** The handle of a session; the one of another incarnation is forgotten. */
  get(clientId: string, incarnation: string): SessionHandle {
    const known = this.#find(clientId);
    if (known?.incarnation === incarnation) return known;
    const handle = new SessionHandle(clientId, incarnation, this.#parts);
    this.#add(handle);
    return handle;
  }

  /** The incarnation that the client id had last, as far as is known here; '' for none. */
  lastIncarnation(clientId: string): string {
    return this.#find(clientId)?.incarnation ?? '';
  }

  forget(clientId: string): void {
    this.#young.delete(clientId);
    this.#old.delete(clientId);
  }

  #find(clientId: string): SessionHandle | undefined {
    const young = this.#young.get(clientId);
    if (young !== undefined) return young;
    const old = this.#old.get(clientId);
    if (old !== undefined) this.#add(old);
    return old;
  }

  #add(handle: SessionHandle): void {
    if (this.#young.size >= HANDLES_MAX) {
      this.#old = this.#young;
      this.#young = new Map();
    }
    this.#young.set(handle.clientId, handle);
  }
}
