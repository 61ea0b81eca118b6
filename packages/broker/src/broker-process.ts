import type { ClusterHealth, ClusterReport } from '@shoalmq/cluster';
import type { NodeReport } from '@shoalmq/core';
import type { Logger } from 'pino';
import { configHash } from './config/config-hash.ts';
import type { Config } from './config/schema.ts';
import { createBroker } from './create-broker.ts';
import type { Broker } from './create-broker.ts';
import type { DrainOptions } from './drain.ts';
import { ListenError, isListenFailure } from './listen-error.ts';
import { startOpsServer } from './ops/http-server.ts';
import type { HealthSource, OpsServer } from './ops/http-server.ts';
import type { StoreFacts } from './store-facts.ts';
import { SysTree } from './sys/sys-topics.ts';
import { createMetrics } from './telemetry/metrics.ts';
import type { Metrics } from './telemetry/metrics.ts';
import { VERSION } from './version.ts';

/** A broker with everything around it that `shoal start` runs. */
export interface BrokerProcess {
  readonly broker: Broker;
  /** `undefined` when `http.port` is 0. */
  readonly ops: OpsServer | undefined;
  /** Resolves when it was stopped, by whomever. */
  readonly stopped: Promise<void>;
  /**
   * Drains (see `Broker.drain`), ends all connections, leaves the cluster, and closes the operations port: the one way
   * to end, for a signal and for an operator. Later calls return the first one's promise.
   */
  stop(options?: DrainOptions): Promise<void>;
}

/** How a start can be watched and given up. */
export interface StartOptions {
  /** Gives up while the node joins its cluster: `startBrokerProcess` rejects with its reason. */
  readonly signal?: AbortSignal;
}

/**
 * Starts the operations port, then the broker, then the `$SYS` topics, and resolves when clients may connect. What
 * happens on the node goes to the log from here.
 *
 * @throws ListenError when a port cannot be opened; nothing keeps running then.
 */
export async function startBrokerProcess(
  config: Config,
  logger: Logger,
  { signal }: StartOptions = {},
): Promise<BrokerProcess> {
  const parts: { health?: () => ClusterHealth; broker?: Broker; metrics?: Metrics } = {};
  let stopping: Promise<void> | undefined;

  const health: HealthSource = {
    isLive: () => ({ ok: true, reason: 'the event loop turns' }),
    isReady: () => {
      if (stopping !== undefined) return { ok: false, reason: 'stopping' };
      const { ready, problems } = parts.health?.() ?? { ready: false, problems: [] };
      const text = problems.join('; ');
      if (ready && parts.broker !== undefined) {
        return { ok: true, reason: text === '' ? 'listening' : `listening, although ${text}` };
      }
      return { ok: false, reason: text === '' ? 'starting' : text };
    },
    isStarted: () =>
      parts.broker === undefined
        ? { ok: false, reason: 'starting' }
        : { ok: true, reason: 'started' },
    // A balancer that is told 503 may cut the clients that are here.
    isDraining: () => stopping !== undefined || parts.health?.().passing === true,
  };
  const { http } = config;
  const ops =
    http.port === 0
      ? undefined
      : await startOpsServer({
          host: http.host,
          port: http.port,
          health,
          metrics: {
            contentType: 'text/plain; version=0.0.4; charset=utf-8',
            text: () => parts.metrics?.text() ?? Promise.resolve(''),
          },
          cluster: () => {
            const { broker } = parts;
            return (
              broker && {
                status: () => broker.clusterOverview(),
                explain: (message, listMax) => broker.explain(message, listMax),
              }
            );
          },
          remoteAdmin: http.remoteAdmin,
          onError: (error) => {
            logger.warn({ event: 'ops.failed', error }, 'the operations port failed to answer');
          },
        }).catch((error: unknown) => {
          throw isListenFailure(error) ? new ListenError('http', http, error) : error;
        });

  const started = await createBroker({
    config,
    hooks: {
      disconnected: ({ clientId, remoteAddress }, reason) => {
        logger.debug(
          { event: 'client.disconnected', clientId, remoteAddress, reason },
          'client disconnected',
        );
      },
    },
    report: (report) => {
      logReport(logger, report);
    },
    joining: (of) => {
      parts.health = of;
    },
    ...(signal === undefined ? {} : { signal }),
  }).catch(async (error: unknown) => {
    await ops?.close();
    if (error instanceof ListenError || !isListenFailure(error)) throw error;
    throw new ListenError('mqtt', config.mqtt, error);
  });
  parts.broker = started;
  parts.metrics = createMetrics({
    counters: started.counters,
    levels: () => started.levels(),
    cluster: () => started.clusterMetrics(),
    version: VERSION,
    commit: '',
    configHash: configHash(config),
  });
  const stopSys = startSysTopics(started, config.sys.intervalSeconds, logger);
  logStore(logger, await started.storeFacts());
  let ended: () => void = () => undefined;
  const stopped = new Promise<void>((resolve) => {
    ended = resolve;
  });

  return {
    broker: started,
    ops,
    stopped,
    stop: (options) => {
      stopping ??= (async () => {
        await started.drain(options);
        stopSys();
        await started.close();
        await ops?.close();
        ended();
      })();
      return stopping;
    },
  };
}

/** Publishes the `$SYS` topics now and at each interval; returns what ends that. */
function startSysTopics(broker: Broker, intervalSeconds: number, logger: Logger): () => void {
  if (intervalSeconds === 0) return () => undefined;
  const tree = new SysTree(VERSION, performance.now());
  const update = () => {
    for (const [topic, payload] of tree.update(
      performance.now(),
      broker.counters,
      broker.levels(),
    )) {
      broker.publish({ topic, payload, retain: true }).catch((error: unknown) => {
        logger.warn({ event: 'sys.failed', topic, error }, 'a $SYS topic could not be published');
      });
    }
  };
  update();
  const timer = setInterval(update, intervalSeconds * 1_000);
  return () => {
    clearInterval(timer);
  };
}

/** What "kept" means here, and what in the set-up of the store makes it worth less. */
function logStore(logger: Logger, { mode, durability, replicas, servers, warnings }: StoreFacts) {
  const version = servers[0]?.version;
  logger.info(
    {
      event: 'store.ready',
      ...{ mode, durability },
      ...(replicas === 0 ? {} : { replicas }),
      ...(version === undefined ? {} : { redisVersion: version }),
    },
    mode === 'memory'
      ? 'state is kept in the memory of this process'
      : `state is kept in Redis (${mode}), durability ${durability}${replicas === 0 ? '' : ` by ${replicas}`}`,
  );
  for (const warning of warnings) logger.warn({ event: 'store.warning', warning }, warning);
}

function logReport(logger: Logger, report: NodeReport | ClusterReport): void {
  switch (report.event) {
    case 'client.connected':
      logger.debug(report, 'client connected');
      return;
    case 'connection.closed':
      logger.debug(report, 'connection closed');
      return;
    case 'connection.refused':
      logger.debug(report, 'connection refused');
      return;
    case 'session.taken_over':
      logger.debug(report, 'session taken over');
      return;
    case 'store.failed':
      logger.error(report, 'the store failed');
      return;
    case 'cluster.replaced':
      logger.error(report, 'a later process has the id of this node: this one has to end');
      return;
    case 'cluster.malformed':
      logger.error(report, 'what another node sent could not be read');
      return;
    case 'cluster.suspended':
      logger.warn(report, 'the lease of this node may have ended');
      return;
    case 'cluster.state_replaced':
      logger.warn(
        report,
        'Redis was replaced or rolled back: what this node knows is written again',
      );
      return;
    case 'cluster.retained_lost':
      logger.error(report, 'retained messages are lost with what Redis held');
      return;
    case 'cluster.state_failed':
      logger.warn(report, 'the state of the cluster could not be reached');
      return;
    case 'cluster.peer_down':
      logger.warn(report, 'the link to another node broke');
      return;
    case 'cluster.mismatch':
      logger.error(report, 'routes here and on another node differed: they are loaded again');
      return;
    case 'cluster.unreachable':
      logger.warn(report, 'this node and another one do not reach each other');
      return;
    case 'cluster.peer_late':
      logger.warn(report, 'another node did not take messages in time');
      return;
    case 'cluster.missed':
      logger.warn(report, 'connections ended that may miss messages of another node');
      return;
    case 'cluster.too_large':
      logger.warn(report, 'a message is too large for the link to another node');
      return;
    case 'cluster.refused':
      // As when nodes start and stop, because leases are heard of with a delay.
      logger[
        report.reason === 'not_admitted' || report.reason === 'wrong_receiver' ? 'info' : 'warn'
      ](report, `turned away at the port for nodes: ${report.message}`);
      return;
    case 'cluster.serving':
      logger.info(report, 'this node is part of the cluster');
      return;
    case 'cluster.resumed':
      logger.info(report, 'the lease of this node was renewed');
      return;
    case 'cluster.peer_up':
      logger.info(report, 'another node is linked');
      return;
    case 'cluster.peer_gone':
      logger.info(report, 'another node has no lease any more');
      return;
    case 'cluster.buried':
      logger.info(report, 'a dead node is buried');
  }
}
