import type { DueEvents, ReleaseRequest } from '@shoalmq/core';

/** As many are tried at a time. */
const TRIED_MAX = 200;

/** A connection that is gone although the store did not say so. */
export interface LateRelease {
  readonly request: ReleaseRequest;
  /** The claim is the call whose outcome is not known. */
  readonly claimUnheard: boolean;
}

type Tried = { readonly outcome: 'ok' } & DueEvents;

/**
 * Connections whose release, or whose claim, had no known outcome: they are gone, but the session may be theirs for
 * ever, and then its will and its expiry never run. They are released as soon as Redis answers; what that brings about
 * comes with what is due by time. One entry for each connection that ended while Redis was away.
 *
 * A node that dies meanwhile leaves this to whoever releases its connections.
 */
export class LateReleases {
  readonly #byToken = new Map<string, LateRelease>();
  readonly #wills: DueEvents['wills'][number][] = [];
  readonly #ended: DueEvents['ended'][number][] = [];

  get size(): number {
    return this.#byToken.size;
  }

  add(late: LateRelease): void {
    const { token } = late.request;
    const claimUnheard = late.claimUnheard || this.#byToken.get(token)?.claimUnheard === true;
    this.#byToken.set(token, { request: late.request, claimUnheard });
  }

  /** What was brought about and not taken yet: at most `limit` wills and as many ends of sessions. */
  take(limit: number): DueEvents {
    return { wills: this.#wills.splice(0, limit), ended: this.#ended.splice(0, limit) };
  }

  /** Releases some of them. What fails stays. */
  async retry(
    release: (late: LateRelease) => Promise<Tried | { readonly outcome: 'fenced' }>,
  ): Promise<void> {
    const tried = [...this.#byToken.values()].slice(0, TRIED_MAX);
    await Promise.allSettled(
      tried.map(async (late) => {
        const result = await release(late);
        this.#byToken.delete(late.request.token);
        if (result.outcome === 'fenced') return;
        this.#wills.push(...result.wills);
        this.#ended.push(...result.ended);
      }),
    );
  }
}
