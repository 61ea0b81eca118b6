/** Granularity of stall and drain deadlines. */
export const WATCH_INTERVAL_MS = 250;

/** A channel that waits for its peer: output is in flight, or it is ending. */
export interface Watched {
  /** Called every `WATCH_INTERVAL_MS`; false: there is nothing left to watch. */
  watchTick(): boolean;
}

const watched = new Set<Watched>();
let timer: NodeJS.Timeout | undefined;

/**
 * Starts calling `channel.watchTick` until it returns false. One timer for all, and none while there is nothing to
 * watch. Deadlines are counted in ticks: a process that was paused does not blame its clients for it.
 */
export function watch(channel: Watched): void {
  watched.add(channel);
  timer ??= setInterval(tick, WATCH_INTERVAL_MS);
}

function tick(): void {
  for (const channel of watched) {
    if (!channel.watchTick()) watched.delete(channel);
  }
  if (watched.size === 0) {
    clearInterval(timer);
    timer = undefined;
  }
}

/** Ticks after which `durationMs` have passed for certain: the first one may come at once. */
export function watchTicks(durationMs: number): number {
  return Math.ceil(durationMs / WATCH_INTERVAL_MS) + 1;
}
