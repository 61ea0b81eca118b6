import { nowUs } from '../clock.ts';
import type { Publisher } from './publisher.ts';

const POLL_MS = 50;

/**
 * Fills every window, and again in each turn of the event loop in which something settled: when a publisher or one of
 * `others` has read.
 */
export function sendWindowed(
  publishers: readonly Publisher[],
  others: readonly { onRead: () => void }[],
): { stop: () => void } {
  let stopped = false;
  let scheduled = false;
  const sendAll = (): void => {
    scheduled = false;
    if (stopped) return;
    const stampUs = nowUs();
    for (const publisher of publishers) publisher.send(stampUs, publisher.window);
  };
  const schedule = (): void => {
    if (scheduled) return;
    scheduled = true;
    setImmediate(sendAll);
  };
  for (const each of others) each.onRead = schedule;
  for (const publisher of publishers) publisher.onRead = schedule;
  schedule();
  // A window that was given up has no read to wake it.
  const timer = setInterval(schedule, POLL_MS);
  return {
    stop: () => {
      stopped = true;
      clearInterval(timer);
    },
  };
}
