import { existsSync, readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';

const root = fileURLToPath(new URL('..', import.meta.url));
const text = readFileSync(join(root, 'docs/guarantees.md'), 'utf8');

/** Patterns of test files that the commands name, after `npm ... --`. */
function patterns(command: string): string[] {
  return [...text.matchAll(new RegExp(`^ {4}npm ${command} -- ([^#\\n]+)`, 'gm'))].flatMap(
    ([, names = '']) => names.trim().split(/ +/),
  );
}

test('docs/guarantees.md has every promise, each with a command', () => {
  const chapters = text.split(/^## /m).filter((chapter) => /^P\d+:/.test(chapter));
  expect(chapters.map((chapter) => chapter.split(':')[0])).toEqual(
    Array.from({ length: 12 }, (_, index) => `P${String(index + 1)}`),
  );
  for (const chapter of chapters) expect(chapter).toMatch(/^ {4}npm /m);
});

test('each of its commands finds tests', () => {
  const files = readdirSync(join(root, 'test/cluster')).filter((name) => name.endsWith('.test.ts'));
  const named = patterns('run test:cluster');
  expect(named.filter((name) => !files.some((file) => file.includes(name)))).toEqual([]);
  for (const path of patterns('test')) {
    const found = [path, `${path}.test.ts`].some((name) => existsSync(join(root, name)));
    expect([path, found]).toEqual([path, true]);
  }
});
