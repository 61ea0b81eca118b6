// `npm run cluster`: a cluster on this machine, to try and to break: a Redis, three nodes, HAProxy in front of them.
// Restarts nothing by itself; Ctrl-C stops everything.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { parseArgs } from 'node:util';
import {
  build,
  commandPath,
  fail,
  installPackages,
  installSystemPackages,
  requireNode,
  root,
  say,
  whenNpmEnds,
} from './setup.js';

const HELP = `Usage: npm run cluster -- [options]

Starts redis-server, three nodes and HAProxy on 127.0.0.1, on free ports unless told otherwise.

  --port N         port of HAProxy, to which clients connect
  --node-port N    MQTT port of the first node; the others have the next two
  --http-port N    port of health and metrics of the first node; the others have the next two
  --redis-port N   port of Redis
`;

const NODES = ['n1', 'n2', 'n3'];
const START_MS_MAX = 30_000;
const STOP_MS_MAX = 10_000;
const POLL_MS = 20;
/** What a log line has anyway, or what says nothing behind a balancer. */
const UNSHOWN = new Set(['level', 'time', 'event', 'msg', 'remoteAddress']);

const options = readOptions();
requireNode();
installPackages();
const hint = installSystemPackages({
  'redis-server': { command: 'redis-server' },
  haproxy: { command: 'haproxy' },
});
if (hint) fail(hint);
if (!build('packages/broker')) fail('The build failed.');

const directory = mkdtempSync(join(tmpdir(), 'shoal-cluster-'));
/** What runs, in the order in which it was started. */
const running = [];
let ready = false;
let stopping;

for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, () => stop(0));
whenNpmEnds('cluster', () => stop(0));

try {
  await start();
} catch (error) {
  if (!stopping) say(error.message);
  await stop(1);
}

async function start() {
  await requireFree(chosenPorts());
  const ports = await freePorts(2 + NODES.length);
  const redisPort = options['redis-port'] ?? ports.pop();
  const port = options.port ?? ports.pop();
  const url = `redis://127.0.0.1:${redisPort}`;

  const redis = launch('redis', 'redis-server', [
    ...['--port', redisPort, '--bind', '127.0.0.1', '--dir', directory],
    ...['--appendonly', 'yes', '--save', '', '--maxmemory-policy', 'noeviction'],
  ]);
  await answers(redis, redisPort, 'PING\r\n');

  const nodes = await Promise.all(
    NODES.map((name, index) =>
      startNode(name, {
        url,
        port: options['node-port'] === undefined ? 0 : options['node-port'] + index,
        httpPort: options['http-port'] === undefined ? ports[index] : options['http-port'] + index,
      }),
    ),
  );

  const file = join(directory, 'haproxy.cfg');
  writeFileSync(file, balancerConfig(port, nodes));
  const haproxy = launch('haproxy', 'haproxy', ['-db', '-f', file], (line) => {
    tell('haproxy', line);
  });
  await answers(haproxy, port);
  console.log(introduction({ haproxy, port, redis, url, nodes }));
  ready = true;
}

/** Starts a node and waits until it is part of the cluster and listens. */
async function startNode(name, { url, port, httpPort }) {
  const args = (ownPort) => [
    ...['start', '--node-id', name, '--port', ownPort, '--http-port', httpPort],
    ...['--redis', url, '--peer-port', 0],
  ];
  const main = join(root, 'packages/broker/dist/main.js');
  let listens;
  const listening = new Promise((resolve) => {
    listens = resolve;
  });
  // The level at which a node says which clients it has.
  const flags = ['--log-level', 'debug', '--set', 'log.format=json'];
  const node = launch(name, process.execPath, [main, ...args(port), ...flags], (line) => {
    const entry = parsed(line);
    if (entry?.event === 'broker.listening') listens(Number(entry.mqtt.split(':').at(-1)));
    else if (entry) tell(name, described(entry, name));
  });
  const ownPort = await Promise.race([listening, node.ended, tooLate()]);
  if (typeof ownPort !== 'number') throw new Error(`${name} did not start:\n${node.output()}`);
  node.again = `node packages/broker/dist/main.js ${args(ownPort).join(' ')}`;
  return { name, pid: node.pid, port: ownPort, httpPort };
}

/** The example for production, with the addresses of this cluster. */
function balancerConfig(port, nodes) {
  const servers = nodes.map(
    (node) => `    server ${node.name} 127.0.0.1:${node.port} port ${node.httpPort}\n`,
  );
  return readFileSync(join(root, 'deploy/haproxy/haproxy.cfg'), 'utf8')
    .replace(/^ +bind .*$/m, `    bind 127.0.0.1:${port}`)
    .replace(/^(?: +server .*\n)+/m, servers.join(''));
}

function introduction({ haproxy, port, redis, url, nodes }) {
  return `
A cluster of three nodes on this machine. Clients connect to HAProxy, on 127.0.0.1:${port}.

  haproxy  pid ${haproxy.pid}  mqtt 127.0.0.1:${port}
  redis    pid ${redis.pid}  ${url}
${nodes.map((node) => `  ${node.name}       pid ${node.pid}  mqtt 127.0.0.1:${node.port}  health and metrics http://127.0.0.1:${node.httpPort}`).join('\n')}

Try it, in two other terminals:
  mosquitto_sub -p ${port} -i me -c -q 1 -t 'hello/#' -v
  mosquitto_pub -p ${port} -q 1 -t hello/world -m hi
Below it says which node has the client "me". End that one as a crash does, then publish again:
  kill -9 PID     one of ${nodes.map(({ name, pid }) => `${pid} (${name})`).join(', ')}
"me" comes back on another node, where its session waits with what was published meanwhile.
Redis and HAProxy keep their files in ${directory}.
Ctrl-C here stops everything and removes them.
`;
}

/**
 * Starts a program. It gets a process group of its own, so that Ctrl-C reaches it through `stop` only, in order.
 *
 * @param onLine gets each line of standard output
 */
function launch(name, command, args, onLine = () => {}) {
  if (stopping) throw new Error('stopping');
  const child = spawn(command, args.map(String), {
    cwd: root,
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PATH: commandPath() },
  });
  const last = [];
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      if (last.push(line) > 20) last.shift();
      if (stream === child.stdout) onLine(line);
    });
  }
  child.on('error', (error) => last.push(error.message));
  const one = {
    name,
    pid: child.pid,
    child,
    ended: new Promise((resolve) => {
      child.on('close', () => resolve());
    }),
    output: () => last.join('\n'),
  };
  running.push(one);
  child.on('exit', (code, signal) => {
    tell(name, `pid ${child.pid} ended (${signal ?? `exit code ${code}`})`);
    if (one.again) tell(name, `to start it again, in another terminal: ${one.again}`);
  });
  return one;
}

/** Prints what somebody has to say while the cluster runs. */
function tell(name, text) {
  if (ready && !stopping) console.log(`${name}: ${text}`);
}

/** Stops everything, nodes before what they need, and ends this process. Later calls change nothing. */
function stop(exitCode) {
  stopping ??= (async () => {
    const end = async ({ child, ended }) => {
      if (child.pid === undefined) return;
      const timer = setTimeout(() => child.kill('SIGKILL'), STOP_MS_MAX);
      child.kill('SIGTERM');
      await ended;
      clearTimeout(timer);
    };
    const isNode = ({ name }) => NODES.includes(name);
    await Promise.all(running.filter(isNode).map(end));
    await Promise.all(running.filter((one) => !isNode(one)).map(end));
    rmSync(directory, { recursive: true, force: true });
    process.exit(exitCode);
  })();
  return stopping;
}

/** Waits until something answers a line on a port or, without a line, takes connections there. */
async function answers(one, port, line) {
  let over = false;
  const late = Promise.race([one.ended, tooLate()]).then(() => {
    over = true;
  });
  const attempt = async () => {
    const socket = connect({ host: '127.0.0.1', port });
    try {
      await once(socket, 'connect');
      if (line === undefined) return true;
      socket.write(line);
      await once(socket, 'data');
      return true;
    } catch {
      return false;
    } finally {
      socket.destroy();
    }
  };
  while (!(await Promise.race([attempt(), late]))) {
    if (over) throw new Error(`${one.name} did not start:\n${one.output()}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}

function tooLate() {
  return new Promise((resolve) => {
    setTimeout(resolve, START_MS_MAX).unref();
  });
}

/** The ports that the options ask for, each with the option. */
function chosenPorts() {
  return Object.entries(options).flatMap(([name, first]) => {
    const count = ['node-port', 'http-port'].includes(name) ? NODES.length : 1;
    return Array.from({ length: count }, (_, index) => ({ name, port: first + index }));
  });
}

/** Somebody else's Redis on our port would answer like our own. */
async function requireFree(chosen) {
  for (const { name, port } of chosen) {
    const server = createServer().listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch (error) {
      throw new Error(`--${name}: cannot listen on 127.0.0.1:${port}: ${error.code}`, {
        cause: error,
      });
    }
    await once(server.close(), 'close');
  }
}

/** Ports of 127.0.0.1 that were free a moment ago. */
async function freePorts(count) {
  const servers = Array.from({ length: count }, () => createServer().listen(0, '127.0.0.1'));
  await Promise.all(servers.map((server) => once(server, 'listening')));
  const ports = servers.map((server) => server.address().port);
  await Promise.all(servers.map((server) => once(server.close(), 'close')));
  return ports;
}

function parsed(line) {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}

/** A log entry as people read it; text from clients keeps its quotes and escapes. */
function described(entry, name) {
  const fields = Object.entries(entry).filter(
    ([key, value]) => !UNSHOWN.has(key) && !(key === 'nodeId' && value === name),
  );
  return [entry.msg, ...fields.map(([key, value]) => `${key}=${JSON.stringify(value)}`)].join(' ');
}

function readOptions() {
  const names = ['port', 'node-port', 'http-port', 'redis-port'];
  let values;
  try {
    const flags = Object.fromEntries(names.map((name) => [name, { type: 'string' }]));
    ({ values } = parseArgs({ options: { ...flags, help: { type: 'boolean' } } }));
  } catch (error) {
    fail(`${error.message}\n\n${HELP}`);
  }
  if (values.help) {
    console.log(HELP);
    process.exit();
  }
  for (const name of names.filter((name) => values[name] !== undefined)) {
    const number = Number(values[name]);
    if (!(Number.isInteger(number) && number >= 1 && number <= 65_533)) {
      fail(`--${name} is a port: 1 to 65533`);
    }
    values[name] = number;
  }
  return values;
}
