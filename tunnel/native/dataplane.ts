/** The Rust data plane as a `Dataplane`: brands on, bytes to addresses and back. Everything else is src/. */
import { addressOf, formatIp, ipBytes, prefixLengthOf } from '../address.ts'
import type { Cidr, IpAddress, Port } from '../address.ts'
import { dropReasons } from '../dataplane.ts'
import type {
  Counters,
  Dataplane,
  DataplaneEvent,
  DropReason,
  Gate,
  HandshakeReason,
  Path,
  PeerCounters,
  PeerId,
  SessionIndex,
  SessionKeys,
} from '../dataplane.ts'
import { TunnelError } from '../error.ts'
import type { NodeEvent, NodePath, NodePlane } from './addon.ts'

export class NativeDataplane implements Dataplane {
  readonly port: Port
  /** What the kernel agreed to: `tso`, `uso`, `tun-gro`, `tun-udp-gro`, `udp-gso`, `udp-gro`, `ipv6`. */
  readonly offloads: readonly string[]
  readonly #plane: NodePlane

  constructor(plane: NodePlane) {
    this.#plane = plane
    this.port = plane.port as Port // the kernel gave it
    this.offloads = plane.offloads
  }

  /** Whether every worker waits and nothing waits for one: for tests. */
  get isIdle(): boolean {
    return this.#plane.isIdle
  }

  /** System calls that moved datagrams, for benchmarks: `counters` says how many datagrams those were. */
  get calls(): { readonly sent: number; readonly received: number } {
    const { sent, received } = this.#plane.counters()
    return { sent: sent.calls, received: received.calls }
  }

  onWake(listener: () => void): void {
    this.#plane.onWake(listener)
  }

  start(): void {
    this.#plane.start()
  }

  drain(most: number): DataplaneEvent[] {
    return this.#plane.drain(most).map(eventOf)
  }

  setIdentity(publicKey: Uint8Array): void {
    this.#plane.setIdentity(publicKey)
  }

  setGate({ underLoadAt, perSecond, burst, silent }: Gate): void {
    this.#plane.setGate(underLoadAt, perSecond, burst, silent)
  }

  putPeer(peer: PeerId, settings: { readonly persistentKeepalive: number }): void {
    this.#plane.putPeer(peer, settings.persistentKeepalive)
  }

  removePeer(peer: PeerId): void {
    this.#plane.removePeer(peer)
  }

  setAllowedIps(peer: PeerId, prefixes: readonly Cidr[]): void {
    this.#plane.setAllowedIps(
      peer,
      prefixes.map((prefix) => ({
        address: bytesOf(addressOf(prefix)),
        length: prefixLengthOf(prefix),
      })),
    )
  }

  setPath(peer: PeerId, path: Path | null, roaming: 'follow' | 'pinned'): void {
    this.#plane.setPath(peer, path === null ? null : nodePath(path), roaming === 'pinned')
  }

  clearSource(peer: PeerId): void {
    this.#plane.clearSource(peer)
  }

  allocateIndex(peer: PeerId): SessionIndex {
    return this.#plane.allocateIndex(peer) as SessionIndex // the brand's origin
  }

  freeIndex(index: SessionIndex): void {
    this.#plane.freeIndex(index)
  }

  installSession(peer: PeerId, index: SessionIndex, keys: SessionKeys): boolean {
    const isInitiator = keys.role === 'initiator'
    return this.#plane.installSession(
      peer,
      index,
      keys.remoteIndex,
      keys.sendKey,
      keys.receiveKey,
      isInitiator,
    )
  }

  wipeSessions(peer: PeerId): void {
    this.#plane.wipeSessions(peer)
  }

  forbidSending(peer: PeerId): void {
    this.#plane.forbidSending(peer)
  }

  sendHandshake(peer: PeerId, message: Uint8Array): void {
    this.#plane.sendHandshake(peer, message)
  }

  reply(to: Path, message: Uint8Array): void {
    this.#plane.reply(nodePath(to), message)
  }

  keepalive(peer: PeerId): void {
    this.#plane.keepalive(peer)
  }

  flushStaged(peer: PeerId): number {
    return this.#plane.flushStaged(peer)
  }

  giveUp(peer: PeerId): void {
    this.#plane.giveUp(peer)
  }

  counters(): Counters {
    const { received, sent, cookies, dropped } = this.#plane.counters()
    const counts = dropReasons.map((reason, i) => [reason, dropped[i] ?? 0])
    return {
      received: { datagrams: received.datagrams, packets: received.packets, bytes: received.bytes },
      sent: { datagrams: sent.datagrams, packets: sent.packets, bytes: sent.bytes },
      dropped: Object.fromEntries(counts) as Record<DropReason, number>, // every reason is there
      batched: { sent: sent.batched, received: received.batched },
      cookies,
    }
  }

  peerCounters(peer: PeerId): PeerCounters | null {
    const counters = this.#plane.peerCounters(peer)
    if (counters === null) return null
    const { rxBytes, txBytes, path, sinceReceived, sinceSent, alive } = counters
    return {
      rxBytes,
      txBytes,
      path: path === undefined ? null : pathOf(path),
      sinceReceived: sinceReceived ?? null,
      sinceSent: sinceSent ?? null,
      alive,
    }
  }

  advance(milliseconds: number): void {
    this.#plane.advance(milliseconds)
  }

  /** Waits for the workers, closes the TUN and the sockets, wipes every key. Any call after it does nothing. */
  [Symbol.dispose](): void {
    this.#plane.stop()
  }
}

/** The addon gives each tag its fields, the peers and indices that TypeScript gave it, and no tag of its own. */
function eventOf(event: NodeEvent): DataplaneEvent {
  const message = event.message ?? new Uint8Array(0)
  const peer = event.peer as PeerId
  const index = event.index as SessionIndex
  switch (event.tag) {
    case 'initiation':
      return { tag: 'initiation', message, from: requiredPath(event.from) }
    case 'response':
      return { tag: 'response', message, index, peer, from: requiredPath(event.from) }
    case 'cookie':
      return { tag: 'cookie', message, index, peer }
    case 'need-handshake':
      return { tag: 'need-handshake', peer, reason: event.reason as HandshakeReason }
    case 'confirmed':
      return { tag: 'confirmed', peer, index }
    case 'roamed':
      return { tag: 'roamed', peer, path: requiredPath(event.from) }
    case 'expired':
      return { tag: 'expired', peer }
    case 'fault':
      return { tag: 'fault', message: event.text ?? '' }
  }
  throw new TunnelError('fault', `the native part tells of "${event.tag}", which is not known here`)
}

function requiredPath(path: NodePath | undefined): Path {
  if (path === undefined) throw new TunnelError('fault', 'the native part left the path of an event out')
  return pathOf(path)
}

function pathOf({ address, port, source, interfaceIndex }: NodePath): Path {
  return {
    remote: { address: formatIp(address), port: port as Port }, // the kernel gave it
    source: source === undefined ? null : formatIp(source),
    interfaceIndex,
  }
}

function nodePath({ remote, source, interfaceIndex }: Path): NodePath {
  return {
    address: bytesOf(remote.address),
    port: remote.port,
    source: source === null ? undefined : bytesOf(source),
    interfaceIndex,
  }
}

/** An IpAddress has bytes, always. */
function bytesOf(address: IpAddress): Uint8Array {
  return ipBytes(address) ?? new Uint8Array(0)
}
