import type { NodeIdentity } from '@shoalmq/core';

/** One life of a node as a key. Ids have no `#`. */
export function nodeName({ id, incarnation }: NodeIdentity): string {
  return `${id}#${incarnation}`;
}
