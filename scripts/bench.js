// Builds what is out of date and runs the benchmark: `npm run bench -- --help`.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const path = (relative) => fileURLToPath(new URL(`../${relative}`, import.meta.url));

const compiler = path('node_modules/.bin/tsc');
if (!existsSync(compiler)) {
  process.stderr.write('The dependencies are not installed: run `npm ci` first.\n');
  process.exit(1);
}
const build = spawnSync(process.execPath, [compiler, '-b', 'packages/broker', 'packages/bench'], {
  cwd: path('.'),
  stdio: 'inherit',
});
if (build.status !== 0) process.exit(build.status ?? 1);

const bench = spawn(
  process.execPath,
  [path('packages/bench/dist/main.js'), ...process.argv.slice(2)],
  { stdio: 'inherit' },
);
// The benchmark stops its brokers on these; this process waits for it.
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => bench.kill(signal));
bench.on('exit', (code) => process.exit(code ?? 1));
