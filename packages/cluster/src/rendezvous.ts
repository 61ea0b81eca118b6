/**
 * The one of `nodes` that takes care of `key`. All who ask with the same nodes get the same answer, and when a node
 * goes only its keys go to others. `undefined` when there are no nodes.
 */
export function chosenNode(nodes: readonly string[], key: string): string | undefined {
  let chosen: string | undefined;
  let highest = -1;
  for (const node of nodes) {
    const score = hash(`${node}\n${key}`);
    if (score > highest || (score === highest && node < chosen!)) {
      highest = score;
      chosen = node;
    }
  }
  return chosen;
}

/** FNV-1a with a finish that spreads the last characters over all bits. */
function hash(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
