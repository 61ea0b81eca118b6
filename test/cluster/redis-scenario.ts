import { ShoalProcess } from '@shoalmq/testkit';
import type { ByteClient } from '@shoalmq/testkit';

/** A node of the cluster that is in this Redis. */
export function startNode(
  id: string,
  redisArgs: readonly string[],
  args: readonly string[] = [],
): Promise<ShoalProcess> {
  return ShoalProcess.start({ args: [...redisArgs, '--peer-port', '0', '--node-id', id, ...args] });
}

/** CONNECT of a client with a persistent session. */
export function persistent(clientId: string, timeoutMs: number) {
  return { clientId, timeoutMs, clean: false, properties: { sessionExpiryInterval: 300 } };
}

/** Events in the log of a node, in order. */
export function events(node: ShoalProcess): string[] {
  return node.lines.map((line) => (JSON.parse(line) as { readonly event: string }).event);
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

/** Resolves when `holds`; rejects when that takes too long. */
export async function until(
  what: string,
  holds: () => boolean | Promise<boolean>,
  timeoutMs = 30_000,
): Promise<void> {
  const deadline = performance.now() + timeoutMs;
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`timed out: ${what}`);
    await sleep(50);
  }
}

/** What a client got, by topic. */
export class Deliveries {
  readonly #byTopic = new Map<string, string[]>();

  /** All payloads of a topic, in the order in which they came. */
  all(topic: string): readonly string[] {
    return this.#byTopic.get(topic) ?? [];
  }

  /** Without repetitions: in the order of the first deliveries. */
  first(topic: string): readonly string[] {
    return [...new Set(this.all(topic))];
  }

  /** Takes and acknowledges messages until the client has these payloads, in any order and perhaps twice. */
  async takeUntil(
    client: ByteClient,
    expected: Readonly<Record<string, readonly string[]>>,
  ): Promise<void> {
    for (;;) {
      const missing = Object.entries(expected).some(([topic, payloads]) => {
        const got = new Set(this.all(topic));
        return payloads.some((payload) => !got.has(payload));
      });
      if (!missing) return;
      const { topic, payload } = await client.expectPublish({ acknowledge: true });
      const got = this.#byTopic.get(topic);
      if (got === undefined) this.#byTopic.set(topic, [payload.toString()]);
      else got.push(payload.toString());
    }
  }
}
