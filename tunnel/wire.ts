/**
 * Every number of the protocol, and the layout of its four messages (paper, 5.4; drawn in PROTOCOL.md). All integers are
 * little-endian. A decoder takes bytes from anybody: it gives null, never an error, and its fields are views, not copies.
 */

/** The first four bytes of a message, as one little-endian word: the type and three zero bytes. */
export const messageType = { initiation: 1, response: 2, cookie: 3, data: 4 } as const

export type MessageKind = keyof typeof messageType

/** Whole lengths in bytes; of a data message the least, which is a keepalive. */
export const messageLength = { initiation: 148, response: 92, cookie: 64, data: 32 } as const

/** Header of a data message: type, receiver's index, counter. */
export const DATA_HEADER_LENGTH = 16
/** Poly1305's tag. */
export const TAG_LENGTH = 16
/** mac1 and mac2, at the end of an initiation and of a response. */
export const MAC_LENGTH = 16
/** What is sealed is padded with zeros to a multiple of this (paper, 5.4.6). */
export const PADDING = 16
export const KEY_LENGTH = 32
/** TAI64N: 8 bytes of seconds, 4 of nanoseconds. */
export const TIMESTAMP_LENGTH = 12
export const COOKIE_LENGTH = 16
/** XChaCha20-Poly1305's. */
export const COOKIE_NONCE_LENGTH = 24

// Times in milliseconds and message counts (paper, 6.1).

/** A session that we began is renewed when it is this old. */
export const REKEY_AFTER_TIME = 120_000
/** No key sends or receives when it is this old. */
export const REJECT_AFTER_TIME = 180_000
/** A handshake unanswered for this long is begun again; two initiations are never closer. */
export const REKEY_TIMEOUT = 5_000
/** A handshake unanswered for this long is given up. */
export const REKEY_ATTEMPT_TIME = 90_000
/** Drawn anew for each retry and added, so that two sides do not collide for ever: 0 to this. */
export const REKEY_JITTER = 333
/** Silence after which what was received is answered with an empty message. */
export const KEEPALIVE_TIMEOUT = 10_000
/** Age from which a session that we began is renewed by what arrives, while it can still carry the handshake's wait. */
export const LAST_MINUTE_TIME = REJECT_AFTER_TIME - KEEPALIVE_TIMEOUT - REKEY_TIMEOUT
/** Age of the last new session at which all keys of a peer are wiped. */
export const WIPE_TIME = 3 * REJECT_AFTER_TIME
/** How long a cookie's secret lives; whoever was given a cookie stops using it 5 s earlier, for the time on the way. */
export const COOKIE_REFRESH_TIME = 120_000
export const COOKIE_USE_TIME = COOKIE_REFRESH_TIME - 5_000
/** Initiations of one peer that come closer than this are dropped: 50 a second are enough (wireguard-go, kernel). */
export const INITIATION_INTERVAL = 20

export const REKEY_AFTER_MESSAGES = 2n ** 60n
export const REJECT_AFTER_MESSAGES = 2n ** 64n - 2n ** 13n - 1n

/** Packets that wait for a session; the oldest goes when one more comes (kernel: MAX_STAGED_PACKETS). */
export const STAGED_PACKETS = 128

/** Noise: what the handshake's first hash is made of (paper, 5.4). */
export const CONSTRUCTION = ascii('Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s')
export const IDENTIFIER = ascii('WireGuard v1 zx2c4 Jason@zx2c4.com')
export const LABEL_MAC1 = ascii('mac1----')
export const LABEL_COOKIE = ascii('cookie--')

/** The first message (paper, 5.4.2), without its two MACs. */
export interface Initiation {
  readonly sender: number
  readonly ephemeral: Uint8Array
  /** The initiator's public key, sealed: 48 bytes. */
  readonly static: Uint8Array
  /** TAI64N, sealed: 28 bytes. */
  readonly timestamp: Uint8Array
}

/** The second message (paper, 5.4.3), without its two MACs. */
export interface Response {
  readonly sender: number
  readonly receiver: number
  readonly ephemeral: Uint8Array
  /** Nothing, sealed: 16 bytes. */
  readonly empty: Uint8Array
}

/** "Come again with this" (paper, 5.4.7). */
export interface CookieReply {
  readonly receiver: number
  readonly nonce: Uint8Array
  /** The cookie, sealed: 32 bytes. */
  readonly cookie: Uint8Array
}

/** A packet, sealed, or nothing, sealed (paper, 5.4.6). */
export interface Data {
  readonly receiver: number
  readonly counter: bigint
  readonly sealed: Uint8Array
}

/** What a datagram claims to be, or why it is no message at all. */
export function classify(datagram: Uint8Array): MessageKind | 'bad-length' | 'bad-type' {
  if (datagram.length < messageLength.data) return 'bad-length'
  const kind = kinds[view(datagram).getUint32(0, true)]
  if (kind === undefined) return 'bad-type'
  if (kind !== 'data' && datagram.length !== messageLength[kind]) return 'bad-length'
  return kind
}

/** 148 bytes; the MACs are zero until `CookieMemory.stamp`. */
export function encodeInitiation(fields: Initiation): Uint8Array {
  const message = begin('initiation', messageLength.initiation, fields.sender)
  message.set(fields.ephemeral, 8)
  message.set(fields.static, 40)
  message.set(fields.timestamp, 88)
  return message
}

export function decodeInitiation(message: Uint8Array): Initiation | null {
  if (classify(message) !== 'initiation') return null
  return {
    sender: view(message).getUint32(4, true),
    ephemeral: message.subarray(8, 40),
    static: message.subarray(40, 88),
    timestamp: message.subarray(88, 116),
  }
}

/** 92 bytes; the MACs are zero until `CookieMemory.stamp`. */
export function encodeResponse(fields: Response): Uint8Array {
  const message = begin('response', messageLength.response, fields.sender)
  view(message).setUint32(8, fields.receiver, true)
  message.set(fields.ephemeral, 12)
  message.set(fields.empty, 44)
  return message
}

export function decodeResponse(message: Uint8Array): Response | null {
  if (classify(message) !== 'response') return null
  return {
    sender: view(message).getUint32(4, true),
    receiver: view(message).getUint32(8, true),
    ephemeral: message.subarray(12, 44),
    empty: message.subarray(44, 60),
  }
}

/** 64 bytes. */
export function encodeCookieReply(fields: CookieReply): Uint8Array {
  const message = begin('cookie', messageLength.cookie, fields.receiver)
  message.set(fields.nonce, 8)
  message.set(fields.cookie, 32)
  return message
}

export function decodeCookieReply(message: Uint8Array): CookieReply | null {
  if (classify(message) !== 'cookie') return null
  return {
    receiver: view(message).getUint32(4, true),
    nonce: message.subarray(8, 32),
    cookie: message.subarray(32, 64),
  }
}

/** 16 bytes and what is sealed. */
export function encodeData(fields: Data): Uint8Array {
  const message = begin('data', DATA_HEADER_LENGTH + fields.sealed.length, fields.receiver)
  view(message).setBigUint64(8, fields.counter, true)
  message.set(fields.sealed, DATA_HEADER_LENGTH)
  return message
}

export function decodeData(message: Uint8Array): Data | null {
  if (classify(message) !== 'data') return null
  return {
    receiver: view(message).getUint32(4, true),
    counter: view(message).getBigUint64(8, true),
    sealed: message.subarray(DATA_HEADER_LENGTH),
  }
}

/** Where the MACs of an initiation or a response are: mac1 covers all before it, mac2 all before it with mac1. */
export function macs(message: Uint8Array): {
  readonly beforeMac1: Uint8Array
  readonly mac1: Uint8Array
  readonly beforeMac2: Uint8Array
  readonly mac2: Uint8Array
} {
  const second = message.length - MAC_LENGTH
  const first = second - MAC_LENGTH
  return {
    beforeMac1: message.subarray(0, first),
    mac1: message.subarray(first, second),
    beforeMac2: message.subarray(0, second),
    mac2: message.subarray(second),
  }
}

/** Length of a packet after padding: to 16, but never past the MTU that it was within (paper, 5.4.6). */
export function paddedLength(length: number, mtu: number): number {
  const padded = Math.ceil(length / PADDING) * PADDING
  return length <= mtu ? Math.min(padded, mtu) : padded
}

/** Whether two arrays hold the same bytes, in a time that does not tell where they differ. */
export function equalBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false
  let difference = 0
  for (let i = 0; i < a.length; i++) difference |= (a[i] ?? 0) ^ (b[i] ?? 0)
  return difference === 0
}

function begin(kind: MessageKind, length: number, word: number): Uint8Array {
  const message = new Uint8Array(length)
  view(message).setUint32(0, messageType[kind], true)
  view(message).setUint32(4, word, true)
  return message
}

function view(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}

function ascii(text: string): Uint8Array {
  return Uint8Array.from(text, (char) => char.charCodeAt(0))
}

const kinds: readonly (MessageKind | undefined)[] = [undefined, 'initiation', 'response', 'cookie', 'data']
