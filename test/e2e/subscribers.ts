import type { Subscriber } from './client-kind.ts';

/** Subscribers that connect at the same time and are ended together. */
export class Subscribers implements AsyncDisposable {
  readonly all: readonly Subscriber[];

  private constructor(all: readonly Subscriber[]) {
    this.all = all;
  }

  /** Resolves when all have subscribed; when one fails, none is left. */
  static async of(connecting: readonly Promise<Subscriber>[]): Promise<Subscribers> {
    const results = await Promise.allSettled(connecting);
    const subscribers = new Subscribers(
      results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])),
    );
    for (const result of results) {
      if (result.status === 'fulfilled') continue;
      await subscribers[Symbol.asyncDispose]();
      throw result.reason;
    }
    return subscribers;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.all.map((subscriber) => subscriber[Symbol.asyncDispose]()));
  }
}
