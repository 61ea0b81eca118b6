// `npm test`: installs what is needed, builds, and runs the tests of packages and of the whole that fit into five
// minutes. `npm run test:cluster` (`--cluster`): likewise the long ones on real clusters.
// Arguments go to jest: npm test -- packages/core
// The last line says how many tests passed and failed.

import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, installPackages, installSystemPackages, requireNode, root, say } from './setup.js';

const PROJECT_TIMEOUT_MS = 30 * 60_000;

const [first, ...others] = process.argv.slice(2);
const [projects, jestArgs] =
  first === '--cluster' ? [['cluster'], others] : [['unit', 'integration'], process.argv.slice(2)];

requireNode();
installPackages();
const hint = installSystemPackages({
  mosquitto: { command: 'mosquitto' },
  'mosquitto-clients': { command: 'mosquitto_pub' },
  'python3-paho-mqtt': { pythonModule: 'paho.mqtt.client' },
  'redis-server': { command: 'redis-server' },
  haproxy: { command: 'haproxy' },
});
if (hint) say(hint);

const total = build('.') ? runAll() : { passed: 0, failed: 1 };
if (total.passed + total.failed === 0) {
  say('No test matches.');
  total.failed = 1;
}
if (hint) say(hint);
console.log(`${total.passed} passed, ${total.failed} failed`);
process.exitCode = total.failed > 0 ? 1 : 0;

function runAll() {
  const total = { passed: 0, failed: 0 };
  for (const project of projects) {
    const { passed, failed } = runProject(project, jestArgs);
    total.passed += passed;
    total.failed += failed;
  }
  return total;
}

/** Runs one project of jest.config.js and counts its tests. */
function runProject(project, args) {
  const directory = mkdtempSync(join(tmpdir(), 'shoal-test-'));
  const outputFile = join(directory, 'results.json');
  const jest = join(root, 'node_modules/jest/bin/jest.js');
  try {
    const { status } = spawnSync(
      process.execPath,
      [
        jest,
        ...args,
        `--selectProjects=${project}`,
        '--passWithNoTests',
        '--json',
        `--outputFile=${outputFile}`,
      ],
      {
        cwd: root,
        stdio: ['ignore', 'inherit', 'inherit'],
        timeout: PROJECT_TIMEOUT_MS,
        env: {
          ...process.env,
          NODE_OPTIONS: `${process.env.NODE_OPTIONS ?? ''} --experimental-vm-modules --disable-warning=ExperimentalWarning`,
        },
      },
    );
    const { passed, failed } = countsOf(outputFile);
    // A failure that is no test's, such as a crash or a hang, is one too.
    return { passed, failed: status === 0 ? failed : Math.max(failed, 1) };
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** The counts in jest's results. A file of tests that did not even load counts as one failed test. */
function countsOf(outputFile) {
  try {
    const results = JSON.parse(readFileSync(outputFile, 'utf8'));
    return {
      passed: results.numPassedTests,
      failed: results.numFailedTests + results.numRuntimeErrorTestSuites,
    };
  } catch {
    return { passed: 0, failed: 1 };
  }
}
