import { types } from 'node:util';

/** The message of whatever was thrown. */
export function errorMessage(error: unknown): string {
  return types.isNativeError(error) ? error.message : String(error);
}
