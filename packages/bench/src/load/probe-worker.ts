import { parentPort, workerData } from 'node:worker_threads';

import { nowUs } from '../clock.ts';
import { RawClient } from '../raw-client.ts';
import type { PacketSink } from '../raw-client.ts';
import { encodePublish, PINGREQ } from '../wire.ts';
import type { ProtocolLevel } from '../wire.ts';

/** What the probe is started with. */
export interface ProbeRequest {
  readonly port: number;
  readonly level: ProtocolLevel;
}

/** The longest waits that the probe met. */
export interface ProbeReport {
  readonly pingMaxUs: number;
  readonly echoMaxUs: number;
}

const INTERVAL_MS = 2;

// A thread of its own: its event loop is not held up by a generator that is busy receiving.
const { port, level } = workerData as ProbeRequest;
const echo = encodePublish({ topic: 'probe/echo', payloadBytes: 16, qos: 0, level });
let pingMaxUs = 0;
let echoMaxUs = 0;
let pingSentUs = 0;
let echoSentUs = 0;

const sink: PacketSink = {
  packet(_view, firstByte) {
    if (firstByte === 0xd0 && pingSentUs > 0) {
      pingMaxUs = Math.max(pingMaxUs, nowUs() - pingSentUs);
      pingSentUs = 0;
    } else if (firstByte >>> 4 === 3 && echoSentUs > 0) {
      echoMaxUs = Math.max(echoMaxUs, nowUs() - echoSentUs);
      echoSentUs = 0;
    }
  },
  readEnd: () => undefined,
};

const options = { port, level, keepAliveSeconds: 600, sink };
// Two connections, so that neither answer waits for the other.
const pinger = await RawClient.connect({ ...options, clientId: 'pinger' });
const echoer = await RawClient.connect({ ...options, clientId: 'echoer' });
await echoer.subscribe(['probe/echo'], 0);

const timer = setInterval(() => {
  if (pingSentUs === 0) {
    pingSentUs = nowUs();
    pinger.write(PINGREQ);
  }
  if (echoSentUs === 0) {
    echoSentUs = nowUs();
    echoer.write(echo.bytes);
  }
}, INTERVAL_MS);

parentPort?.once('message', () => {
  clearInterval(timer);
  // What is still unanswered has waited at least this long.
  if (pingSentUs > 0) pingMaxUs = Math.max(pingMaxUs, nowUs() - pingSentUs);
  if (echoSentUs > 0) echoMaxUs = Math.max(echoMaxUs, nowUs() - echoSentUs);
  pinger.end();
  echoer.end();
  const report: ProbeReport = { pingMaxUs, echoMaxUs };
  parentPort?.postMessage(report);
  parentPort?.close();
});
parentPort?.postMessage('ready');
