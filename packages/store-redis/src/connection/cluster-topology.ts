import { SLOTS } from './hash-slot.ts';
import type { RedisReply } from './redis-call.ts';
import type { RedisAddress } from './redis-options.ts';

/** Which primary serves each slot: parsed from the reply to CLUSTER SLOTS that `from` gave. */
export function parseSlots(reply: RedisReply, from: string): (string | undefined)[] {
  const addresses = new Array<string | undefined>(SLOTS).fill(undefined);
  if (!Array.isArray(reply)) return addresses;
  const asked = parseAddress(from);
  for (const range of reply as readonly RedisReply[][]) {
    const [first, last, primary] = range;
    if (!Array.isArray(primary)) continue;
    const [host, port] = primary as [Buffer | null, number];
    // A node that does not know its own address says '' or nothing: it is the one that was asked.
    const name = host === null || host.length === 0 ? asked.host : host.toString();
    addresses.fill(addressOf({ host: name, port }), Number(first), Number(last) + 1);
  }
  return addresses;
}

export function addressOf({ host, port }: RedisAddress): string {
  return `${host}:${String(port)}`;
}

export function parseAddress(address: string): RedisAddress {
  const colon = address.lastIndexOf(':');
  return { host: address.slice(0, colon), port: Number(address.slice(colon + 1)) };
}
