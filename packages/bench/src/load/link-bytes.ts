import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

import type { RunningNode } from '../brokers/broker-driver.ts';

/** Starts to measure what nodes receive on the links from other nodes; the returned function tells how many bytes. */
export async function startLinkWindow(
  nodes: readonly RunningNode[],
): Promise<() => Promise<readonly number[]>> {
  const ports = nodes.length > 1 ? nodes.flatMap(({ peerPort }) => peerPort ?? []) : [];
  const read = (): Promise<number[]> => Promise.all(ports.map(readReceivedBytes));
  const before = await read();
  return async () => (await read()).map((bytes, index) => bytes - (before[index] ?? 0));
}

/**
 * Bytes that the kernel has received on all open TCP connections to a port of this machine: what arrived there, whoever
 * says what was sent.
 *
 * @throws Error when `ss` is missing.
 */
async function readReceivedBytes(port: number): Promise<number> {
  const args = ['-tinHO', 'state', 'established', `sport = :${String(port)}`];
  const { stdout } = await promisify(execFile)('ss', args);
  return sumReceivedBytes(stdout);
}

/** Adds up `bytes_received` in the output of `ss -ti`, which leaves it out for a connection without any. */
export function sumReceivedBytes(text: string): number {
  return [...text.matchAll(/\bbytes_received:(\d+)/g)].reduce(
    (total, [, bytes]) => total + Number(bytes),
    0,
  );
}
