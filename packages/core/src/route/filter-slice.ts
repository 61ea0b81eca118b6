/** What one turn of the event loop may spend on the filters of one client. */
const SLICE_COST = 500;
/** Characters of a filter that cost as much as the filter itself. */
const CHARACTERS_PER_COST = 32;

/** Counts filters, by their length, so that work on many of them is done in slices of about a millisecond. */
export class FilterSlice {
  #cost = 0;

  /** Adds one filter. True: the slice was full, and a new one begins with this filter. */
  isUsedUpBy(filter: string): boolean {
    const full = this.#cost >= SLICE_COST;
    if (full) this.#cost = 0;
    this.#cost += 1 + Math.floor(filter.length / CHARACTERS_PER_COST);
    return full;
  }
}
