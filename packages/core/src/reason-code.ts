/**
 * Reason codes of MQTT 5.0 (section 2.4), by the names of the specification. 3.x connections get the nearest
 * CONNACK return code or none at all; see `connackReturnCode`.
 */
export const ReasonCode = {
  Success: 0x00,
  GrantedQoS0: 0x00,
  GrantedQoS1: 0x01,
  GrantedQoS2: 0x02,
  DisconnectWithWillMessage: 0x04,
  NoMatchingSubscribers: 0x10,
  NoSubscriptionExisted: 0x11,
  ContinueAuthentication: 0x18,
  ReAuthenticate: 0x19,
  UnspecifiedError: 0x80,
  MalformedPacket: 0x81,
  ProtocolError: 0x82,
  ImplementationSpecificError: 0x83,
  UnsupportedProtocolVersion: 0x84,
  ClientIdentifierNotValid: 0x85,
  BadUserNameOrPassword: 0x86,
  NotAuthorized: 0x87,
  ServerUnavailable: 0x88,
  ServerBusy: 0x89,
  Banned: 0x8a,
  ServerShuttingDown: 0x8b,
  BadAuthenticationMethod: 0x8c,
  KeepAliveTimeout: 0x8d,
  SessionTakenOver: 0x8e,
  TopicFilterInvalid: 0x8f,
  TopicNameInvalid: 0x90,
  PacketIdentifierInUse: 0x91,
  PacketIdentifierNotFound: 0x92,
  ReceiveMaximumExceeded: 0x93,
  TopicAliasInvalid: 0x94,
  PacketTooLarge: 0x95,
  MessageRateTooHigh: 0x96,
  QuotaExceeded: 0x97,
  AdministrativeAction: 0x98,
  PayloadFormatInvalid: 0x99,
  RetainNotSupported: 0x9a,
  QoSNotSupported: 0x9b,
  UseAnotherServer: 0x9c,
  ServerMoved: 0x9d,
  SharedSubscriptionsNotSupported: 0x9e,
  ConnectionRateExceeded: 0x9f,
  MaximumConnectTime: 0xa0,
  SubscriptionIdentifiersNotSupported: 0xa1,
  WildcardSubscriptionsNotSupported: 0xa2,
} as const;

// Those of CONNACK (MQTT 5.0 §3.2.2.2).
const CONNACK_CODES: ReadonlySet<number> = new Set([
  ReasonCode.Success,
  ReasonCode.UnspecifiedError,
  ReasonCode.MalformedPacket,
  ReasonCode.ProtocolError,
  ReasonCode.ImplementationSpecificError,
  ReasonCode.UnsupportedProtocolVersion,
  ReasonCode.ClientIdentifierNotValid,
  ReasonCode.BadUserNameOrPassword,
  ReasonCode.NotAuthorized,
  ReasonCode.ServerUnavailable,
  ReasonCode.ServerBusy,
  ReasonCode.Banned,
  ReasonCode.BadAuthenticationMethod,
  ReasonCode.TopicNameInvalid,
  ReasonCode.PacketTooLarge,
  ReasonCode.QuotaExceeded,
  ReasonCode.PayloadFormatInvalid,
  ReasonCode.RetainNotSupported,
  ReasonCode.QoSNotSupported,
  ReasonCode.UseAnotherServer,
  ReasonCode.ServerMoved,
  ReasonCode.ConnectionRateExceeded,
]);

/** The code itself if a CONNACK may have it [MQTT-3.2.2-8], 0x80 otherwise. */
export function connackReasonCode(reasonCode: number): number {
  return CONNACK_CODES.has(reasonCode) ? reasonCode : ReasonCode.UnspecifiedError;
}

/** The code nearest to it that a DISCONNECT of the server may have [MQTT-3.14.2-1]. Codes of CONNACK alone are not. */
export function disconnectReasonCode(reasonCode: number): number {
  switch (reasonCode) {
    case ReasonCode.ClientIdentifierNotValid:
    case ReasonCode.BadUserNameOrPassword:
    case ReasonCode.Banned:
    case ReasonCode.BadAuthenticationMethod:
      return ReasonCode.NotAuthorized;
    case ReasonCode.ServerUnavailable:
      return ReasonCode.ServerBusy;
    case ReasonCode.UnsupportedProtocolVersion:
    case ReasonCode.PacketIdentifierInUse:
    case ReasonCode.PacketIdentifierNotFound:
      return ReasonCode.UnspecifiedError;
    default:
      return reasonCode >= 0x80 && reasonCode <= ReasonCode.WildcardSubscriptionsNotSupported
        ? reasonCode
        : ReasonCode.UnspecifiedError;
  }
}

/** The CONNACK return code of MQTT 3.1 and 3.1.1 nearest to an MQTT 5.0 reason code [MQTT3-3.2.2-6]. */
export function connackReturnCode(reasonCode: number): number {
  switch (reasonCode) {
    case ReasonCode.Success:
      return 0;
    case ReasonCode.UnsupportedProtocolVersion:
      return 1;
    case ReasonCode.ClientIdentifierNotValid:
      return 2;
    case ReasonCode.BadUserNameOrPassword:
    case ReasonCode.BadAuthenticationMethod:
      return 4;
    case ReasonCode.NotAuthorized:
    case ReasonCode.Banned:
      return 5;
    default:
      return 3;
  }
}
