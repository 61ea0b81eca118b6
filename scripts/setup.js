// What `npm start`, `npm test` and `npm run cluster` do first, on a machine that has only Node.js and npm.

import { spawnSync } from 'node:child_process';
import {
  accessSync,
  constants,
  existsSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The directory of the repository. */
export const root = fileURLToPath(new URL('..', import.meta.url));

const POLICY_FILE = '/usr/sbin/policy-rc.d';

/** Ends the process with one line when this Node.js is older than package.json asks for. */
export function requireNode() {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const [major, minor] = engines.node.replace('>=', '').split('.').map(Number);
  const [ownMajor, ownMinor] = process.versions.node.split('.').map(Number);
  if (ownMajor > major || (ownMajor === major && ownMinor >= minor)) return;
  fail(`Shoal needs Node.js ${engines.node}; this is ${process.versions.node}.`);
}

/** Installs the npm packages of the lock file unless that was done since the lock file last changed. */
export function installPackages() {
  const lockFile = join(root, 'package-lock.json');
  // npm writes this file at the end of every installation.
  const installed = join(root, 'node_modules/.package-lock.json');
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lockFile).mtimeMs) return;
  say('Installing npm packages ...');
  const args = ['ci', '--ignore-scripts', '--include=dev', '--no-audit', '--no-fund'];
  const { ok, output } = run('npm', args, { shell: process.platform === 'win32' });
  if (!ok) fail(`npm ${args.join(' ')} failed.`, output);
}

/**
 * Compiles what changed, of the project at `path` and of those it refers to; `.` is everything, and type-checks the
 * tests too.
 *
 * @returns whether all is well; if not, the compiler's messages are printed.
 */
export function build(path) {
  const compiler = join(root, 'node_modules/@typescript/native/bin/tsc');
  const { ok, output } = run(process.execPath, [compiler, '-b', path]);
  if (!ok) say(output.trim());
  return ok;
}

/**
 * Installs Debian packages that are missing, where that is possible: as root, with apt-get. The services that come
 * with a package are neither started nor left enabled.
 *
 * @param packages Debian package to what it is needed for: `command`, or a module `pythonModule` of Debian's Python
 * @returns one line that says what is still to be installed, or undefined.
 */
export function installSystemPackages(packages) {
  const missing = () => Object.keys(packages).filter((name) => !isThere(packages[name]));
  const wanted = missing();
  if (wanted.length > 0 && process.getuid?.() === 0 && hasCommand('apt-get')) {
    say(`Installing ${wanted.join(', ')} ...`);
    const output = aptInstall(wanted);
    if (missing().length > 0) say(output.trim());
  }
  const left = missing();
  if (left.length === 0) return undefined;
  const wishes = left.map((name) => packages[name].command ?? packages[name].pythonModule);
  return `Please install ${wishes.join(' and ')}; on Debian: sudo apt-get install ${left.join(' ')}`;
}

/** The PATH in which those packages have their commands: daemons are in directories that only root has in its own. */
export function commandPath() {
  const own = process.env.PATH ?? '';
  return [own, '/usr/local/sbin', '/usr/sbin', '/sbin'].join(delimiter);
}

/**
 * Calls back when the npm that runs this script has ended: a SIGTERM for npm ends npm and its shell, and does not
 * reach us; what we notice is another parent.
 *
 * @param script the script's name in package.json
 */
export function whenNpmEnds(script, callback) {
  if (process.env.npm_lifecycle_event !== script) return;
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    callback();
  }, 250);
}

/** Prints for the user; standard output stays free for the program. */
export function say(text) {
  console.error(text);
}

/** Ends the process with a message, and the output of the command that failed. */
export function fail(message, output = '') {
  if (output) say(output.trim());
  say(message);
  process.exit(1);
}

function aptInstall(names) {
  const options = ['-q', '-y', '-o', 'Acquire::Retries=1', '-o', 'Acquire::http::Timeout=20'];
  const apt = (...args) =>
    run('apt-get', [...options, ...args], {
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
      timeout: 300_000,
    });

  // Debian asks this program before it starts a service; 101 means no. Somebody else's answer stays.
  const ownPolicy = !existsSync(POLICY_FILE);
  if (ownPolicy) writeFileSync(POLICY_FILE, '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  try {
    const update = apt('update');
    const install = apt('install', '--no-install-recommends', ...names);
    if (existsSync('/run/systemd/system')) {
      // A package that has no service of its name makes this fail, which is fine.
      for (const name of names) run('systemctl', ['disable', '--now', name]);
    }
    return install.ok ? install.output : update.output + install.output;
  } finally {
    if (ownPolicy) rmSync(POLICY_FILE, { force: true });
  }
}

function isThere({ command, pythonModule }) {
  if (command !== undefined) return hasCommand(command);
  return run('/usr/bin/python3', ['-c', `import ${pythonModule}`]).ok;
}

function hasCommand(command) {
  return commandPath()
    .split(delimiter)
    .some((directory) => {
      try {
        accessSync(join(directory, command), constants.X_OK);
        return true;
      } catch {
        return false;
      }
    });
}

/** Runs a command to its end and keeps quiet about it. */
function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 64 * 1024 * 1024,
    ...options,
  });
  const output = `${stdout ?? ''}${stderr ?? ''}${error ? `${error.message}\n` : ''}`;
  return { ok: status === 0, output };
}
