import { readdirSync } from 'node:fs';
import js from '@eslint/js';
import { createNodeResolver, importX } from 'eslint-plugin-import-x';
import { defineConfig, globalIgnores } from 'eslint/config';
import ts from 'typescript-eslint';

const root = import.meta.dirname;
const packages = readdirSync(`${root}/packages`);

export default defineConfig(
  globalIgnores(['**/dist/', '**/coverage/']),
  { linterOptions: { reportUnusedDisableDirectives: 'error' } },
  js.configs.recommended,
  {
    plugins: { 'import-x': importX },
    settings: {
      'import-x/extensions': ['.ts', '.js'],
      'import-x/parsers': { '@typescript-eslint/parser': ['.ts'] },
      // Imports of a package resolve to its `src`, as for the type checker and for jest.
      'import-x/resolver-next': [
        createNodeResolver({
          extensions: ['.ts', '.js', '.json'],
          conditionNames: ['@shoalmq/source', 'types', 'import', 'node', 'default'],
        }),
      ],
    },
    rules: {
      eqeqeq: 'error',
      'import-x/no-cycle': 'error',
      'import-x/no-relative-packages': 'error',
    },
  },
  {
    files: ['**/*.ts'],
    extends: [ts.configs.strictTypeChecked, ts.configs.stylisticTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: root } },
    rules: {
      '@typescript-eslint/consistent-type-imports': 'error',
      '@typescript-eslint/no-floating-promises': 'error',
      // A written `default` is a decision; a forgotten case is not.
      '@typescript-eslint/switch-exhaustiveness-check': [
        'error',
        { considerDefaultExhaustiveForUnions: true },
      ],

      // Under noUncheckedIndexedAccess every read of a typed array is `number | undefined`. On the hot path the
      // bound was checked once before the loop, and `!` or `as number` costs nothing where a check would.
      '@typescript-eslint/no-non-null-assertion': 'off',
      '@typescript-eslint/non-nullable-type-assertion-style': 'off',
      // An index loop over an array allocates no iterator, and may meet elements appended meanwhile.
      '@typescript-eslint/prefer-for-of': 'off',
      // Numbers read well in a message; objects, undefined and any still do not.
      '@typescript-eslint/restrict-template-expressions': ['error', { allowNumber: true }],
      // A port is asynchronous by contract; an adapter that has nothing to await still rejects, never throws.
      '@typescript-eslint/require-await': 'off',
      // `() => socket.end()` is a callback whose result nobody reads; `return refuse(packet)` leaves early.
      '@typescript-eslint/no-confusing-void-expression': [
        'error',
        { ignoreArrowShorthand: true, ignoreVoidReturningFunctions: true },
      ],
      // `for (;;)` and `while (true)` are loops that say so.
      '@typescript-eslint/no-unnecessary-condition': [
        'error',
        { allowConstantLoopConditions: 'only-allowed-literals' },
      ],
      // A handler with nothing to do is an answer to the event.
      '@typescript-eslint/no-empty-function': [
        'error',
        { allow: ['arrowFunctions', 'methods', 'overrideMethods'] },
      ],
    },
  },
  {
    files: ['**/*.js'],
    languageOptions: {
      globals: {
        Buffer: 'readonly',
        URL: 'readonly',
        clearInterval: 'readonly',
        clearTimeout: 'readonly',
        console: 'readonly',
        process: 'readonly',
        setInterval: 'readonly',
        setTimeout: 'readonly',
      },
    },
  },

  // What a package imports it declares: its sources in `dependencies`, its tests in `devDependencies` too. The
  // test tools that all packages share come from the root, and the testkit from beside it.
  ...packages.flatMap((name) => [
    {
      files: [`packages/${name}/src/**`],
      rules: noExtraneousDependencies([`${root}/packages/${name}`], {
        // Nothing that is shipped imports these two.
        devDependencies: name === 'bench' || name === 'testkit',
      }),
    },
    {
      files: [`packages/${name}/test/**`],
      rules: noExtraneousDependencies([`${root}/packages/${name}`, root], {
        devDependencies: true,
        whitelist: ['@shoalmq/testkit'],
      }),
    },
  ]),
  {
    // Tests of the whole system meet every package, and what those depend on.
    files: ['test/**', 'scripts/**', '*.js'],
    rules: noExtraneousDependencies([root, ...packages.map((name) => `${root}/packages/${name}`)], {
      devDependencies: true,
      whitelist: packages.map((name) => `@shoalmq/${name}`),
    }),
  },

  {
    files: ['**/*.ts'],
    ignores: ['packages/core/src/**'],
    rules: {
      'no-restricted-imports': [
        'error',
        {
          patterns: [
            {
              regex: '^@shoalmq/[^/]+/.',
              message: 'A package is what its index.ts exports.',
            },
          ],
        },
      ],
    },
  },
  {
    // The core decides from its arguments alone, so that a test, a simulation and another node decide the same.
    files: ['packages/core/src/**'],
    rules: {
      'no-restricted-imports': [
        'error',
        { patterns: [{ regex: '^[^.]', message: 'The core imports nothing but its own files.' }] },
      ],
      'no-restricted-syntax': [
        'error',
        { selector: 'ImportExpression', message: 'The core imports nothing but its own files.' },
      ],
      'no-restricted-properties': [
        'error',
        { object: 'Math', property: 'random', message: 'Use the Random port.' },
      ],
      'no-restricted-globals': [
        'error',
        { name: 'Date', message: 'Time arrives as an argument or through the Clock port.' },
        { name: 'performance', message: 'Time arrives as an argument or through the Clock port.' },
        ...['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask'].map((name) => ({
          name,
          message: 'The core has no timers; it says when it wants to be called.',
        })),
        { name: 'crypto', message: 'Use the Random port.' },
        ...['Buffer', 'console', 'fetch', 'globalThis', 'process'].map((name) => ({
          name,
          message: 'The core knows no environment.',
        })),
      ],
    },
  },
);

/** The rule that checks imports against the `package.json` files of the given directories. */
function noExtraneousDependencies(packageDir, options) {
  return {
    'import-x/no-extraneous-dependencies': [
      'error',
      { packageDir, includeInternal: true, includeTypes: true, ...options },
    ],
  };
}
