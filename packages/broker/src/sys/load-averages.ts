/** Periods of the averages in minutes, by the name of their topic level. */
export const LOAD_PERIODS = { '1min': 1, '5min': 5, '15min': 15 } as const;
export type LoadPeriod = keyof typeof LOAD_PERIODS;

/**
 * The exponentially weighted rate per minute of a counter that only grows, over three periods: the arithmetic of
 * load averages, as Mosquitto's `$SYS/broker/load` has it.
 */
export class LoadAverages {
  #last: number;
  readonly #rates: Record<LoadPeriod, number> = { '1min': 0, '5min': 0, '15min': 0 };

  /** `total` is the counter at the start: what was counted before is nobody's rate. */
  constructor(total = 0) {
    this.#last = total;
  }

  /** Takes the counter `elapsedSeconds` (above 0) after the last call; returns the rates per minute. */
  update(total: number, elapsedSeconds: number): Readonly<Record<LoadPeriod, number>> {
    const rate = ((total - this.#last) * 60) / elapsedSeconds;
    this.#last = total;
    for (const period of Object.keys(LOAD_PERIODS) as LoadPeriod[]) {
      const weight = Math.exp(-elapsedSeconds / 60 / LOAD_PERIODS[period]);
      this.#rates[period] = rate + weight * (this.#rates[period] - rate);
    }
    return { ...this.#rates };
  }
}
