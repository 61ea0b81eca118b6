import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import type { Logger } from 'pino';
import { startBrokerProcess } from '../broker-process.ts';
import type { BrokerProcess } from '../broker-process.ts';
import { ConfigError } from '../config/config-error.ts';
import { allowsAnonymous, loadConfig } from '../config/load-config.ts';
import { redact } from '../config/redact.ts';
import type { Config } from '../config/schema.ts';
import { ListenError } from '../listen-error.ts';
import { createLogger } from '../telemetry/logger.ts';
import { VERSION } from '../version.ts';
import { ExitCode } from './terminal.ts';
import type { Terminal } from './terminal.ts';

export const START_HELP = `Usage: shoal start [options]

Starts a broker and runs it until SIGTERM or SIGINT; a second signal ends it at once.

  --config FILE       configuration in YAML (or the environment variable SHOAL_CONFIG)
  --port N            mqtt.port, default 1883; 0: any free port
  --host H            mqtt.host, default 127.0.0.1
  --http-port N       http.port of health and metrics, default 9883; 0: off
  --node-id ID        node.id, default: host name and a random suffix
  --redis URL         cluster.redis, as in redis://host:6379: join the cluster there
  --peer-host H       cluster.peerHost for the other nodes, default 127.0.0.1
  --peer-port N       cluster.peerPort, default 7883; 0: any free port
  --peer-tls-cert F   cluster.peerTlsCert, --peer-tls-key F and --peer-tls-ca F: PEM files for TLS between nodes
  --durability D      cluster.durability: primary (default) or replicated, by --replicas N (default 1)
  --log-level L       log.level: fatal, error, warn, info (default), debug, trace, silent
  --allow-anonymous   let clients without user name connect from other machines too
  --set PATH=VALUE    any setting of docs/configuration.md, as in --set limits.inflightMax=100

Stronger than the file is the environment (SHOAL_MQTT__PORT=1884), stronger still the command line.
`;

/** `shoal start`: resolves with the exit code when the broker has ended. */
export async function startCommand(argv: readonly string[], terminal: Terminal): Promise<number> {
  let config: Config;
  try {
    config = withNodeId(
      loadConfig({ argv, env: terminal.env, readFile: (path) => terminal.readFile(path) }),
    );
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    for (const problem of error.problems) terminal.stderr.write(`shoal: ${problem}\n`);
    return ExitCode.Usage;
  }
  const pretty = isPretty(config, terminal);
  const { logger, flush } = createLogger({
    level: config.log.level,
    format: pretty ? 'pretty' : 'json',
    nodeId: config.node.id,
    destination: terminal.stdout === process.stdout ? undefined : terminal.stdout,
  });
  try {
    logger.info({ event: 'config.loaded', config: redact(config) }, 'configuration');
    await runUntilStopped(config, { logger, flush, terminal, pretty });
    logger.info({ event: 'broker.stopped' }, 'stopped');
    return ExitCode.Ok;
  } catch (error) {
    if (error instanceof ConfigError) {
      for (const problem of error.problems) terminal.stderr.write(`shoal: ${problem}\n`);
      return ExitCode.Usage;
    }
    if (!(error instanceof ListenError)) throw error;
    terminal.stderr.write(`shoal: ${error.message}\n`);
    return ExitCode.Failure;
  } finally {
    flush();
  }
}

/** Runs a broker until a signal or an operator has ended it in good order; the second signal does not wait. */
async function runUntilStopped(config: Config, parts: Parts): Promise<void> {
  const { logger, flush, terminal } = parts;
  const { signals } = terminal;
  const crashed = (error: unknown) => {
    logger.fatal({ event: 'broker.crashed', error }, 'a bug: the process ends');
    flush();
  };
  const starting = new AbortController();
  let running: BrokerProcess | undefined;
  let count = 0;
  const handlers = (['SIGINT', 'SIGTERM'] as const).map((signal): [string, () => void] => [
    signal,
    () => {
      count += 1;
      if (count > 1) {
        flush();
        terminal.exit(signal === 'SIGINT' ? 130 : 143);
        return;
      }
      logger.info({ event: 'broker.stopping', signal }, 'stopping');
      starting.abort();
      // Whoever presses Ctrl-C has no balancer in mind.
      void running?.stop({ balancerDelay: signal !== 'SIGINT' });
    },
  ]);
  for (const [signal, handler] of handlers) signals.on(signal, handler);
  signals.on('uncaughtExceptionMonitor', crashed);
  try {
    running = await startBrokerProcess(config, logger, { signal: starting.signal });
    announce(running, parts);
    if (starting.signal.aborted) void running.stop({ balancerDelay: false });
    await running.stopped;
  } catch (error) {
    if (!starting.signal.aborted || error !== starting.signal.reason) throw error;
  } finally {
    for (const [signal, handler] of handlers) signals.off(signal, handler);
    signals.off('uncaughtExceptionMonitor', crashed);
  }
}

interface Parts {
  readonly logger: Logger;
  readonly flush: () => void;
  readonly terminal: Terminal;
  readonly pretty: boolean;
}

/** Says where the broker listens and what to try: as text for people, as one log line otherwise. */
function announce(
  { broker, ops }: BrokerProcess,
  { logger, flush, terminal, pretty }: Parts,
): void {
  const { host, port, config } = broker;
  const mqtt = `${hostText(host)}:${port}`;
  const http = ops === undefined ? undefined : `http://${hostText(ops.host)}:${ops.port}`;
  const anybody = allowsAnonymous(config);
  const target = [
    ...(['127.0.0.1', '0.0.0.0', '::', '::1'].includes(host) ? [] : [`-h ${host}`]),
    ...(port === 1883 ? [] : [`-p ${port}`]),
    ...(anybody ? [] : ['-u USER -P PASSWORD']),
  ].join(' ');
  const command = (program: string, rest: string) =>
    [program, target, rest].filter((part) => part !== '').join(' ');
  const tryIt = [
    command('mosquitto_sub', "-t 'hello/#' -v"),
    command('mosquitto_pub', '-t hello/world -m hi'),
  ];
  logger.info(
    {
      event: 'broker.listening',
      mqtt,
      ...(http === undefined ? {} : { http }),
      version: VERSION,
      ...(pretty ? {} : { try: tryIt }),
    },
    `listening on ${mqtt}`,
  );
  if (!pretty) return;
  flush(); // log lines are written later otherwise
  const lines = [
    '',
    `Shoal ${VERSION} listens on ${mqtt}${http === undefined ? '' : `; health and metrics on ${http}`}`,
    'Try it:',
    ...tryIt.map((line) => `  ${line}`),
    '',
    '',
  ];
  terminal.stdout.write(lines.join('\n'));
}

function isPretty({ log }: Config, { stdout }: Terminal): boolean {
  return log.format === 'pretty' || (log.format === 'auto' && stdout.isTTY === true);
}

function withNodeId(config: Config): Config {
  if (config.node.id !== '') return config;
  const name = hostname()
    .replace(/[^A-Za-z0-9._-]/g, '-')
    .slice(0, 100);
  return { ...config, node: { ...config.node, id: `${name}-${randomBytes(3).toString('hex')}` } };
}

function hostText(host: string): string {
  return host.includes(':') ? `[${host}]` : host;
}
