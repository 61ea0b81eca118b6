import type { NodeDescriptor, NodeIdentity } from '@shoalmq/core';
import { defineScript } from '../connection/script.ts';
import type { Keys } from '../keys.ts';
import { sized } from './fact-text.ts';

/** What Redis knows of the nodes. */
export interface KnownNodes {
  readonly nodes: readonly NodeDescriptor[];
  readonly dead: readonly NodeIdentity[];
  /** Random text that was made when this Redis had none. */
  readonly generation: string;
  /** `master_replid` of the server that has the leases. */
  readonly replicationId: string;
}

interface Renewal {
  readonly keys: Keys;
  readonly self: NodeDescriptor;
  readonly ttlMs: number;
  /** This life of the node has had a lease before. */
  readonly announced: boolean;
  readonly newGeneration: string;
}

/** `taken`: a later life of the node has a lease. See lua/renew-lease.lua. */
export const renewLease = defineScript('renew-lease', {
  urgent: true,
  writes: false, // one that is lost with its server is renewed in a second
  keys: ({ keys }: Renewal) => [keys.nodes(), keys.generation()],
  argv: ({ self, ttlMs, announced, newGeneration }) => [
    nodeField(self),
    sized(self.id),
    ttlMs,
    descriptorText(self),
    announced ? '1' : '0',
    newGeneration,
  ],
  reply: (reply): KnownNodes | 'taken' => {
    const [taken] = reply as readonly [number];
    if (taken === 1) return 'taken';
    const [, now, generation, replicationId, texts] = reply as readonly [
      ...[number, Buffer, Buffer, Buffer],
      readonly Buffer[],
    ];
    const nowMs = Number(now.toString());
    const nodes: NodeDescriptor[] = [];
    const dead: NodeIdentity[] = [];
    for (let i = 0; i < texts.length; i += 2) {
      const identity = parseField(texts[i]!.toString());
      const value = texts[i + 1]!.toString();
      const space = value.indexOf(' ');
      if (Number(value.slice(0, space)) <= nowMs) dead.push(identity);
      else nodes.push({ ...identity, ...parseDescriptor(value.slice(space + 1)) });
    }
    return {
      nodes,
      dead,
      generation: generation.toString(),
      replicationId: replicationId.toString(),
    };
  },
});

/** See lua/bury-node.lua. */
export const buryNode = defineScript('bury-node', {
  writes: false,
  keys: ({ keys }: { readonly keys: Keys; readonly node: NodeIdentity }) => [keys.nodes()],
  argv: ({ node }) => [nodeField(node)],
  reply: (reply) => reply === 1,
});

/** What a node's lease is called in the hash of nodes. */
export function nodeField({ id, incarnation }: NodeIdentity): string {
  return sized(id) + incarnation;
}

function parseField(field: string): NodeIdentity {
  const start = field.indexOf(':') + 1;
  const end = start + Number(field.slice(0, start - 1));
  return { id: field.slice(start, end), incarnation: field.slice(end) };
}

function parseDescriptor(text: string): Omit<NodeDescriptor, keyof NodeIdentity> {
  const { address, version, state, connections, generation, routeLagMs } = JSON.parse(
    text,
  ) as NodeDescriptor;
  return {
    ...{ address, version, state },
    ...(connections === undefined ? {} : { connections }),
    ...(generation === undefined ? {} : { generation }),
    ...(routeLagMs === undefined ? {} : { routeLagMs }),
  };
}

function descriptorText(descriptor: NodeDescriptor) {
  const { address, version, state, connections, generation, routeLagMs } = descriptor;
  return JSON.stringify({ address, version, state, connections, generation, routeLagMs });
}
