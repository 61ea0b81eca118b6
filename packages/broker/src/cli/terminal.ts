import type { EventEmitter } from 'node:events';
import type { Readable, Writable } from 'node:stream';

/** What a command may touch of the process it runs in; tests give their own. */
export interface Terminal {
  readonly stdin: Readable;
  readonly stdout: Writable & { readonly isTTY?: boolean };
  readonly stderr: Writable;
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Emits `SIGINT` and `SIGTERM`. */
  readonly signals: Pick<EventEmitter, 'on' | 'off'>;
  /** Returns the text of a file, or throws what Node.js throws. */
  readFile(path: string): string;
  /** Ends the process at once. */
  exit(code: number): void;
}

/** Exit codes of `shoal`; `pub` and `sub` have more, see there. */
export const ExitCode = { Ok: 0, Failure: 1, Usage: 2 } as const;
