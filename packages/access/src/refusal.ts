import { ReasonCode } from '@shoalmq/core';

/** The reason code with which a client is refused: the one that the hook asked for, if it is one. */
export function refusal(reasonCode: unknown): number {
  const valid =
    typeof reasonCode === 'number' &&
    Number.isInteger(reasonCode) &&
    reasonCode >= 0x80 &&
    reasonCode <= 0xff;
  return valid ? reasonCode : ReasonCode.NotAuthorized;
}
