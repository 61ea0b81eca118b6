/**
 * Where clients connect. `apart`: publishers to the first node, subscribers to the second. `around`: pair i from one
 * node to another, over all ordered pairs of nodes in turn.
 */
export type Placement = 'apart' | 'around';

/** The node of publisher `index`, among so many. */
export function nodeOfPublisher(
  placement: Placement | undefined,
  index: number,
  nodes: number,
): number {
  return placement === 'around' ? index % nodes : 0;
}

/** The node of subscriber `index`, among so many. */
export function nodeOfSubscriber(
  placement: Placement | undefined,
  index: number,
  nodes: number,
): number {
  if (placement === undefined || nodes === 1) return 0;
  if (placement === 'apart') return 1;
  const distance = 1 + (Math.floor(index / nodes) % (nodes - 1));
  return (index + distance) % nodes;
}
