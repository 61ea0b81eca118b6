/** Why the store could not answer. */
export type StoreErrorCode =
  /** No answer before the deadline: the write may or may not have happened. */
  | 'SHOAL_STORE_UNAVAILABLE'
  /** Redis answered with an error that trying again does not cure. */
  | 'SHOAL_STORE_REFUSED'
  /** The store was closed. */
  | 'SHOAL_STORE_CLOSED'
  /** This process was taken for dead: another one has started under the same node id. It has to end. */
  | 'SHOAL_NODE_REPLACED';

/** The store did not do what was asked, or nobody knows whether it did. */
export class StoreError extends Error {
  override readonly name = 'StoreError';
  readonly code: StoreErrorCode;

  constructor(code: StoreErrorCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
  }
}
