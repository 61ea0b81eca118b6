import { createServer } from 'node:http';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { CLUSTER_API, answerClusterApi, isLocalRequest, refusal } from './cluster-api.ts';
import type { ApiAnswer, ClusterSource } from './cluster-api.ts';
import type { Metrics } from '../telemetry/metrics.ts';

/** One answer about the state of a node, with what to tell whoever looks at it. */
export interface Health {
  readonly ok: boolean;
  /** A sentence without secrets: `listening`, `waiting for the store`. */
  readonly reason: string;
}

/** What the probes ask. Answers come from memory at once: a probe must not wait for the store. */
export interface HealthSource {
  /** The process can go on. Never depends on anything outside: a restart would not repair that. */
  isLive(): Health;
  /** Joined, listening and not draining: new clients are welcome. */
  isReady(): Health;
  /** The start is over; until then liveness is not asked. */
  isStarted(): Health;
  isDraining(): boolean;
}

export interface OpsServerOptions {
  readonly host: string;
  /** 0: chosen by the operating system. */
  readonly port: number;
  readonly health: HealthSource;
  readonly metrics: Metrics;
  /** Who answers questions about the cluster, once the node has joined it. */
  readonly cluster?: () => ClusterSource | undefined;
  /** Whether these may come from other machines. @default false */
  readonly remoteAdmin?: boolean;
  /** Told when a scrape failed; the scraper only sees 500. */
  readonly onError?: ((error: unknown) => void) | undefined;
}

export interface OpsServer {
  readonly host: string;
  readonly port: number;
  /** Ends every connection and stops listening. */
  close(): Promise<void>;
}

/** Connections at a time. A prober uses one; more than this is a mistake or an attack. */
const CONNECTIONS_MAX = 256;
const HEADER_BYTES_MAX = 8_192;
const HEADERS_TIMEOUT_MS = 5_000;
/** Also how long an idle connection is kept: short, so that idle ones cannot keep probes out. */
const IDLE_TIMEOUT_MS = 5_000;

/**
 * Starts the operations port: `/livez`, `/readyz`, `/startupz`, `/lb`, `/metrics`, and questions about the cluster
 * (see `answerClusterApi`).
 *
 * Health answers are 200 or 503 with `{ "status", "reason" }`. `/lb` is for balancers: 200 takes connections, 404
 * (draining) keeps those it has, 503 is not ready. GET and HEAD only, and no request bodies. Scrapes that overlap
 * share one answer.
 *
 * Rejects with the error of the operating system (`EADDRINUSE`, ...) when it cannot listen.
 */
export async function startOpsServer(options: OpsServerOptions): Promise<OpsServer> {
  const { health, metrics, cluster, remoteAdmin = false, onError } = options;
  let scrape: Promise<string> | undefined;

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    if (request.method !== 'GET' && request.method !== 'HEAD') {
      response.setHeader('allow', 'GET, HEAD');
      send(response, 405, 'only GET and HEAD');
      return;
    }
    if (hasBody(request)) {
      response.setHeader('connection', 'close');
      send(response, 413, 'no request bodies');
      return;
    }
    const { url = '' } = request;
    if (url.startsWith(CLUSTER_API)) {
      const { status, body } = await clusterAnswer(request, url);
      sendJson(response, status, body);
      return;
    }
    switch (url.split('?', 1)[0]) {
      case '/livez':
        sendHealth(response, health.isLive());
        return;
      case '/readyz':
        sendHealth(response, health.isReady());
        return;
      case '/startupz':
        sendHealth(response, health.isStarted());
        return;
      case '/lb':
        sendBalancerState(response, health);
        return;
      case '/metrics':
        scrape ??= metrics.text().finally(() => {
          scrape = undefined;
        });
        response.setHeader('content-type', metrics.contentType);
        response.end(await scrape);
        return;
      default:
        send(
          response,
          404,
          'not here; see /livez /readyz /startupz /lb /metrics /api/v1/cluster/status',
        );
    }
  }

  async function clusterAnswer(request: IncomingMessage, url: string): Promise<ApiAnswer> {
    if (!remoteAdmin && !isLocalRequest(request)) {
      return refusal(403, 'only from this machine, by address; see http.remoteAdmin');
    }
    return answerClusterApi(new URL(url, 'http://localhost'), cluster?.());
  }

  const server = createServer(
    {
      maxHeaderSize: HEADER_BYTES_MAX,
      headersTimeout: HEADERS_TIMEOUT_MS,
      requestTimeout: HEADERS_TIMEOUT_MS,
      keepAliveTimeout: IDLE_TIMEOUT_MS,
      connectionsCheckingInterval: 1_000,
    },
    (request, response) => {
      response.setHeader('cache-control', 'no-store');
      respond(request, response).catch((error: unknown) => {
        onError?.(error);
        if (response.headersSent) response.destroy();
        else send(response, 500, 'there is no answer');
      });
    },
  );
  server.maxConnections = CONNECTIONS_MAX;
  // A connection that says nothing at all, or does not read its answer, ends too.
  server.setTimeout(2 * IDLE_TIMEOUT_MS, (socket: Socket) => {
    socket.destroy();
  });
  server.on('clientError', (_error, socket) => {
    if (socket.writable) socket.end('HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n');
    else socket.destroy();
  });

  await listen(server, options);
  server.on('error', (error) => onError?.(error));
  const { address, port } = server.address() as AddressInfo;
  return {
    host: address,
    port,
    close: () =>
      new Promise((resolve) => {
        server.close(() => {
          resolve();
        });
        server.closeAllConnections();
      }),
  };
}

function listen(server: Server, { host, port }: OpsServerOptions): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port }, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function hasBody({ headers }: IncomingMessage): boolean {
  return headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) !== 0;
}

function sendHealth(response: ServerResponse, { ok, reason }: Health): void {
  sendJson(response, ok ? 200 : 503, { status: ok ? 'ok' : 'unavailable', reason });
}

function sendBalancerState(response: ServerResponse, health: HealthSource): void {
  if (health.isDraining()) {
    sendJson(response, 404, { status: 'draining', reason: 'no new connections, please' });
    return;
  }
  sendHealth(response, health.isReady());
}

function sendJson(response: ServerResponse, status: number, body: object): void {
  response.statusCode = status;
  response.setHeader('content-type', 'application/json');
  response.end(`${JSON.stringify(body)}\n`);
}

function send(response: ServerResponse, status: number, text: string): void {
  response.statusCode = status;
  response.setHeader('content-type', 'text/plain; charset=utf-8');
  response.end(`${text}\n`);
}
