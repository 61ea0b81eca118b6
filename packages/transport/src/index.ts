export { listen } from './listener.ts';
export type { Listener, ListenOptions } from './listener.ts';
export type { ByteReceiver } from './socket-channel.ts';
export { startTicker } from './ticker.ts';
export type { Ticker } from './ticker.ts';
