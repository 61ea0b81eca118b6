/**
 * A hash of a text that is the same for every node and version: it says where in Redis something is (FNV-1a over
 * UTF-16 units). Unsigned, 32 bits, of which the low ones are as good as any.
 */
export function textHash(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  }
  return (hash ^ (hash >>> 15)) >>> 0;
}
