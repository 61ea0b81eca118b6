import { createHash } from 'node:crypto';
import { redact } from './redact.ts';
import type { Config } from './schema.ts';

/**
 * Twelve characters that are equal for equal configurations: tells apart nodes that should be configured alike. The
 * node id and secrets have no part in it.
 */
export function configHash(config: Config): string {
  const { node, ...rest } = redact(config);
  const comparable = JSON.stringify({ ...rest, node: { ...node, id: '' } });
  return createHash('sha256').update(comparable).digest('hex').slice(0, 12);
}
