/**
 * Who gets a message for a shared group: a persistent session, or a clean one of a node, which picks it unless
 * `clientId` names it. The incarnation is that of the session or of the node.
 */
export type Assignee =
  | { readonly nodeId?: undefined; readonly clientId: string; readonly incarnation: string }
  | { readonly nodeId: string; readonly clientId: string; readonly incarnation: string };

/** A member of each shared group that gets a message, by full filter (`$share/...`). */
export type Assignment = ReadonlyMap<string, Assignee>;

/**
 * The uid of a QoS 2 message that is for shared groups, with the members who get it. It is stored before the message
 * goes anywhere, so that whoever repeats it gives it to the same members and to nobody else (P2).
 */
export function uidWithAssignment(id: string, assignment: Assignment): string {
  if (assignment.size === 0) return id;
  const entries = [...assignment].map(([group, { clientId, incarnation, nodeId }]) =>
    nodeId === undefined ? [group, clientId, incarnation] : [group, clientId, incarnation, nodeId],
  );
  return `${id} ${JSON.stringify(entries)}`;
}

/** Reads what `uidWithAssignment` returned. `id` names the message; a uid without assignment is all id. */
export function readUid(uid: string): {
  readonly id: string;
  readonly assignment: Assignment | undefined;
} {
  const end = uid.indexOf(' ');
  if (end < 0) return { id: uid, assignment: undefined };
  const entries = JSON.parse(uid.slice(end + 1)) as [string, string, string, string?][];
  const assignment = new Map<string, Assignee>();
  for (const [group, clientId, incarnation, nodeId] of entries) {
    assignment.set(
      group,
      nodeId === undefined ? { clientId, incarnation } : { nodeId, clientId, incarnation },
    );
  }
  return { id: uid.slice(0, end), assignment };
}
