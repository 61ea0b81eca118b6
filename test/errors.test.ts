import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from '@jest/globals';

const root = join(import.meta.dirname, '..');

/** Names of environment variables look alike. */
const NOT_ERRORS = new Set([
  ...['SHOAL_CONFIG', 'SHOAL_BENCH_NODE_ARGS', 'SHOAL_BENCH_BROKER_ARGS'],
]);

test('docs/errors.md has every error code of the sources, and no other', () => {
  const inSources = new Set<string>();
  for (const name of readdirSync(join(root, 'packages'))) {
    const folder = join(root, 'packages', name, 'src');
    for (const file of readdirSync(folder, { recursive: true, encoding: 'utf8' })) {
      if (!file.endsWith('.ts')) continue;
      const text = readFileSync(join(folder, file), 'utf8');
      for (const [, code = ''] of text.matchAll(/'(SHOAL_[A-Z_]*[A-Z])'/g)) inSources.add(code);
    }
  }
  for (const name of NOT_ERRORS) inSources.delete(name);
  const documented = readFileSync(join(root, 'docs/errors.md'), 'utf8').matchAll(
    /^\| `(SHOAL_\w+)`/gm,
  );

  expect([...documented].map(([, code]) => code)).toEqual([...inSources].sort());
});
