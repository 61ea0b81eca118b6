const POLL_MS = 20;
const TIMEOUT_MS = 60_000;

/**
 * Resolves when `holds` does, asked again and again. For states of other processes, which nobody tells us.
 *
 * @throws Error after a minute (`timeoutMs`), with `what` and what `state` says then.
 */
export async function pollUntil(
  what: string,
  holds: () => boolean | Promise<boolean>,
  { timeoutMs = TIMEOUT_MS, state }: { timeoutMs?: number; state?: () => string } = {},
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadline) {
      throw new Error(`timed out: ${what}${state === undefined ? '' : ` (${state()})`}`);
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
