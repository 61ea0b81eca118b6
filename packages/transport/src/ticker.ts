/** A later tick than this means that the event loop stood still. */
const STALL_MS = 100;

export interface Ticker {
  stop(): void;
}

/**
 * Calls `onTick` about every `intervalMs` with the time in milliseconds on the clock of `performance.now()`, which
 * never jumps. Drives the wheel of deadlines.
 *
 * After the event loop stood still (a long garbage collection, a paused process) timers would fire before the
 * sockets are read, and end connections whose packets are already here. Then the tick lets the sockets be read first
 * and reports in `stalledMs` by how much it was late, so that deadlines can be extended; otherwise that is 0.
 */
export function startTicker(
  intervalMs: number,
  onTick: (nowMs: number, stalledMs: number) => void,
): Ticker {
  let dueMs = performance.now() + intervalMs;
  let timer = setTimeout(onTimer, intervalMs);
  let immediate: NodeJS.Immediate | undefined;

  function onTimer(): void {
    if (performance.now() - dueMs <= STALL_MS) {
      tick(0);
      return;
    }
    // Immediates run after the sockets were polled, timers after what immediates and sockets led to.
    immediate = setImmediate(() => {
      timer = setTimeout(() => tick(performance.now() - dueMs), 0);
    });
  }

  function tick(stalledMs: number): void {
    const nowMs = performance.now();
    dueMs = nowMs + intervalMs;
    timer = setTimeout(onTimer, intervalMs);
    onTick(nowMs, stalledMs);
  }

  return {
    stop() {
      clearTimeout(timer);
      clearImmediate(immediate);
    },
  };
}
