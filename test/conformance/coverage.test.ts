import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, test } from '@jest/globals';
import { citedIds, coverageProblems } from './citations.ts';
import type { Statement } from './statements.ts';
import { loadAllowList, loadStatements } from './statements.ts';

const root = fileURLToPath(new URL('../..', import.meta.url));

test('every statement that binds a server is cited by a test title or is in the allow-list', () => {
  const citations = new Map(testFiles().map((file) => [file, citedIds(readText(file))]));

  expect(
    coverageProblems({ statements: loadStatements(), allowList: loadAllowList(), citations }),
  ).toEqual([]);
});

test('the lists have all statements, each once and in order', () => {
  const ids = loadStatements().map(({ id }) => id);
  const ids5 = ids.filter((id) => id.startsWith('MQTT-'));
  const ids3 = ids.filter((id) => id.startsWith('MQTT3-'));

  expect([ids5.length, ids3.length]).toEqual([251, 141]);
  expect(ids).toEqual([...inOrder(ids5), ...inOrder(ids3)]);
  for (const id of ids) expect(id).toMatch(/^MQTT3?-\d+(\.\d+){1,2}-\d+$/);
});

test('every summary fits on a line', () => {
  for (const { summary } of loadStatements()) {
    expect(summary.length).toBeLessThanOrEqual(140);
    expect(summary).toBe(summary.trim());
  }
});

test('the allow-list is in the order of the statements', () => {
  const allowed = new Set(loadAllowList().map(({ id }) => id));
  const expected = loadStatements().filter(({ id }) => allowed.has(id));

  expect([...allowed]).toEqual(expected.map(({ id }) => id));
});

test('ids count in titles of test and it: strings, templates, concatenations and each', () => {
  const source = [
    "test('[MQTT-1] a string', () => {});",
    'it("[MQTT3-2] double quotes", () => {});',
    'test(`[MQTT-3] version ${version} [MQTT3-4]`, () => {});',
    "test('[MQTT-5] joined ' + 'with [MQTT-6]', () => {});",
    "test.each([['a', 1]])('[MQTT-7] %s', () => {});",
    "test.each`a\n${1}`('[MQTT-8] $a', () => {});",
    "describe('a group', () => { test.concurrent('[MQTT-9] nested', () => {}); });",
    "test('[MQTT-10, MQTT-11][MQTT-12] several', () => {});",
  ].join('\n');

  expect(citedIds(source)).toEqual([
    ...['MQTT-1', 'MQTT3-2', 'MQTT-3', 'MQTT3-4', 'MQTT-5', 'MQTT-6'],
    ...['MQTT-7', 'MQTT-8', 'MQTT-9', 'MQTT-10', 'MQTT-11', 'MQTT-12'],
  ]);
});

test('ids in comments, groups, tables, bodies and skipped tests do not count', () => {
  const source = [
    '// [MQTT-1] test("[MQTT-2]", f)',
    "/* test('[MQTT-3]', f) */",
    "describe('[MQTT-4] a group', () => {});",
    "test.each([['[MQTT-5]', 1]])('%s', () => {});",
    "test('no id' /* [MQTT-6] */, () => { expect('[MQTT-7]').toBe(\"test('[MQTT-8]')\"); });",
    "test.skip('[MQTT-9]', () => {}); test.todo('[MQTT-10]'); xtest('[MQTT-11]', () => {});",
    "test.failing('[MQTT-12]', () => {}); test.skip.each([1])('[MQTT-13]', () => {});",
    "describe.skip('off', () => { test('[MQTT-14]', () => {}); });",
    "pattern.test('[MQTT-15]' === x);",
  ].join('\n');

  expect(citedIds(source)).toEqual([]);
});

test('a misspelt or interpolated id comes out as one that does not exist', () => {
  expect(citedIds("test('[MQTT-3.1.2.7] dot for dash', f)")).toEqual(['MQTT-3.1.2.7']);
  expect(citedIds('test(`[MQTT-3.1.2-${n}] computed`, f)')).toEqual(['MQTT-3.1.2-${…}']);
});

test('a cited id that does not exist is a problem', () => {
  expect(problems({ citations: [['MQTT-1', 'MQTT-9']] })).toEqual([
    'file0.test.ts: a test title cites MQTT-9, which does not exist',
  ]);
});

test('a statement on servers without citation or entry is a problem, one on clients is not', () => {
  const statements = [
    statement('MQTT-1', 'server'),
    statement('MQTT-2', 'client'),
    statement('MQTT-3', 'both'),
  ];

  expect(problems({ statements })).toEqual([
    'no test title cites MQTT-1: summary of MQTT-1',
    'no test title cites MQTT-3: summary of MQTT-3',
  ]);
  expect(problems({ statements, allowed: ['MQTT-3'], citations: [['MQTT-1']] })).toEqual([]);
});

test('the allow-list can only shrink: an entry that is cited, unknown, repeated or needless is a problem', () => {
  const statements = [statement('MQTT-1', 'server'), statement('MQTT-2', 'client')];

  expect(problems({ statements, allowed: ['MQTT-1'], citations: [['MQTT-1']] })).toEqual([
    'allow-list.txt: MQTT-1 is cited in file0.test.ts; delete the entry',
  ]);
  expect(problems({ statements, allowed: ['MQTT-1', 'MQTT-9', 'MQTT-1', 'MQTT-2'] })).toEqual([
    'allow-list.txt: MQTT-9 does not exist',
    'allow-list.txt: MQTT-1 is listed twice',
    'allow-list.txt: MQTT-2 binds clients only and needs no entry',
  ]);
});

function problems({
  statements = [statement('MQTT-1', 'server')],
  allowed = [],
  citations = [],
}: {
  statements?: Statement[];
  allowed?: string[];
  citations?: string[][];
}): string[] {
  return coverageProblems({
    statements,
    allowList: allowed.map((id) => ({ id, reason: 'a reason' })),
    citations: new Map(citations.map((ids, index) => [`file${index}.test.ts`, ids])),
  });
}

function statement(id: string, binds: Statement['binds']): Statement {
  return { id, binds, summary: `summary of ${id}` };
}

/** Sorts without repetitions, numbers as numbers: 3.1.2-9 before 3.1.2-10, 3.9 before 3.10. */
function inOrder(ids: string[]): string[] {
  const collator = new Intl.Collator('en', { numeric: true });
  return [...new Set(ids)].sort(collator.compare);
}

/** The test files of the repository, relative to its root. */
function testFiles(): string[] {
  const packages = readdirSync(join(root, 'packages')).map((name) =>
    join('packages', name, 'test'),
  );
  const folders = ['test', ...packages].filter((folder) => existsSync(join(root, folder)));
  return folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile() && entry.name.endsWith('.test.ts'))
      .map((entry) => relative(root, join(entry.parentPath, entry.name))),
  );
}

function readText(file: string): string {
  return readFileSync(join(root, file), 'utf8');
}
