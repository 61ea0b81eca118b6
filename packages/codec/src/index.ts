export { Decoder } from './decoder.ts';
export type { DecoderOptions } from './decoder.ts';
export { createPacketEncoder } from './packet-encoder.ts';
export { decodePublishProperties, encodePublishProperties } from './publish-properties.ts';
export type { PublishProperties } from './publish-properties.ts';
export { topicFromName } from './topic-name.ts';
export { utf8Decode, utf8Encode } from './utf8.ts';
