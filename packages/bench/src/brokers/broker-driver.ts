/** How the benchmark starts one kind of broker. */
export interface BrokerDriver {
  /** The name of its column. */
  readonly name: string;
  /** Why it cannot be started here; undefined when it can. */
  readonly missing: () => string | undefined;
  /** Its version, for the report. */
  readonly version: () => Promise<string>;
  /** Starts it on a free port of 127.0.0.1; resolves when it accepts connections. */
  readonly start: () => Promise<RunningBroker>;
}

/** A broker that accepts connections. */
export interface RunningBroker {
  readonly port: number;
  /** The process whose CPU time and memory are measured. */
  readonly pid: number;
  readonly stop: () => Promise<void>;
}
