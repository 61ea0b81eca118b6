/** The least ratio of broker CPU per delivered message, other broker / Shoal, that we want. */
export interface Target {
  readonly mosquitto: number;
  readonly aedes: number;
}

/** The targets by case; they hold for either payload size. */
export const TARGETS: Readonly<Record<string, Target>> = {
  'pair-qos0': { mosquitto: 8, aedes: 25 },
  'pair-qos1': { mosquitto: 10, aedes: 25 },
  'pair-qos2': { mosquitto: 8, aedes: 15 },
  'fan-out-qos0': { mosquitto: 20, aedes: 40 },
  'fan-out-qos1': { mosquitto: 12, aedes: 25 },
  'fan-in-qos0': { mosquitto: 10, aedes: 50 },
  'trickle-qos0': { mosquitto: 0.7, aedes: 1.4 },
  'trickle-qos1': { mosquitto: 0.7, aedes: 1.4 },
};

/** Bytes of heap that one of a million subscriptions may cost, sessions and embedded store included. */
export const SUBSCRIPTION_BYTES_MAX = 250;
