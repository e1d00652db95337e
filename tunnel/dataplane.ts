/**
 * The boundary between who decides and who carries packets.
 *
 * A data plane owns one TUN device and one UDP port, and every byte that is not yet authenticated: lengths, mac1,
 * cookies, the handshake gate, nonces, replay windows, key expiry, allowed IPs, roaming, and the timers that run once a
 * packet (WireGuard paper, section 6). Above it, `Device` runs the handshakes and decides. The data plane stays safe
 * when the code above is slow, dead or wrong: with no orders it drops.
 *
 * Two implementations pass one conformance suite (conformance.ts): `native/`, in Rust, which production uses, and
 * `dataplane-memory.ts`, its twin in TypeScript for tests in virtual time.
 *
 * Calls never block and never throw on account of the network. A call that names a peer or an index that is gone does
 * nothing: the peer may have gone while the event that led to the call was waiting.
 */
import type { Cidr, IpAddress, Port, SocketAddress } from './address.ts'

/** A peer's number in one data plane: chosen by the caller, unique among its peers, 0 to 2^32 - 1. */
export type PeerId = number & { readonly brand: 'PeerId' }

/** A local session index (paper, 5.4): random, unique among the handshakes and sessions of one data plane. */
export type SessionIndex = number & { readonly brand: 'SessionIndex' }

/** A peer's endpoint: where its datagrams go, and from where. One value, replaced whole. */
export interface Path {
  readonly remote: SocketAddress
  /** The address of ours that the peer last wrote to (IP_PKTINFO), kept so that answers leave from it; null: the kernel chooses. */
  readonly source: IpAddress | null
  /** The interface of `source`, 0: the kernel chooses. */
  readonly interfaceIndex: number
}

/** One session's keys, as Noise split them (paper, 5.4.5). The data plane copies both keys and wipes the caller's. */
export interface SessionKeys {
  readonly remoteIndex: number
  readonly sendKey: Uint8Array
  readonly receiveKey: Uint8Array
  /**
   * An initiator's session becomes `current` at once; a responder's waits as `next`, and may not send until the peer has
   * proved with a first data message that it holds the key (paper, 5.4.5; "key confirmation").
   */
  readonly role: 'initiator' | 'responder'
}

/** How handshakes from strangers are rationed (paper, 5.3 and 5.4.7). */
export interface Gate {
  /** Handshakes waiting to be drained from which on cookies are demanded. */
  readonly underLoadAt: number
  /** Initiations a second and burst that one IPv4 address or IPv6 /64 gets through while under load. */
  readonly perSecond: number
  readonly burst: number
  /** Never answer with a cookie: for a server that must not be recognised by probing. */
  readonly silent: boolean
}

/** The rates of the kernel's WireGuard: 20 a second, bursts of 5. */
export const defaultGate: Gate = { underLoadAt: 32, perSecond: 20, burst: 5, silent: false }

export type HandshakeReason =
  | 'staged' // a packet waits and no key may send it
  | 'age' // the sending key is older than REKEY_AFTER_TIME and we began it
  | 'messages' // the sending key has sealed REKEY_AFTER_MESSAGES
  | 'last-minute' // a packet arrived under a key of ours that REJECT_AFTER_TIME is about to end
  | 'no-reply' // data went out and nothing came back for KEEPALIVE_TIMEOUT + REKEY_TIMEOUT

/** What the data plane tells; drained in order. */
export type DataplaneEvent =
  /** 148 bytes that passed mac1 and, under load, mac2 and the gate. Nothing else in it is proved. */
  | { readonly tag: 'initiation'; readonly message: Uint8Array; readonly from: Path }
  /** 92 bytes that passed mac1 and name `index`, which `peer` allocated. */
  | {
      readonly tag: 'response'
      readonly message: Uint8Array
      readonly index: SessionIndex
      readonly peer: PeerId
      readonly from: Path
    }
  /** 64 bytes that name `index`, which `peer` allocated. */
  | {
      readonly tag: 'cookie'
      readonly message: Uint8Array
      readonly index: SessionIndex
      readonly peer: PeerId
    }
  /** At most once in REKEY_TIMEOUT for each peer. */
  | { readonly tag: 'need-handshake'; readonly peer: PeerId; readonly reason: HandshakeReason }
  /** The first data message under a responder's `next` session: it is `current` now. */
  | { readonly tag: 'confirmed'; readonly peer: PeerId; readonly index: SessionIndex }
  /** An authenticated datagram came from elsewhere, and the peer's path followed it. */
  | { readonly tag: 'roamed'; readonly peer: PeerId; readonly path: Path }
  /** REJECT_AFTER_TIME x 3 after the last new session: every key of the peer is wiped. */
  | { readonly tag: 'expired'; readonly peer: PeerId }
  /** A worker stopped. The TUN stays, every packet is dropped: fail closed. */
  | { readonly tag: 'fault'; readonly message: string }

/** Why something was not passed on. Every datagram and packet that is not passed on is counted under exactly one. */
export const dropReasons = [
  'bad-length', // no WireGuard message has this length
  'bad-type', // the first four bytes are no type of WireGuard's
  'bad-mac', // mac1 does not fit our public key
  'under-load', // rationed by the gate; a cookie went out unless it is silent
  'unknown-index', // a data, response or cookie message for an index that nobody has
  'bad-tag', // the AEAD refused it
  'replayed', // the counter was seen before or is too old
  'expired', // the key is past REJECT_AFTER_TIME or REJECT_AFTER_MESSAGES
  'bad-packet', // what was sealed, or what the kernel gave us, is not a whole IP packet
  'source-not-allowed', // the inner source is not among the allowed IPs of the peer that sent it
  'no-route', // no peer has the inner destination among its allowed IPs
  'no-endpoint', // the peer's address is not known yet
  'staged', // the oldest of more packets than may wait for a handshake
  'send-failed', // the kernel refused the datagram (route, firewall, size, full buffer)
  'tun-failed', // the kernel refused the packet (interface down)
  'truncated', // larger than any buffer of ours
  'events-full', // a handshake that the code above was too slow to take
] as const
export type DropReason = (typeof dropReasons)[number]

/**
 * Totals since start. `datagrams` are all that came or went, keepalives, handshakes and what was dropped among them;
 * `packets` and `bytes` are of the inner packets that were passed on. They stay below 2^53.
 */
export interface Counters {
  readonly received: { readonly datagrams: number; readonly packets: number; readonly bytes: number }
  readonly sent: { readonly datagrams: number; readonly packets: number; readonly bytes: number }
  readonly dropped: Readonly<Record<DropReason, number>>
  /** Datagrams that left or came in one system call with others, by UDP_SEGMENT and UDP_GRO; 0 in memory. */
  readonly batched: { readonly sent: number; readonly received: number }
  /** Cookie replies sent. */
  readonly cookies: number
}

/** One peer's totals. */
export interface PeerCounters {
  /** Bytes of authenticated datagrams, WireGuard's own included, as `wg show` counts them. */
  readonly rxBytes: number
  readonly txBytes: number
  readonly path: Path | null
  /** Milliseconds since the last authenticated datagram; null: none yet. */
  readonly sinceReceived: number | null
  /** Milliseconds since the last datagram we sealed for it; null: none yet. */
  readonly sinceSent: number | null
  /** Whether a session can send now. */
  readonly alive: boolean
}

export interface Dataplane extends Disposable {
  /** The UDP port, the same for IPv4 and IPv6. */
  readonly port: Port

  /** Called once after the event list stopped being empty; then `drain` has them. Set before `start`. */
  onWake(listener: () => void): void
  /** Begins to carry. */
  start(): void
  /** Takes at most `most` events, oldest first. */
  drain(most: number): DataplaneEvent[]

  /** Whose mac1 passes the gate, and whose cookies it makes. Without it every handshake is dropped as `bad-mac`. */
  setIdentity(publicKey: Uint8Array): void
  setGate(gate: Gate): void

  /** Adds a peer, or changes its persistent keepalive (seconds; 0: none) and nothing else of it. */
  putPeer(peer: PeerId, settings: { readonly persistentKeepalive: number }): void
  /** Wipes its keys, forgets its path, prefixes and indices. */
  removePeer(peer: PeerId): void
  /** Replaces a peer's prefixes at once; a prefix that another peer had moves (as `wg` does). */
  setAllowedIps(peer: PeerId, prefixes: readonly Cidr[]): void
  /** Replaces a peer's path. `pinned`: authenticated datagrams from elsewhere are delivered but move nothing. */
  setPath(peer: PeerId, path: Path | null, roaming: 'follow' | 'pinned'): void
  /** Keeps the remote, lets the kernel choose the source again: after a retry, or when the uplink changed. */
  clearSource(peer: PeerId): void

  /** A fresh random index for a handshake of this peer; responses and cookies that name it pass the gate. */
  allocateIndex(peer: PeerId): SessionIndex
  /** Gives an index up that no session uses. */
  freeIndex(index: SessionIndex): void
  /**
   * Makes `index` a session, rotates previous, current and next, and counts as an authenticated datagram received.
   * False when the index is not allocated to this peer, or is a session already: nothing changed.
   */
  installSession(peer: PeerId, index: SessionIndex, keys: SessionKeys): boolean
  /** Wipes every session of the peer. */
  wipeSessions(peer: PeerId): void
  /** Our private key changed: `current` and `next` may receive until they expire, but send no more (paper, 6). */
  forbidSending(peer: PeerId): void

  /** Sends a handshake message to the peer's path. Counts as an authenticated datagram sent. */
  sendHandshake(peer: PeerId, message: Uint8Array): void
  /** Sends a handshake message back where one came from, from the address it came to. */
  reply(to: Path, message: Uint8Array): void
  /** Seals an empty message, or stages nothing when no session can send. */
  keepalive(peer: PeerId): void
  /** Seals and sends what waited for a session, if one can send now. Returns how many packets went. */
  flushStaged(peer: PeerId): number
  /** The handshake was given up: what waited is dropped, passive keepalives stop, keys are wiped 540 s from now. */
  giveUp(peer: PeerId): void

  counters(): Counters
  peerCounters(peer: PeerId): PeerCounters | null

  /** Moves this data plane's clock forward, as a suspended machine would: CLOCK_BOOTTIME goes on while it sleeps. */
  advance(milliseconds: number): void
}
