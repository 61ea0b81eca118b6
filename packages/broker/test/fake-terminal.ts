import { EventEmitter } from 'node:events';
import { PassThrough, Writable } from 'node:stream';
import type { Terminal } from '../src/cli/terminal.ts';

/** A terminal that keeps what is printed, and whose keys the test presses. */
export class FakeTerminal implements Terminal {
  readonly stdin = new PassThrough();
  readonly stdout = new Collector();
  readonly stderr = new Collector();
  readonly signals = new EventEmitter();
  readonly env: Record<string, string>;
  readonly exits: number[] = [];
  readonly #files: Readonly<Record<string, string>>;

  constructor({
    env = {},
    files = {},
  }: { env?: Record<string, string>; files?: Record<string, string> } = {}) {
    this.env = env;
    this.#files = files;
  }

  readFile(path: string): string {
    const text = this.#files[path];
    if (text === undefined) throw Object.assign(new Error('no such file'), { code: 'ENOENT' });
    return text;
  }

  exit(code: number): void {
    this.exits.push(code);
  }
}

/** A stream whose text can be waited for. */
class Collector extends Writable {
  isTTY = false;
  #chunks: Buffer[] = [];

  get text(): string {
    return Buffer.concat(this.#chunks).toString();
  }

  /** Resolves when the text so far matches. */
  async until(pattern: RegExp): Promise<RegExpExecArray> {
    for (;;) {
      const match = pattern.exec(this.text);
      if (match !== null) return match;
      await new Promise((resolve) => this.once('written', resolve));
    }
  }

  override _write(chunk: Buffer, _encoding: string, callback: () => void): void {
    this.#chunks.push(chunk);
    callback();
    this.emit('written');
  }
}
