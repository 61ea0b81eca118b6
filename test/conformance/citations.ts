import ts from 'typescript';
import type { AllowListEntry, Statement } from './statements.ts';

/** What {@link coverageProblems} compares: the lists, and the ids cited in each test file. */
export interface Coverage {
  readonly statements: readonly Statement[];
  readonly allowList: readonly AllowListEntry[];
  /** File name to the ids that its test titles cite. */
  readonly citations: ReadonlyMap<string, readonly string[]>;
}

// A test that does not run, or that is expected to fail, proves nothing.
const unprovenModifiers = new Set(['skip', 'todo', 'failing']);

/**
 * Lists the statement ids cited in the test titles of a TypeScript source, in order, with repetitions.
 *
 * Titles are the first arguments of `test` and `it`, also behind `.each`, `.only` and `.concurrent`: string
 * literals, templates, and concatenations of these. Ids anywhere else (comments, `describe`, tables) and
 * in skipped tests do not count. What stands between `[MQTT-` or `[MQTT3-` and `]` is taken as it is, so that a
 * misspelt or interpolated id comes out as one that does not exist.
 */
export function citedIds(source: string): string[] {
  const ids: string[] = [];
  visit(ts.createSourceFile('source.ts', source, ts.ScriptTarget.Latest));
  return ids;

  function visit(node: ts.Node): void {
    if (ts.isCallExpression(node)) {
      const { name, modifiers } = calleeOf(node.expression);
      const proves = !modifiers.some((modifier) => unprovenModifiers.has(modifier));
      if (name === 'describe' && !proves) return;
      if (name === 'xdescribe') return;
      const title = node.arguments[0];
      if ((name === 'test' || name === 'it') && proves && title) ids.push(...idsIn(textOf(title)));
    }
    ts.forEachChild(node, visit);
  }
}

/**
 * Compares the statements with the citations and the allow-list; one line for each problem, none if all is well.
 *
 * The allow-list can only shrink: an entry is a problem as soon as a test cites its statement.
 */
export function coverageProblems({ statements, allowList, citations }: Coverage): string[] {
  const problems: string[] = [];
  const known = new Map(statements.map((statement) => [statement.id, statement]));
  const citedIn = new Map<string, string>();
  for (const [file, ids] of citations) {
    for (const id of ids) {
      if (!known.has(id)) problems.push(`${file}: a test title cites ${id}, which does not exist`);
      citedIn.set(id, file);
    }
  }

  const allowed = new Set<string>();
  for (const { id } of allowList) {
    const file = citedIn.get(id);
    const statement = known.get(id);
    if (allowed.has(id)) problems.push(`allow-list.txt: ${id} is listed twice`);
    if (!statement) problems.push(`allow-list.txt: ${id} does not exist`);
    if (statement?.binds === 'client') {
      problems.push(`allow-list.txt: ${id} binds clients only and needs no entry`);
    }
    if (file) problems.push(`allow-list.txt: ${id} is cited in ${file}; delete the entry`);
    allowed.add(id);
  }

  for (const { id, binds, summary } of statements) {
    if (binds !== 'client' && !citedIn.has(id) && !allowed.has(id)) {
      problems.push(`no test title cites ${id}: ${summary}`);
    }
  }
  return problems;
}

/** `test.only.each([…])` → `{ name: 'test', modifiers: ['each', 'only'] }`. */
function calleeOf(expression: ts.Expression): { name: string; modifiers: string[] } {
  const modifiers: string[] = [];
  let callee = expression;
  for (;;) {
    if (ts.isPropertyAccessExpression(callee)) {
      modifiers.push(callee.name.text);
      callee = callee.expression;
    } else if (ts.isCallExpression(callee)) {
      callee = callee.expression;
    } else if (ts.isTaggedTemplateExpression(callee)) {
      callee = callee.tag;
    } else {
      return { name: ts.isIdentifier(callee) ? callee.text : '', modifiers };
    }
  }
}

/** The literal text of a title; what is only known at run time reads as `${…}`. */
function textOf(title: ts.Expression): string {
  if (ts.isStringLiteralLike(title)) return title.text;
  if (ts.isTemplateExpression(title)) {
    return (
      title.head.text + title.templateSpans.map((span) => `\${…}${span.literal.text}`).join('')
    );
  }
  if (ts.isBinaryExpression(title)) return textOf(title.left) + textOf(title.right);
  if (ts.isParenthesizedExpression(title)) return textOf(title.expression);
  // The table of `test.each([…])` and the like: no title.
  return '';
}

function idsIn(title: string): string[] {
  return [...title.matchAll(/\[(MQTT3?-[^\]]*)\]/g)].flatMap(([, ids = '']) =>
    ids.split(/[,;\s]+/),
  );
}
