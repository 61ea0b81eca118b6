#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { setFlagsFromString } from 'node:v8';

// Full collections of a heap that is merely quiet: each takes up to 15 ms from clients, and gives back memory that the
// next burst of messages needs again. Before the program is loaded, because loading it schedules the first.
setFlagsFromString('--no-memory-reducer');
const { mainCommand } = await import('./cli/main-command.ts');

// Whoever read our output went away, as `head` does: that is no failure.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const code = await mainCommand(process.argv.slice(2), {
  stdin: process.stdin,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  signals: process,
  readFile: (path) => readFileSync(path, 'utf8'),
  exit: (exitCode) => process.exit(exitCode),
});
// Not before what was printed is out: writes to a pipe are asynchronous.
process.stdout.write('', () => {
  process.exit(code);
});
