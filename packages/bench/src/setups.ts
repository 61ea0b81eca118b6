/** Processes that the cluster cases compare with each other. */
export interface Setup {
  /** The name of its rows. */
  readonly name: string;
  /** What `--broker` has to name for it. */
  readonly broker: 'shoal' | 'aedes';
  readonly nodes: number;
  /** Whether the nodes share a Redis; a single one can do without. */
  readonly redis: boolean;
}

/** One node that keeps everything in memory. */
export const SHOAL: Setup = { name: 'shoal', broker: 'shoal', nodes: 1, redis: false };
/** One node with its state in Redis. */
export const SHOAL_REDIS: Setup = { name: 'shoal-redis', broker: 'shoal', nodes: 1, redis: true };
/** Two nodes of a cluster. */
export const SHOAL_2: Setup = { name: 'shoal-2-nodes', broker: 'shoal', nodes: 2, redis: true };
/** Three nodes of a cluster. */
export const SHOAL_3: Setup = { name: 'shoal-3-nodes', broker: 'shoal', nodes: 3, redis: true };
/** One process of aedes with its state in Redis. */
export const AEDES_REDIS: Setup = { name: 'aedes-redis', broker: 'aedes', nodes: 1, redis: true };
/** Two processes of aedes which share a Redis. */
export const AEDES_2: Setup = { name: 'aedes-2-nodes', broker: 'aedes', nodes: 2, redis: true };
