#!/usr/bin/env node
import { readFileSync } from 'node:fs';
import { mainCommand } from './cli/main-command.ts';

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
