/** Knows whether Redis still has what it had: see `RedisStoreOptions.contents`. */
export interface Contents {
  /** Names what Redis holds, once every node has written again what a replaced Redis had lost. */
  readonly generation: string;
  /** Resolves when it was looked up anew, and everything is written again if Redis was replaced. */
  confirm(): Promise<void>;
}

/** Contents that nobody can replace. */
export const LASTING_CONTENTS: Contents = { generation: '', confirm: () => Promise.resolve() };

/**
 * Makes a call again when its result says that a session is not there, or is somebody else's, for no better reason than
 * that Redis was replaced by one that has not been told of it yet.
 */
export async function believed<Result>(
  contents: Contents,
  isLoss: (result: Result) => boolean,
  call: () => Promise<Result>,
): Promise<Result> {
  for (;;) {
    const { generation } = contents;
    const result = await call();
    if (!isLoss(result)) return result;
    await contents.confirm();
    if (contents.generation === generation) return result;
  }
}

/** An append that can be made again. */
export interface DoubtedAppend {
  /** `Contents.generation` when it was made. */
  readonly madeAt: string;
  /** Sends it again. */
  repeat(): void;
  /** The session is gone. */
  giveUp(): void;
}

/** The appends to one session while it is in doubt whether it is gone; in order. */
export class DoubtedAppends {
  readonly #contents: Contents;
  readonly #appends: DoubtedAppend[] = [];
  readonly #resolved: () => void;

  /** `resolved` is called before any of them is made again. */
  constructor(contents: Contents, resolved: () => void) {
    this.#contents = contents;
    this.#resolved = resolved;
    void this.#confirm();
  }

  push(append: DoubtedAppend): void {
    this.#appends.push(append);
  }

  async #confirm(): Promise<void> {
    await this.#contents.confirm();
    const { generation } = this.#contents;
    this.#resolved();
    for (const append of this.#appends) {
      if (append.madeAt === generation) append.giveUp();
      else append.repeat();
    }
  }
}
