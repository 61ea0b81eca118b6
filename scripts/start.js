// `npm start`: installs, builds and runs a broker. Arguments go to `shoal start`: npm start -- --port 1884

import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { isatty } from 'node:tty';
import { build, fail, installPackages, requireNode, root, whenNpmEnds } from './setup.js';

requireNode();
installPackages();
if (!build('packages/broker')) fail('The build failed.');

const main = join(root, 'packages/broker/dist/main.js');
const broker = spawn(process.execPath, [main, 'start', ...process.argv.slice(2)], {
  stdio: 'inherit',
});

// Ctrl-C reaches the broker without us: a terminal interrupts every process in its foreground. npm passes it on as
// well, and a second interrupt would look like impatience.
const interactive = [0, 1, 2].some((descriptor) => isatty(descriptor));
process.on('SIGINT', () => interactive || broker.kill('SIGINT'));
process.on('SIGTERM', () => broker.kill('SIGTERM'));
process.on('SIGHUP', () => broker.kill('SIGHUP'));

whenNpmEnds('start', () => broker.kill('SIGTERM'));

broker.on('error', (error) => fail(`The broker did not start: ${error.message}`));
broker.on('exit', (code, signal) => {
  if (!signal) process.exit(code);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
