/**
 * Many peers over one data plane: it hands each event of the data plane to the peer that it is for, and tells what came
 * of it. No I/O, no clock: `now` is milliseconds of a monotonic clock, the wall clock and the random bytes are given.
 *
 *   DataplaneEvent ─▶ handle(event, now) ─▶ Peer ─▶ calls of the data plane, DeviceEvent
 *   deadline       ◀─ tick(now)          ─▶ Peer: retransmissions
 */
import type { Cidr, SocketAddress } from './address.ts'
import type { Primitives } from './crypto.ts'
import type { Dataplane, DataplaneEvent, Path, PeerId } from './dataplane.ts'
import { formatPublicKey, Secret } from './key.ts'
import type { PublicKey } from './key.ts'
import { consumeInitiation, wipeHandshake } from './noise.ts'
import type { Identity } from './noise.ts'
import { Peer } from './peer.ts'
import type { PeerContext } from './peer.ts'
import { isLater, timestamp } from './tai64n.ts'

/** A peer as the device is told of it. */
export interface DevicePeer {
  readonly publicKey: PublicKey
  readonly presharedKey: Secret | null
  readonly allowedIps: readonly Cidr[]
  /** Null: not known until the peer writes to us; of a peer that is there already, it stays where it is. */
  readonly endpoint: SocketAddress | null
  /** `pinned`: only `putPeer` moves the endpoint, never a datagram. */
  readonly roaming: 'follow' | 'pinned'
  /** Seconds; 0: none. */
  readonly persistentKeepalive: number
  /**
   * The greatest timestamp that the peer is known to have sent (12 bytes, as `lastTimestamp` gives it): without it,
   * whoever recorded an initiation can make a restarted server answer it.
   */
  readonly lastTimestamp?: Uint8Array
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

export type DeviceEvent =
  /** A handshake completed; for a responder, the peer has proved that it holds the key. */
  | { readonly tag: 'session'; readonly peer: PublicKey; readonly role: 'initiator' | 'responder' }
  /**
   * Initiations went unanswered for REKEY_ATTEMPT_TIME (90 s). The next packet begins again; where packets kept coming,
   * it has begun again already.
   */
  | { readonly tag: 'gave-up'; readonly peer: PublicKey }
  | { readonly tag: 'roamed'; readonly peer: PublicKey; readonly path: Path }
  /** The data plane stopped itself; the interface stays and drops everything. */
  | { readonly tag: 'fault'; readonly message: string }

export interface DeviceOptions {
  readonly primitives: Primitives
  readonly dataplane: Dataplane
  /** Copied. */
  readonly privateKey: Secret
  /** Unix epoch in milliseconds. */
  wallClock(): number
  onEvent(event: DeviceEvent): void
}

export class Device implements Disposable {
  readonly #options: DeviceOptions
  readonly #context: PeerContext
  readonly #peers = new Map<PublicKey, Peer>()
  readonly #byId = new Map<PeerId, Peer>()
  /** The peers that a tick concerns: a server's peers are idle, and there may be many. */
  readonly #waiting = new Set<Peer>()
  #privateKey: Secret
  #publicKey: Uint8Array
  #lastId = 0
  #timestamp: Uint8Array | null = null

  constructor(options: DeviceOptions) {
    const { primitives, dataplane } = options
    this.#options = options
    this.#privateKey = copyOf(options.privateKey)
    this.#publicKey = primitives.publicKey(this.#privateKey.bytes())
    this.#context = {
      primitives,
      dataplane,
      identity: () => this.#identity(),
      timestamp: () => (this.#timestamp = timestamp(options.wallClock(), this.#timestamp)),
      established: (peer, role) => {
        peer.latestHandshake = options.wallClock()
        options.onEvent({ tag: 'session', peer: peer.publicKey, role })
      },
      gaveUp: (peer) => options.onEvent({ tag: 'gave-up', peer: peer.publicKey }),
      heard: (peer, from) => this.#follow(peer, from),
    }
    dataplane.setIdentity(this.#publicKey)
  }

  get publicKey(): PublicKey {
    return formatPublicKey(this.#publicKey)
  }

  /** Copies the key. Sessions may receive until they end, and send no more; a peer that has our new key is dropped. */
  setPrivateKey(privateKey: Secret): void {
    const { primitives, dataplane } = this.#options
    this.#privateKey[Symbol.dispose]()
    this.#privateKey = copyOf(privateKey)
    this.#publicKey = primitives.publicKey(this.#privateKey.bytes())
    dataplane.setIdentity(this.#publicKey)
    this.removePeer(this.publicKey)
    for (const peer of this.#peers.values()) {
      peer.abort()
      dataplane.forbidSending(peer.id)
    }
    this.#waiting.clear()
  }

  /**
   * Adds a peer, or changes one without dropping its session; a preshared key counts from the next handshake. A peer
   * that has our own public key is not added. With a new persistent keepalive a handshake begins at once.
   */
  putPeer(config: DevicePeer, now: number): void {
    if (config.publicKey === this.publicKey) return
    const { dataplane } = this.#options
    const known = this.#peers.get(config.publicKey)
    const peer = known ?? new Peer(this.#context, ++this.#lastId as PeerId, config.publicKey) // chosen here
    this.#peers.set(peer.publicKey, peer)
    this.#byId.set(peer.id, peer)
    peer.setPresharedKey(config.presharedKey === null ? null : copyOf(config.presharedKey))
    importTimestamp(peer, config.lastTimestamp)
    peer.roaming = config.roaming

    const kept = known === undefined ? 0 : known.persistentKeepalive
    peer.persistentKeepalive = config.persistentKeepalive
    dataplane.putPeer(peer.id, { persistentKeepalive: config.persistentKeepalive })
    dataplane.setAllowedIps(peer.id, config.allowedIps)
    const current = dataplane.peerCounters(peer.id)?.path ?? null
    dataplane.setPath(peer.id, moved(current, config.endpoint), config.roaming)
    if (kept === 0 && config.persistentKeepalive > 0) peer.connect(now)
    this.#track(peer)
  }

  removePeer(publicKey: PublicKey): void {
    const peer = this.#peers.get(publicKey)
    if (peer === undefined) return
    peer[Symbol.dispose]()
    this.#options.dataplane.removePeer(peer.id)
    this.#peers.delete(publicKey)
    this.#byId.delete(peer.id)
    this.#waiting.delete(peer)
  }

  /** Begins a handshake now, unless one is in flight or was begun less than REKEY_TIMEOUT ago. */
  connect(publicKey: PublicKey, now: number): void {
    const peer = this.#peers.get(publicKey)
    if (peer === undefined) return
    peer.connect(now)
    this.#track(peer)
  }

  /** Lets the kernel choose every source address again: the uplink changed. */
  clearSources(): void {
    for (const peer of this.#peers.values()) this.#options.dataplane.clearSource(peer.id)
  }

  /** The greatest timestamp that a peer has sent, to be kept over a restart; null: none, or no such peer. */
  lastTimestamp(publicKey: PublicKey): Uint8Array | null {
    return this.#peers.get(publicKey)?.greatestTimestamp?.slice() ?? null
  }

  peers(): PeerStatus[] {
    return [...this.#peers.values()].map((peer) => this.#status(peer))
  }

  peer(publicKey: PublicKey): PeerStatus | null {
    const peer = this.#peers.get(publicKey)
    return peer === undefined ? null : this.#status(peer)
  }

  /** Takes one event of the data plane. Never throws on account of the network. */
  handle(event: DataplaneEvent, now: number): void {
    const { onEvent } = this.#options
    if (event.tag === 'fault') return onEvent(event)
    if (event.tag === 'initiation') return this.#answer(event.message, event.from, now)
    const peer = this.#byId.get(event.peer)
    if (peer === undefined) return // removed while the event waited
    switch (event.tag) {
      case 'response':
        peer.consumeResponse(event.message, event.index, event.from)
        break
      case 'cookie':
        peer.consumeCookie(event.message, now)
        break
      case 'need-handshake':
        peer.ask(event.reason, now)
        break
      case 'confirmed':
        peer.confirmed()
        break
      case 'roamed':
        onEvent({ tag: 'roamed', peer: peer.publicKey, path: event.path })
        break
      case 'expired':
        break // the keys are gone; a handshake in flight goes on, and the timestamp is kept
    }
    this.#track(peer)
  }

  /** Does what is due, and says when there is something next; null: nothing until something happens. */
  tick(now: number): number | null {
    for (const peer of this.#waiting) {
      peer.tick(now)
      this.#track(peer)
    }
    return this.deadline()
  }

  /** When `tick` has something to do; null: never. It may change with every other call. */
  deadline(): number | null {
    let next: number | null = null
    for (const peer of this.#waiting) {
      const at = peer.deadline()
      if (at !== null && (next === null || at < next)) next = at
    }
    return next
  }

  /** Wipes every secret that it holds. The data plane is the caller's. */
  [Symbol.dispose](): void {
    for (const publicKey of this.#peers.keys()) this.removePeer(publicKey)
    this.#privateKey[Symbol.dispose]()
  }

  /** Until all of it was authentic we do not know whose it is; for a stranger the work is the same, and no answer. */
  #answer(message: Uint8Array, from: Path, now: number): void {
    const initiation = consumeInitiation(this.#options.primitives, this.#identity(), message)
    if (initiation === null) return
    const peer = this.#peers.get(formatPublicKey(initiation.remoteStatic))
    peer?.answer(initiation, from, now)
    wipeHandshake(initiation)
    if (peer !== undefined) this.#track(peer)
  }

  #follow(peer: Peer, from: Path): void {
    const { dataplane, onEvent } = this.#options
    const path = dataplane.peerCounters(peer.id)?.path ?? null
    const isElsewhere = path === null || !isSame(path.remote, from.remote)
    if (isElsewhere && peer.roaming === 'pinned') return
    dataplane.setPath(peer.id, from, peer.roaming)
    if (isElsewhere) onEvent({ tag: 'roamed', peer: peer.publicKey, path: from })
  }

  #track(peer: Peer): void {
    if (peer.deadline() === null) this.#waiting.delete(peer)
    else this.#waiting.add(peer)
  }

  #status(peer: Peer): PeerStatus {
    const counters = this.#options.dataplane.peerCounters(peer.id)
    return {
      publicKey: peer.publicKey,
      path: counters?.path ?? null,
      latestHandshake: peer.latestHandshake,
      rxBytes: counters?.rxBytes ?? 0,
      txBytes: counters?.txBytes ?? 0,
      sinceReceived: counters?.sinceReceived ?? null,
      sinceSent: counters?.sinceSent ?? null,
      alive: counters?.alive ?? false,
    }
  }

  #identity(): Identity {
    return { privateKey: this.#privateKey.bytes(), publicKey: this.#publicKey }
  }
}

/** The path to an endpoint; the one there is, with the source that it learnt, when it leads there already. */
function moved(current: Path | null, endpoint: SocketAddress | null): Path | null {
  if (endpoint === null || (current !== null && isSame(current.remote, endpoint))) return current
  return { remote: endpoint, source: null, interfaceIndex: 0 }
}

function isSame(a: SocketAddress, b: SocketAddress): boolean {
  return a.address === b.address && a.port === b.port
}

function importTimestamp(peer: Peer, bytes: Uint8Array | undefined): void {
  if (bytes === undefined) return
  if (peer.greatestTimestamp === null || isLater(bytes, peer.greatestTimestamp))
    peer.greatestTimestamp = bytes.slice()
}

function copyOf(secret: Secret): Secret {
  return Secret.of(secret.bytes().slice())
}
