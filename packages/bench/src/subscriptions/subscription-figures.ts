/** What subscriptions cost in memory; V8's heap and array buffers together. */
export interface SubscriptionMemory {
  readonly subscriptions: number;
  /** Bytes of each in the route table and in its session: what one of a clean session costs. */
  readonly routeBytes: number;
  /** Bytes of each in the embedded store, which one of a persistent session costs too. */
  readonly storeBytes: number;
}

/** What it costs to find who gets a message while most filters do not match. */
export interface MatchCost {
  readonly otherFilters: number;
  /** Of the other filters. */
  readonly wildcardPercent: number;
  readonly matchUs: number;
}

/** What the process that measures prints, as one line of JSON. */
export interface SubscriptionFigures {
  readonly memory: SubscriptionMemory;
  readonly matching: readonly MatchCost[];
}
