/** Microseconds on the monotonic clock of this process. */
export function nowUs(): number {
  return performance.now() * 1000;
}
