// Builds what is out of date and runs the benchmark: `npm run bench -- --help`.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const build = spawnSync('npx', ['tsc', '-b', 'packages/broker', 'packages/bench'], {
  cwd: root,
  stdio: 'inherit',
});
if (build.status !== 0) process.exit(build.status ?? 1);

// The benchmark ends itself and its brokers on these; this process only waits for it.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => undefined);
const { spawn } = await import('node:child_process');
const bench = spawn(
  process.execPath,
  [
    fileURLToPath(new URL('../packages/bench/dist/main.js', import.meta.url)),
    ...process.argv.slice(2),
  ],
  { stdio: 'inherit' },
);
bench.on('exit', (code) => process.exit(code ?? 1));
