import { History, SeededRandom, checkHistory } from '@shoalmq/testkit';
import type { HistoryRule, Violation } from '@shoalmq/testkit';
import { SimulatedClient } from './client.ts';
import type { ClientPlan, Qos } from './client.ts';
import { Network } from './network.ts';
import { Redis } from './redis.ts';
import { SimulatedNode } from './simulated-node.ts';
import type { Defect } from './simulated-node.ts';
import { VirtualTime } from './virtual-time.ts';

/**
 * `bounded`: few faults, which all end; then everything must arrive. `arbitrary`: any number of them, to the end: only
 * what must never happen is looked for.
 */
export type SimulationMode = 'bounded' | 'arbitrary';

/** What may go wrong, besides clients that lose their connections. */
export type Fault = 'kill' | 'pause' | 'cut' | 'cut redis' | 'reset' | 'redis down' | 'leave';

const FAULTS: readonly Fault[] = [
  ...(['kill', 'kill', 'pause', 'cut', 'cut redis', 'reset', 'redis down', 'leave'] as const),
];

export interface SimulationOptions {
  readonly seed: number;
  readonly mode: SimulationMode;
  readonly defect?: () => Defect;
  /** Only these, one of them at least. */
  readonly faults?: readonly Fault[];
  readonly keepTrace?: boolean;
}

export interface SimulationResult {
  readonly violations: readonly Violation[];
  /** Equal for equal runs. */
  readonly traceHash: number;
  readonly events: number;
  readonly records: number;
  readonly trace: readonly string[];
}

/** Milliseconds in which faults begin. */
const FAULTS_FROM_MS = 2_000;
const FAULTS_UNTIL_MS = 7_000;
/** From then on nothing goes wrong. */
const HEALED_MS = 13_500;
/** From then on nobody publishes. */
const FINISHING_MS = 14_000;
/** Longer than a will may be in the hands of a node that died. */
const SETTLED_MS_MAX = 80_000;
/** Nothing has come for so long when everything has. */
const QUIET_MS = 3_000;

/** What one publisher retains. */
const RETAINED = 'r/1';

const SAFETY: ReadonlySet<HistoryRule> = new Set(['L2', 'L3', 'L4', 'L5', 'L8']);

/** Runs one cluster, with its clients and everything that happens to it, as the seed has it. */
export async function simulate(options: SimulationOptions): Promise<SimulationResult> {
  const simulation = new Simulation(options);
  return simulation.run();
}

class Simulation {
  readonly #options: SimulationOptions;
  readonly #random: SeededRandom;
  readonly #time: VirtualTime;
  readonly #network: Network;
  readonly #redis: Redis;
  readonly #history: History;
  readonly #nodes = new Map<string, SimulatedNode>();
  readonly #clients: SimulatedClient[] = [];
  readonly #defect: Defect;
  /** Wills that were not published yet. */
  readonly #dueWills = new Set<string>();
  #lives = 0;

  constructor(options: SimulationOptions) {
    const { seed, defect } = options;
    this.#options = options;
    this.#random = new SeededRandom(seed);
    this.#time = new VirtualTime({ keepTrace: options.keepTrace === true });
    const networkRandom = new SeededRandom(this.#random.integer(0x7fff_ffff));
    this.#network = new Network(this.#time, networkRandom);
    this.#redis = new Redis(
      this.#time,
      networkRandom,
      this.#network,
      this.#random.integer(0x7fff_ffff),
    );
    this.#history = new History(() => this.#time.elapsedMs);
    this.#defect = defect?.() ?? {};
  }

  async run(): Promise<SimulationResult> {
    const random = new SeededRandom(this.#random.integer(0x7fff_ffff));
    const restore = this.#time.install(() => random.integer(1_000_000) / 1_000_000);
    try {
      this.#startNodes();
      this.#startClients();
      this.#planFaults();
      await this.#time.run(FINISHING_MS);
      await this.#finish();
    } finally {
      restore();
    }
    return this.#result();
  }

  #startNodes(): void {
    const count = 3 + this.#integer(3) * this.#integer(2);
    for (let i = 1; i <= count; i++) this.#startNode(`n${String(i)}`);
  }

  #startNode(name: string): void {
    this.#time.note(`start ${name}`);
    const node = new SimulatedNode(name, ++this.#lives, {
      time: this.#time,
      network: this.#network,
      redis: this.#redis,
      seed: this.#integer(0x7fff_ffff),
      defect: this.#defect,
    });
    this.#nodes.set(name, node);
  }

  #startClients(): void {
    for (const plan of this.#plans()) {
      // The second of two twins finds the session of the first.
      const first = this.#clients.find((other) => other.plan.clientId === plan.clientId);
      const client = this.#client(plan, () => {
        if (first?.hasSession === false) return undefined;
        // Who takes over gets what the other one has not acknowledged.
        if (first !== undefined) this.#history.record({ op: 'fault', client: plan.clientId });
        return this.#chooseNode();
      });
      this.#clients.push(client);
      this.#time.after(1_000, this.#time.outside, 'client', () => {
        client.start();
      });
    }
  }

  #client(plan: ClientPlan, chooseNode: () => SimulatedNode | undefined): SimulatedClient {
    return new SimulatedClient(plan, {
      time: this.#time,
      random: new SeededRandom(this.#integer(0x7fff_ffff)),
      history: this.#history,
      chooseNode,
      dueWills: this.#dueWills,
    });
  }

  #plan(plan: Partial<ClientPlan> & { readonly clientId: string }): ClientPlan {
    const base: ClientPlan = {
      clientId: plan.clientId,
      clean: false,
      cleanStartOneIn: 0,
      filter: '',
      otherFilter: '',
      filterQos: 2,
      publishes: [],
      publishEveryMs: 200 + this.#integer(300),
      ackDelayMaxMs: this.#integer(3) === 0 ? 1 + this.#integer(300) : 0,
      receiveMaximum: this.#integer(3) === 0 ? 1 + this.#integer(4) : 100,
      willDelay: undefined,
      reconnectMinMs: 20,
      reconnectMaxMs: this.#integer(4) === 0 ? 3_000 : 300,
      forsakes: this.#integer(2) === 0,
      restlessMs: 0,
    };
    return { ...base, ...plan };
  }

  #plans(): ClientPlan[] {
    const plans: ClientPlan[] = [];
    const add = (plan: Partial<ClientPlan> & { readonly clientId: string }): void => {
      plans.push(this.#plan(plan));
    };
    add({ clientId: 'wills', filter: 'w/#' });
    for (let i = 1; i <= 3; i++) {
      const topics = [`t/${String(i)}`, `t/${String(1 + this.#integer(3))}/x`];
      const qoses = [1, 2, this.#integer(3)] as Qos[];
      add({
        clientId: `p${String(i)}`,
        publishes: [
          ...topics.flatMap((topic) => qoses.map((qos) => ({ topic, qos, retain: false }))),
          ...(i === 1 ? [{ topic: RETAINED, qos: qoses[0]!, retain: true }] : []),
        ],
        willDelay: [undefined, 0, 2][this.#integer(3)],
      });
    }
    for (let i = 1; i <= 3; i++) {
      add({
        clientId: `s${String(i)}`,
        filter: this.#filter(),
        filterQos: (1 + this.#integer(2)) as Qos,
        willDelay: [undefined, 0, 2][this.#integer(3)],
      });
    }
    for (let i = 1; i <= 2; i++) {
      add({
        clientId: `c${String(i)}`,
        clean: true,
        filter: this.#filter(),
        filterQos: this.#integer(3) as Qos,
        willDelay: [undefined, 0][this.#integer(2)],
      });
    }
    add({
      clientId: 'again',
      cleanStartOneIn: 2,
      filter: 't/+',
      otherFilter: 't/+/x',
      reconnectMaxMs: 50,
      restlessMs: 700,
    });
    // Two that want to be the same: the newest connection wins.
    for (let i = 1; i <= 2; i++) {
      add({
        ...{ clientId: 'twin', filter: 't/1', filterQos: 1, ackDelayMaxMs: 0, receiveMaximum: 100 },
        ...{ reconnectMinMs: 600, reconnectMaxMs: 2_500 },
      });
    }
    const groupQos = (1 + this.#integer(2)) as Qos;
    for (let i = 1; i <= 2; i++) {
      add({ clientId: `g${String(i)}`, filter: '$share/g/t/#', filterQos: groupQos });
    }
    return plans;
  }

  #filter(): string {
    const filters = ['t/1', 't/+', 't/#', '+/2', 't/1/x', 't/+/x', 't/2/#', 'r/+'];
    return filters[this.#integer(filters.length)]!;
  }

  #chooseNode(): SimulatedNode | undefined {
    const available = [...this.#nodes.values()].filter((node) => node.available);
    if (available.length === 0) return undefined;
    return available[this.#integer(available.length)];
  }

  // Faults

  #planFaults(): void {
    const bounded = this.#options.mode === 'bounded';
    const { faults } = this.#options;
    const least = faults === undefined ? 0 : 1;
    const count = bounded ? least + this.#integer(5 - least) : 4 + this.#integer(10);
    for (let i = 0; i < count; i++) {
      const atMs = FAULTS_FROM_MS + this.#integer(FAULTS_UNTIL_MS - FAULTS_FROM_MS);
      this.#at(atMs, () => {
        this.#fault();
      });
    }
    if (this.#integer(2) === 0) this.#planMischief();
    for (let breaks = this.#integer(8); breaks > 0; breaks--) {
      this.#at(FAULTS_FROM_MS + this.#integer(FAULTS_UNTIL_MS - FAULTS_FROM_MS), () => {
        const client = this.#clients[this.#integer(this.#clients.length)]!;
        this.#faulted(`break ${client.plan.clientId}`);
        if (this.#integer(4) === 0) client.disconnect();
        else client.break();
      });
    }
  }

  #planMischief(): void {
    const { mischief } = this.#redis;
    this.#at(FAULTS_FROM_MS, () => {
      this.#faulted('mischief');
      mischief.breaks = [0, 20, 100][this.#integer(3)]!;
      this.#network.delayMaxMs = [3, 3, 30][this.#integer(3)]!;
    });
    this.#at(FAULTS_UNTIL_MS, () => {
      mischief.breaks = 0;
      this.#network.delayMaxMs = 3;
    });
  }

  #fault(): void {
    const names = [...this.#nodes.keys()];
    const name = names[this.#integer(names.length)]!;
    const other =
      names[(names.indexOf(name) + 1 + this.#integer(names.length - 1)) % names.length]!;
    const node = this.#nodes.get(name)!;
    const durationMs =
      300 + this.#integer(this.#integer(2) === 0 ? 1_500 : HEALED_MS - FAULTS_UNTIL_MS);
    const { faults = FAULTS } = this.#options;
    switch (faults[this.#integer(faults.length)]!) {
      case 'kill':
        if (!node.alive) return;
        this.#faulted(`kill ${name}`);
        node.kill();
        this.#heal(durationMs, () => {
          if (this.#nodes.get(name) === node) this.#startNode(name);
        });
        return;
      case 'pause':
        if (!node.alive || node.host.zone.paused) return;
        this.#faulted(`pause ${name}`);
        node.pause();
        this.#heal(durationMs, () => {
          if (node.alive) node.resume();
        });
        return;
      case 'cut':
        if (this.#network.isCut(name, other)) return;
        this.#cut(name, other, durationMs);
        return;
      case 'cut redis':
        if (this.#network.isCut(name, 'redis')) return;
        this.#cut(name, 'redis', durationMs);
        return;
      case 'reset':
        this.#faulted(`reset ${name} ${other}`);
        this.#network.reset(name, other);
        return;
      case 'redis down':
        if (this.#redis.down) return;
        this.#faulted('redis down');
        this.#redis.down = true;
        this.#heal(durationMs, () => {
          this.#redis.down = false;
        });
        return;
      case 'leave':
        if (!node.available || node.host.zone.paused) return;
        this.#faulted(`leave ${name}`);
        node.leave();
        this.#heal(durationMs, () => {
          if (this.#nodes.get(name) !== node) return;
          if (node.alive) node.kill();
          this.#startNode(name);
        });
    }
  }

  #cut(one: string, other: string, durationMs: number): void {
    this.#faulted(`cut ${one} ${other}`);
    this.#network.cut(one, other);
    this.#heal(durationMs, () => {
      this.#network.heal(one, other);
    });
  }

  #faulted(what: string): void {
    this.#time.note(`fault: ${what}`);
    this.#history.record({ op: 'fault', phase: 'invoke', client: what });
  }

  #heal(afterMs: number, run: () => void): void {
    const { mode } = this.#options;
    this.#time.after(afterMs, this.#time.outside, 'heal', () => {
      this.#time.note('healed');
      this.#history.record({ op: 'fault', client: mode });
      run();
    });
  }

  // The end

  async #finish(): Promise<void> {
    for (const client of this.#clients) client.finishing = true;
    if (this.#options.mode === 'arbitrary') {
      await this.#time.run(1_000);
      return;
    }
    await this.#time.run(SETTLED_MS_MAX - FINISHING_MS, () => this.#isQuiet());
    await this.#readRetained();
    this.#history.record({ op: 'end' });
  }

  /** Somebody new on each node asks for what was retained. */
  async #readRetained(): Promise<void> {
    const nodes = [...this.#nodes.values()].filter(({ available }) => available);
    const readers = nodes.map((node) => {
      const plan = this.#plan({ clientId: `reader-${node.name}`, clean: true, filter: RETAINED });
      const reader = this.#client(plan, () => node);
      reader.start();
      return reader;
    });
    await this.#time.run(2_000);
    for (const [i, { retained }] of readers.entries()) {
      this.#history.record({
        op: 'retained',
        client: nodes[i]!.name,
        topic: RETAINED,
        publisher: retained?.publisher ?? '',
        seq: retained?.seq ?? 0,
      });
    }
  }

  #isQuiet(): boolean {
    if (this.#time.elapsedMs < FINISHING_MS + QUIET_MS) return false;
    if (this.#dueWills.size > 0) return false;
    // One of the twins at a time.
    return this.#clients.every(
      ({ connected, unsettled, lastMessageAtMs, plan, subscribed }) =>
        plan.clientId === 'twin' ||
        (connected &&
          (subscribed || plan.filter === '') &&
          unsettled === 0 &&
          this.#time.nowMs - lastMessageAtMs > QUIET_MS),
    );
  }

  #result(): SimulationResult {
    const { mode } = this.#options;
    const time = this.#time;
    const violations = checkHistory(this.#history, { overlapMsMax: 8_000 }).filter(
      (violation) =>
        (mode === 'bounded' || SAFETY.has(violation.rule)) &&
        !this.#isRepeatedAppend(violation) &&
        !this.#isCleanStart(violation),
    );
    if (mode === 'bounded') {
      for (const node of this.#nodes.values()) {
        if (node.serving) continue;
        violations.push({
          rule: 'L9',
          message: `${node.name} does not serve: ${node.problems.join(', ')}`,
        });
      }
    }
    return {
      violations,
      traceHash: time.traceHash,
      events: time.events,
      records: this.#history.length,
      trace: time.trace,
    };
  }

  /** At QoS 1 an append that was made again is a legal duplicate, which nobody can tell from another message. */
  #isRepeatedAppend({ rule, message }: Violation): boolean {
    const [, client, publisher, seq] = /^(\S+) on connection \d+: (\S+) (\d+) /.exec(message) ?? [];
    if (rule !== 'L3' || client === undefined) return false;
    const filterOf = (id: string) =>
      this.#clients.find(({ plan }) => plan.clientId === id)?.plan.filter;
    const filter = filterOf(client);
    // What one member of a shared group never got may have gone to another one.
    const others = filter?.startsWith('$share/') === true ? this.#clients : [];
    return [client, ...others.map(({ plan }) => plan.clientId)]
      .filter((id) => filterOf(id) === filter)
      .some((id) => this.#redis.repeatedAppends.has(`${id} ${publisher!} ${seq!}`));
  }

  /** A clean start that nobody waited for may end a session long after. */
  #isCleanStart({ rule, message }: Violation): boolean {
    if (rule !== 'L1') return false;
    return this.#clients.some(
      ({ ambiguous, plan }) =>
        ambiguous &&
        (message.includes(` to ${plan.clientId} (`) || message.startsWith(`${plan.clientId}:`)),
    );
  }

  #at(elapsedMs: number, run: () => void): void {
    this.#time.after(elapsedMs - this.#time.elapsedMs, this.#time.outside, 'plan', run);
  }

  #integer(bound: number): number {
    return this.#random.integer(bound);
  }
}
