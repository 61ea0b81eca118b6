import { readFileSync } from 'node:fs';

/** What a process has used since it started. */
export interface ProcessUsage {
  readonly userUs: number;
  readonly systemUs: number;
}

/** Linux counts in ticks of 10 ms on every architecture Node.js runs on (USER_HZ). */
const TICK_US = 10_000;

/** The CPU time of a process and all its threads, from /proc; exact to 10 ms. */
export function readProcessUsage(pid: number): ProcessUsage {
  return parseProcessUsage(readFileSync(`/proc/${String(pid)}/stat`, 'latin1'));
}

/** Takes utime and stime out of a `/proc/<pid>/stat` line, whose command name may hold anything. */
export function parseProcessUsage(stat: string): ProcessUsage {
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const userTicks = Number(fields[11]);
  const systemTicks = Number(fields[12]);
  if (Number.isNaN(userTicks + systemTicks)) throw new Error('unexpected /proc/<pid>/stat');
  return { userUs: userTicks * TICK_US, systemUs: systemTicks * TICK_US };
}

/** The time all cores together were busy since boot, in microseconds, from /proc; exact to 10 ms. */
export function readMachineBusyUs(): number {
  return parseMachineBusyUs(readFileSync('/proc/stat', 'latin1'));
}

/** Adds up what is not idle in the first line of `/proc/stat`. */
export function parseMachineBusyUs(stat: string): number {
  const [user, nice, system, , , irq, softIrq, steal] = stat
    .slice(0, stat.indexOf('\n'))
    .split(/\s+/)
    .slice(1)
    .map(Number);
  const parts = [user, nice, system, irq, softIrq, steal];
  return parts.reduce<number>((total, ticks) => total + (ticks ?? 0), 0) * TICK_US;
}

/** The resident memory of a process, in bytes. */
export function readResidentBytes(pid: number): number {
  return parseResidentBytes(readFileSync(`/proc/${String(pid)}/status`, 'latin1'));
}

/** The resident memory of all nodes of a broker together, in bytes. */
export function readAllResidentBytes(nodes: readonly { readonly pid: number }[]): number {
  return nodes.reduce((total, { pid }) => total + readResidentBytes(pid), 0);
}

/** Takes VmRSS out of `/proc/<pid>/status`. */
export function parseResidentBytes(status: string): number {
  const match = /^VmRSS:\s+(\d+) kB$/m.exec(status);
  if (match === null) throw new Error('no VmRSS in /proc/<pid>/status');
  return Number(match[1]) * 1024;
}
