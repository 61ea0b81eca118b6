/** Somebody whom events happen to, and who can be stopped without the others noticing at once. */
export class Zone {
  readonly name: string;
  /** What was due while the zone was paused: timers before everything else, as an event loop has it. */
  readonly held: VirtualEvent[] = [];
  paused = false;
  dead = false;
  /** Called after each event, when all that follows from it at once has happened. */
  afterEvent: () => void = () => undefined;

  constructor(name: string) {
    this.name = name;
  }
}

interface VirtualEvent {
  atMs: number;
  order: number;
  readonly zone: Zone;
  readonly label: string;
  readonly run: () => void;
  cancelled: boolean;
}

/** A handle as `setTimeout` and the like return it, as far as anybody uses it. */
interface TimerHandle {
  event: VirtualEvent;
  ref(): TimerHandle;
  unref(): TimerHandle;
}

const TIMER = 'timer';
const START_MS = 1_000_000_000_000;
/** Milliseconds until what a turn defers to its end is run. */
const IMMEDIATE_MS = 0.01;

/**
 * Time that passes from event to event. `install` puts it, and the given randomness, in the place of the globals that
 * tell time and make things happen, so that code which knows nothing of it runs in it; between two events all promises
 * settle. Nothing else makes anything happen: the same events give the same run.
 */
export class VirtualTime {
  readonly outside = new Zone('outside');
  /** Events that have run. */
  events = 0;
  /** Of all events so far, in order: equal for equal runs. */
  traceHash = 0x811c9dc5;
  readonly trace: string[] = [];
  readonly #keepTrace: boolean;
  readonly #queue: VirtualEvent[] = [];
  #nowMs = START_MS;
  #order = 0;
  #zone: Zone = this.outside;

  constructor({ keepTrace = false }: { readonly keepTrace?: boolean } = {}) {
    this.#keepTrace = keepTrace;
  }

  get nowMs(): number {
    return this.#nowMs;
  }

  /** Milliseconds since the start. */
  get elapsedMs(): number {
    return this.#nowMs - START_MS;
  }

  /** Whose event is running. */
  get zone(): Zone {
    return this.#zone;
  }

  /** Makes something happen to a zone after a delay. */
  after(delayMs: number, zone: Zone, label: string, run: () => void): VirtualEvent {
    const atMs = this.#nowMs + Math.max(delayMs, 0);
    const event = { atMs, order: this.#order++, zone, label, run, cancelled: false };
    this.#push(event);
    return event;
  }

  /** Runs something for a zone now, as an event of its own. */
  within<T>(zone: Zone, run: () => T): T {
    const before = this.#zone;
    this.#zone = zone;
    try {
      return run();
    } finally {
      this.#zone = before;
    }
  }

  pause(zone: Zone): void {
    zone.paused = true;
  }

  resume(zone: Zone): void {
    zone.paused = false;
    const held = zone.held.splice(0);
    for (const wanted of [true, false]) {
      for (const event of held) {
        if ((event.label === TIMER) !== wanted) continue;
        this.#push(Object.assign(event, { atMs: this.#nowMs, order: this.#order++ }));
      }
    }
  }

  /** Adds to the hash of the run, and to its trace. */
  note(text: string): void {
    let hash = this.traceHash;
    for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
    this.traceHash = Math.imul(hash ^ Math.round(this.elapsedMs * 1_000), 0x01000193) >>> 0;
    if (this.#keepTrace) this.trace.push(`${this.elapsedMs.toFixed(2).padStart(10)} ${text}`);
  }

  /** Runs what is due within the next `ms`, or until `done`. */
  async run(ms: number, done: () => boolean = () => false): Promise<void> {
    const untilMs = this.#nowMs + ms;
    for (;;) {
      const event = this.#queue[0];
      if (event === undefined || event.atMs > untilMs) break;
      this.#pop();
      if (event.cancelled || event.zone.dead) continue;
      this.#nowMs = event.atMs;
      if (event.zone.paused) {
        event.zone.held.push(event);
        continue;
      }
      this.#zone = event.zone;
      this.events += 1;
      event.run();
      await settled();
      event.zone.afterEvent();
      this.#zone = this.outside;
      if (done()) return;
    }
    this.#nowMs = Math.max(this.#nowMs, untilMs);
  }

  /** Puts this time in the place of the globals. Returns what takes it out again. */
  install(random: () => number): () => void {
    const arm = (delayMs: number, label: string, run: () => void): TimerHandle => {
      const handle: TimerHandle = {
        event: this.after(delayMs, this.#zone, label, run),
        ref: () => handle,
        unref: () => handle,
      };
      return handle;
    };
    const disarm = (handle: TimerHandle | undefined | null): void => {
      if (handle !== undefined && handle !== null) handle.event.cancelled = true;
    };
    const repeat = (run: () => void, delayMs: number): TimerHandle => {
      const handle = arm(delayMs, TIMER, again);
      function again(): void {
        handle.event = arm(delayMs, TIMER, again).event;
        run();
      }
      return handle;
    };
    const replacements: Record<string, unknown> = {
      setTimeout: (run: (...args: unknown[]) => void, delayMs = 0, ...args: unknown[]) =>
        arm(Math.max(delayMs, 1), TIMER, () => run(...args)),
      setInterval: repeat,
      setImmediate: (run: (...args: unknown[]) => void, ...args: unknown[]) =>
        arm(IMMEDIATE_MS, 'immediate', () => run(...args)),
      clearTimeout: disarm,
      clearInterval: disarm,
      clearImmediate: disarm,
      performance: { now: () => this.elapsedMs },
    };
    const restores = Object.keys(replacements).map((name) => {
      const before = Object.getOwnPropertyDescriptor(globalThis, name)!;
      Object.defineProperty(globalThis, name, {
        configurable: true,
        writable: true,
        value: replacements[name],
      });
      return () => Object.defineProperty(globalThis, name, before);
    });
    const { now } = Date;
    const { random: randomBefore } = Math;
    Date.now = () => Math.floor(this.#nowMs);
    Math.random = random;
    return () => {
      for (const restore of restores) restore();
      Date.now = now;
      Math.random = randomBefore;
      // What was to happen keeps everything alive for as long as anybody knows the time.
      this.#queue.length = 0;
    };
  }

  #push(event: VirtualEvent): void {
    const queue = this.#queue;
    let index = queue.push(event) - 1;
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (!isBefore(event, queue[parent]!)) break;
      queue[index] = queue[parent]!;
      index = parent;
    }
    queue[index] = event;
  }

  #pop(): void {
    const queue = this.#queue;
    const last = queue.pop()!;
    if (queue.length === 0) return;
    let index = 0;
    for (;;) {
      let child = 2 * index + 1;
      if (child >= queue.length) break;
      if (child + 1 < queue.length && isBefore(queue[child + 1]!, queue[child]!)) child += 1;
      if (!isBefore(queue[child]!, last)) break;
      queue[index] = queue[child]!;
      index = child;
    }
    queue[index] = last;
  }
}

function isBefore(one: VirtualEvent, other: VirtualEvent): boolean {
  return one.atMs < other.atMs || (one.atMs === other.atMs && one.order < other.order);
}

/** The only use of real time: its immediates run when all promises that can settle have settled. */
const realImmediate = globalThis.setImmediate;

function settled(): Promise<void> {
  return new Promise((resolve) => {
    realImmediate(resolve);
  });
}
