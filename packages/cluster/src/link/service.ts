/** The method of proto/peer.proto, as HTTP/2 has it. */
export const LINK_PATH = '/shoal.peer.v1.Peer/Link';
