import { expect, test } from '@jest/globals';
import { readFileSync, readdirSync } from 'node:fs';
import ts from 'typescript';

/** Which packages of the workspace the sources of a package may import. Nobody else imports testkit and bench. */
const allowedPackages: Readonly<Record<string, readonly string[]>> = {
  core: [],
  codec: ['core'],
  transport: ['core', 'codec'],
  'store-memory': ['core'],
  'store-redis': ['core'],
  access: ['core'],
  cluster: ['core'],
  broker: ['core', 'codec', 'transport', 'store-memory', 'store-redis', 'cluster', 'access'],
  testkit: ['core', 'codec', 'transport', 'store-memory', 'access', 'broker'],
  bench: ['core', 'codec', 'transport', 'store-memory', 'access', 'broker', 'testkit'],
};

/** Libraries that stay at home: the packages whose sources may import them. */
const homesOfLibraries: Readonly<Record<string, readonly string[]>> = {
  'mqtt-packet': ['codec', 'testkit'],
  ioredis: ['store-redis', 'bench'],
  mqtt: ['broker', 'testkit', 'bench'],
  zod: ['broker'],
  yaml: ['broker'],
  pino: ['broker'],
  'prom-client': ['broker'],
  '@grpc/grpc-js': ['cluster'],
  protobufjs: [],
};

/** Packages that run anywhere: they import no library and nothing of Node.js. */
const pure: ReadonlySet<string> = new Set(['core']);

const packagesUrl = new URL('../packages/', import.meta.url);

test('the sources of every package import only what the architecture allows', () => {
  const violations = readdirSync(packagesUrl).flatMap((name) =>
    sourceFiles(name).flatMap((file) =>
      forbiddenImports(file, readFileSync(new URL(file, packagesUrl), 'utf8')),
    ),
  );

  expect(violations).toEqual([]);
});

test('every package stands in the table, and every name in the table is a package', () => {
  expect(Object.keys(allowedPackages).sort()).toEqual(readdirSync(packagesUrl).sort());
});

test.each([
  ['core/src/session/will.ts', `import { connect } from 'node:net';`],
  ['core/src/session/will.ts', `import type { Packet } from 'mqtt-packet';`],
  ['core/src/session/will.ts', `const net = await import('node:net');`],
  ['core/src/session/will.ts', `type Socket = import('node:net').Socket;`],
  ['core/src/session/will.ts', `import { encode } from '@shoalmq/codec';`],
  ['core/src/session/will.ts', `import { encode } from '../../../codec/src/encode.ts';`],
  ['core/src/index.ts', `import { will } from '../test/will.ts';`],
  ['codec/src/decode.ts', `export { Listener } from '@shoalmq/transport';`],
  ['codec/src/decode.ts', `import { Message } from '@shoalmq/core/src/message.ts';`],
  ['store-memory/src/index.ts', `import { frame } from '@shoalmq/codec';`],
  ['transport/src/listener.ts', `import { generate } from 'mqtt-packet';`],
  ['transport/src/listener.ts', `import { destination } from 'pino/file';`],
  ['broker/src/main.ts', `import { FakeClock } from '@shoalmq/testkit';`],
  ['testkit/src/index.ts', `import { cases } from '@shoalmq/bench';`],
])('%s may not say: %s', (file, source) => {
  expect(forbiddenImports(file, source)).toHaveLength(1);
});

test.each([
  ['core/src/session/will.ts', `import { Message } from '../message.ts';`],
  ['transport/src/listener.ts', `import { frame } from '@shoalmq/codec';`],
  ['codec/src/decode.ts', `import { parser } from 'mqtt-packet';`],
  ['broker/src/main.ts', `import { createServer } from 'node:http';`],
  ['bench/src/main.ts', `import { ByteClient } from '@shoalmq/testkit';`],
])('%s may say: %s', (file, source) => {
  expect(forbiddenImports(file, source)).toEqual([]);
});

/** The imports of one source that the tables forbid, one line each. `file` is relative to `packages/`. */
function forbiddenImports(file: string, source: string): string[] {
  const [name = ''] = file.split('/');
  return ts
    .preProcessFile(source, true, true)
    .importedFiles.map(({ fileName }) => fileName)
    .filter((specifier) => !isAllowed(name, file, specifier))
    .map((specifier) => `${file} imports ${specifier}`);
}

function isAllowed(name: string, file: string, specifier: string): boolean {
  if (specifier.startsWith('.')) {
    const target = new URL(specifier, new URL(file, packagesUrl));
    return target.href.startsWith(new URL(`${name}/src/`, packagesUrl).href);
  }
  if (specifier.startsWith('@shoalmq/')) {
    return allowedPackages[name]?.includes(specifier.slice('@shoalmq/'.length)) ?? false;
  }
  if (pure.has(name)) return false;
  return homesOfLibraries[libraryOf(specifier)]?.includes(name) ?? true;
}

/** `pino/file` → `pino`, `@scope/name/file` → `@scope/name`. */
function libraryOf(specifier: string): string {
  return specifier.split('/', specifier.startsWith('@') ? 2 : 1).join('/');
}

function sourceFiles(name: string): string[] {
  return readdirSync(new URL(`${name}/src/`, packagesUrl), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => `${name}/src/${file}`);
}
