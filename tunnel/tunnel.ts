/**
 * A running tunnel: one TUN device, one UDP port, many peers. It joins `Device` (which decides) and the native data plane
 * (which carries) to the real clock, and is the only file that does. Client and server open the same thing.
 */
import type { Cidr, Port, SocketAddress } from './address.ts'
import type { Counters, Path } from './dataplane.ts'
import { TunnelError } from './error.ts'
import type { PublicKey, Secret } from './key.ts'

/** A peer as the tunnel is told of it. */
export interface TunnelPeer {
  readonly publicKey: PublicKey
  readonly presharedKey: Secret | null
  readonly allowedIps: readonly Cidr[]
  /** Null: not known until the peer writes to us. */
  readonly endpoint: SocketAddress | null
  /** `pinned`: only `putPeer` moves the endpoint, never a datagram. */
  readonly roaming: 'follow' | 'pinned'
  /** Seconds; 0: none. */
  readonly persistentKeepalive: number
}

/** A peer as it stands. Times are milliseconds. */
export interface PeerStatus {
  readonly publicKey: PublicKey
  readonly path: Path | null
  /** Wall clock (Unix epoch) of the last completed handshake; null: none yet. */
  readonly latestHandshake: number | null
  readonly rxBytes: number
  readonly txBytes: number
  /** Since the last authenticated datagram; null: none yet. */
  readonly sinceReceived: number | null
  readonly sinceSent: number | null
  /** Whether a session can send now. */
  readonly alive: boolean
}

export type TunnelEvent =
  /** A handshake completed; for a responder, the peer has proved that it holds the key. */
  | { readonly tag: 'session'; readonly peer: PublicKey; readonly role: 'initiator' | 'responder' }
  /** Initiations went unanswered for REKEY_ATTEMPT_TIME (90 s). The next packet begins again. */
  | { readonly tag: 'gave-up'; readonly peer: PublicKey }
  | { readonly tag: 'roamed'; readonly peer: PublicKey; readonly path: Path }
  /** The data plane stopped itself; the interface stays and drops everything. */
  | { readonly tag: 'fault'; readonly message: string }

export interface TunnelOptions {
  /** The interface's name, 1 to 15 characters. */
  readonly name: string
  /** Of the interface, in bytes. */
  readonly mtu: number
  readonly privateKey: Secret
  /** 0: the kernel chooses. */
  readonly port: Port | 0
  /** SO_MARK on every outside socket; 0: none. */
  readonly fwmark: number
  /** `off`: no TSO, USO or UDP GSO, for a network card or a kernel that gets them wrong. */
  readonly gso: 'auto' | 'off'
  /** Super-packets that the interface queues: latency under load against throughput (default 32). */
  readonly txQueueLength?: number
  onEvent(event: TunnelEvent): void
}

export interface Tunnel extends AsyncDisposable {
  readonly name: string
  readonly port: Port
  /** Adds a peer, or changes one without dropping its session. */
  putPeer(peer: TunnelPeer): void
  removePeer(peer: PublicKey): void
  /** Begins a handshake now, unless one is in flight or was begun less than REKEY_TIMEOUT ago. */
  connect(peer: PublicKey): void
  /** Lets the kernel choose every source address again: the uplink changed. */
  clearSources(): void
  peers(): readonly PeerStatus[]
  peer(key: PublicKey): PeerStatus | null
  counters(): Counters
  /** What the data plane found it may use on this machine, e.g. `['tso', 'uso', 'udp-gso', 'udp-gro']`; for doctor. */
  readonly offloads: readonly string[]
}

/** Opens the TUN device and the UDP port and begins to carry. */
export function openTunnel(options: TunnelOptions): Promise<Tunnel> {
  return Promise.reject(
    new TunnelError('no-native', `"${options.name}" cannot be opened: the addon is not built`),
  )
}
