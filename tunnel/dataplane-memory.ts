/**
 * The data plane in memory and in virtual time: the twin of `native/`, for tests. It does what dataplane.ts says, a
 * packet at a time, and owns neither a TUN nor a socket: what it would write goes to `MemoryWorld`.
 *
 *   fromKernel(packet)  ─▶ allowed IPs ─▶ session, or staged ─▶ seal ─▶ world.toNetwork
 *   fromNetwork(bytes)  ─▶ length, type ─▶ handshakes: mac1, gate ─▶ event
 *                                       ─▶ data: index ─▶ open, replay ─▶ timers, path ─▶ source check ─▶ world.toKernel
 *
 * Time moves by `advance` alone: it jumps, and then what is due happens once, as after a suspend.
 */
import type { Cidr, Port } from './address.ts'
import { AllowedIps } from './allowed-ips.ts'
import type { Primitives } from './crypto.ts'
import { dropReasons } from './dataplane.ts'
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
} from './dataplane.ts'
import { HandshakeGate } from './gate.ts'
import { parseIpPacket } from './ip-packet.ts'
import { Keypair } from './keypair.ts'
import * as wire from './wire.ts'

/** Where a memory data plane's packets and datagrams go. */
export interface MemoryWorld {
  readonly primitives: Primitives
  readonly port: Port
  /** Of the TUN, in bytes. */
  readonly mtu: number
  toKernel(packet: Uint8Array): void
  toNetwork(to: Path, datagram: Uint8Array): void
}

export class MemoryDataplane implements Dataplane {
  readonly port: Port
  readonly #world: MemoryWorld
  readonly #gate: HandshakeGate
  readonly #routes = new AllowedIps()
  readonly #peers = new Map<PeerId, MemoryPeer>()
  readonly #indices = new Map<number, IndexUse>()
  readonly #events: DataplaneEvent[] = []
  readonly #dropped: Record<DropReason, number> = noDrops()
  readonly #received = { datagrams: 0, packets: 0, bytes: 0 }
  readonly #sent = { datagrams: 0, packets: 0, bytes: 0 }
  #cookies = 0
  #now = 0
  #running = false
  #wake: () => void = () => {}

  constructor(world: MemoryWorld) {
    this.#world = world
    this.port = world.port
    this.#gate = new HandshakeGate(world.primitives)
  }

  // What the world hands in.

  /** The kernel routed an IP packet into the TUN. */
  fromKernel(packet: Uint8Array): void {
    if (!this.#running) return
    const parsed = parseIpPacket(packet)
    if (parsed === null || parsed.length !== packet.length) return this.#drop('bad-packet')
    const owner = this.#routes.lookup(parsed.destination)
    const peer = owner === null ? undefined : this.#peers.get(owner)
    if (peer === undefined) return this.#drop('no-route')
    if (peer.path === null) return this.#drop('no-endpoint')
    if (peer.staged.length === wire.STAGED_PACKETS) {
      peer.staged.shift()
      this.#drop('staged')
    }
    peer.staged.push(packet.slice())
    this.#flush(peer)
    if (peer.staged.length > 0) this.#ask(peer, 'staged')
  }

  /** A datagram came. */
  fromNetwork(from: Path, datagram: Uint8Array): void {
    if (!this.#running) return
    this.#received.datagrams++
    const kind = wire.classify(datagram)
    switch (kind) {
      case 'bad-length':
      case 'bad-type':
        return this.#drop(kind)
      case 'initiation':
        return this.#receiveInitiation(from, datagram)
      case 'response':
        return this.#receiveResponse(from, datagram)
      case 'cookie':
        return this.#receiveCookie(datagram)
      case 'data':
        return this.#receiveData(from, datagram)
    }
  }

  /** When something falls due next, in this plane's own time; null: nothing will. */
  nextDeadline(): number | null {
    let next = Infinity
    for (const peer of this.#peers.values()) {
      for (const at of Object.values(peer.due)) if (at !== null) next = Math.min(next, at)
    }
    return next === Infinity ? null : next
  }

  get now(): number {
    return this.#now
  }

  // Dataplane.

  onWake(listener: () => void): void {
    this.#wake = listener
  }

  start(): void {
    this.#running = true
  }

  drain(most: number): DataplaneEvent[] {
    return this.#events.splice(0, most)
  }

  setIdentity(publicKey: Uint8Array): void {
    this.#gate.setIdentity(publicKey)
  }

  setGate(gate: Gate): void {
    this.#gate.set(gate)
  }

  putPeer(id: PeerId, settings: { readonly persistentKeepalive: number }): void {
    const peer = this.#peers.get(id) ?? newPeer(id)
    this.#peers.set(id, peer)
    const interval = settings.persistentKeepalive * 1000
    if (interval === peer.persistentKeepalive) return
    peer.persistentKeepalive = interval
    peer.due.persistentKeepalive = interval === 0 ? null : this.#now + interval
  }

  removePeer(id: PeerId): void {
    const peer = this.#peers.get(id)
    if (peer === undefined) return
    this.#wipe(peer)
    this.#dropStaged(peer)
    for (const [index, use] of this.#indices) if (use.peer === peer) this.#indices.delete(index)
    this.#routes.remove(id)
    this.#peers.delete(id)
  }

  setAllowedIps(id: PeerId, prefixes: readonly Cidr[]): void {
    if (this.#peers.has(id)) this.#routes.replace(id, prefixes)
  }

  setPath(id: PeerId, path: Path | null, roaming: 'follow' | 'pinned'): void {
    const peer = this.#peers.get(id)
    if (peer === undefined) return
    peer.path = path
    peer.roaming = roaming
  }

  clearSource(id: PeerId): void {
    const peer = this.#peers.get(id)
    if (peer?.path) peer.path = { remote: peer.path.remote, source: null, interfaceIndex: 0 }
  }

  allocateIndex(id: PeerId): SessionIndex {
    const peer = this.#peers.get(id)
    for (;;) {
      const bytes = this.#world.primitives.random(4)
      const index = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0)
      if (this.#indices.has(index)) continue
      if (peer !== undefined) this.#indices.set(index, { tag: 'handshake', peer })
      return index as SessionIndex // the brand's one origin in this data plane
    }
  }

  freeIndex(index: SessionIndex): void {
    if (this.#indices.get(index)?.tag === 'handshake') this.#indices.delete(index)
  }

  installSession(id: PeerId, index: SessionIndex, keys: SessionKeys): boolean {
    const peer = this.#peers.get(id)
    const use = this.#indices.get(index)
    if (peer === undefined || use?.tag !== 'handshake' || use.peer !== peer) return false
    const keypair = new Keypair(this.#world.primitives, index, keys, this.#now)
    this.#indices.set(index, { tag: 'session', peer, keypair })
    this.#rotate(peer, keypair)
    peer.asked = null
    peer.due.ask = null
    peer.due.wipe = this.#now + wire.WIPE_TIME
    peer.rxBytes += keys.role === 'initiator' ? wire.messageLength.response : wire.messageLength.initiation
    this.#authenticated(peer)
    return true
  }

  wipeSessions(id: PeerId): void {
    const peer = this.#peers.get(id)
    if (peer !== undefined) this.#wipe(peer)
  }

  forbidSending(id: PeerId): void {
    const peer = this.#peers.get(id)
    peer?.current?.forbidSending()
    peer?.next?.forbidSending()
  }

  sendHandshake(id: PeerId, message: Uint8Array): void {
    const peer = this.#peers.get(id)
    if (peer === undefined) return
    this.#send(peer, message)
  }

  reply(to: Path, message: Uint8Array): void {
    this.#emit(to, message)
  }

  keepalive(id: PeerId): void {
    const peer = this.#peers.get(id)
    if (peer !== undefined) this.#seal(peer, NOTHING)
  }

  flushStaged(id: PeerId): number {
    const peer = this.#peers.get(id)
    return peer === undefined ? 0 : this.#flush(peer)
  }

  giveUp(id: PeerId): void {
    const peer = this.#peers.get(id)
    if (peer === undefined) return
    this.#dropStaged(peer)
    peer.due.keepalive = null
    peer.keepaliveOwed = false
    peer.due.noReply = null
    peer.due.wipe ??= this.#now + wire.WIPE_TIME
  }

  counters(): Counters {
    return {
      received: { ...this.#received },
      sent: { ...this.#sent },
      dropped: { ...this.#dropped },
      batched: { sent: 0, received: 0 },
      cookies: this.#cookies,
    }
  }

  peerCounters(id: PeerId): PeerCounters | null {
    const peer = this.#peers.get(id)
    if (peer === undefined) return null
    return {
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes,
      path: peer.path,
      sinceReceived: peer.receivedAt === null ? null : this.#now - peer.receivedAt,
      sinceSent: peer.sentAt === null ? null : this.#now - peer.sentAt,
      alive: peer.current?.canSend(this.#now) ?? false,
    }
  }

  advance(milliseconds: number): void {
    this.#now += milliseconds
    for (const peer of this.#peers.values()) this.#tick(peer)
  }

  [Symbol.dispose](): void {
    this.#running = false
    for (const id of this.#peers.keys()) this.removePeer(id)
  }

  // Incoming.

  #receiveInitiation(from: Path, message: Uint8Array): void {
    const fields = wire.decodeInitiation(message)
    if (fields === null) return this.#drop('bad-length')
    const verdict = this.#gate.judge(message, fields.sender, from.remote, this.#waiting(), this.#now)
    switch (verdict.tag) {
      case 'bad-mac':
        return this.#drop('bad-mac')
      case 'under-load':
        if (verdict.cookieReply !== null) {
          this.#cookies++
          this.#emit(from, verdict.cookieReply)
        }
        return this.#drop('under-load')
      case 'pass':
        return this.#pushHandshake({ tag: 'initiation', message: message.slice(), from })
    }
  }

  #receiveResponse(from: Path, message: Uint8Array): void {
    if (!this.#gate.fits(message)) return this.#drop('bad-mac')
    const receiver = wire.decodeResponse(message)?.receiver ?? 0
    const use = this.#indices.get(receiver)
    if (use?.tag !== 'handshake') return this.#drop('unknown-index')
    const index = receiver as SessionIndex // it is a key of #indices
    this.#pushHandshake({ tag: 'response', message: message.slice(), index, peer: use.peer.id, from })
  }

  /** It may answer our initiation, or our response, whose index is a session already. */
  #receiveCookie(message: Uint8Array): void {
    const receiver = wire.decodeCookieReply(message)?.receiver ?? 0
    const use = this.#indices.get(receiver)
    if (use === undefined) return this.#drop('unknown-index')
    const index = receiver as SessionIndex // it is a key of #indices
    this.#pushHandshake({ tag: 'cookie', message: message.slice(), index, peer: use.peer.id })
  }

  #receiveData(from: Path, datagram: Uint8Array): void {
    const message = wire.decodeData(datagram)
    const use = this.#indices.get(message?.receiver ?? 0)
    if (message === null || use?.tag !== 'session') return this.#drop('unknown-index')
    const { peer, keypair } = use
    const opened = keypair.open(message, this.#now)
    if (typeof opened === 'string') return this.#drop(opened)
    // From here on it is authentic.
    peer.rxBytes += datagram.length
    this.#follow(peer, from)
    this.#authenticated(peer)
    if (keypair === peer.next) this.#confirm(peer, keypair)
    if (peer.current?.staleAfterReceiving(this.#now)) this.#ask(peer, 'last-minute')
    if (opened.length > 0) this.#receivePacket(peer, opened)
  }

  #receivePacket(peer: MemoryPeer, padded: Uint8Array): void {
    if (peer.due.keepalive === null) peer.due.keepalive = this.#now + wire.KEEPALIVE_TIMEOUT
    else peer.keepaliveOwed = true
    const packet = parseIpPacket(padded)
    if (packet === null) return this.#drop('bad-packet')
    if (this.#routes.lookup(packet.source) !== peer.id) return this.#drop('source-not-allowed')
    this.#received.packets++
    this.#received.bytes += packet.length
    this.#world.toKernel(padded.slice(0, packet.length))
  }

  /** The peer proved that it holds the key: now we may send with it. */
  #confirm(peer: MemoryPeer, keypair: Keypair): void {
    this.#forget(peer.previous)
    peer.previous = peer.current
    peer.current = keypair
    peer.next = null
    peer.asked = null
    peer.due.ask = null
    this.#push({ tag: 'confirmed', peer: peer.id, index: keypair.index })
    this.#flush(peer)
  }

  #follow(peer: MemoryPeer, from: Path): void {
    const { address, port } = from.remote
    const moved = peer.path === null || peer.path.remote.address !== address || peer.path.remote.port !== port
    if (moved && peer.roaming === 'pinned') return
    peer.path = from
    if (moved) this.#push({ tag: 'roamed', peer: peer.id, path: from })
  }

  // Outgoing.

  /** Seals what waits, oldest first, while a session can send. */
  #flush(peer: MemoryPeer): number {
    let sent = 0
    for (let packet = peer.staged[0]; packet !== undefined; packet = peer.staged[0]) {
      if (!this.#seal(peer, packet)) break
      peer.staged.shift()
      sent++
    }
    return sent
  }

  /** Seals a packet, or nothing for a keepalive, and sends it; false when no session can send. */
  #seal(peer: MemoryPeer, packet: Uint8Array): boolean {
    const keypair = peer.current
    const padded = new Uint8Array(wire.paddedLength(packet.length, this.#world.mtu))
    padded.set(packet)
    const message = keypair?.seal(padded, this.#now) ?? null
    if (keypair === null || message === null) return false
    this.#send(peer, message)
    if (packet.length > 0) {
      this.#sent.packets++
      this.#sent.bytes += packet.length
      peer.due.noReply ??= this.#now + wire.KEEPALIVE_TIMEOUT + wire.REKEY_TIMEOUT + this.#jitter()
    }
    const stale = keypair.staleAfterSending(this.#now)
    if (stale !== null) this.#ask(peer, stale)
    return true
  }

  /** Sends a datagram that the peer will find authentic. */
  #send(peer: MemoryPeer, message: Uint8Array): void {
    if (peer.path === null) return this.#drop('no-endpoint')
    this.#emit(peer.path, message)
    peer.txBytes += message.length
    peer.sentAt = this.#now
    peer.due.keepalive = null
    this.#traversed(peer)
  }

  #emit(to: Path, datagram: Uint8Array): void {
    if (!this.#running) return
    this.#sent.datagrams++
    this.#world.toNetwork(to, datagram)
  }

  // Timers (paper, 6).

  #authenticated(peer: MemoryPeer): void {
    peer.receivedAt = this.#now
    peer.due.noReply = null
    this.#traversed(peer)
  }

  #traversed(peer: MemoryPeer): void {
    if (peer.persistentKeepalive > 0) peer.due.persistentKeepalive = this.#now + peer.persistentKeepalive
  }

  #tick(peer: MemoryPeer): void {
    if (this.#takeDue(peer, 'wipe')) {
      this.#wipe(peer)
      this.#push({ tag: 'expired', peer: peer.id })
    }
    if (this.#takeDue(peer, 'noReply')) this.#ask(peer, 'no-reply')
    if (this.#takeDue(peer, 'keepalive')) {
      this.#seal(peer, NOTHING)
      if (peer.keepaliveOwed) peer.due.keepalive = this.#now + wire.KEEPALIVE_TIMEOUT
      peer.keepaliveOwed = false
    }
    if (this.#takeDue(peer, 'persistentKeepalive')) {
      this.#traversed(peer)
      if (!this.#seal(peer, NOTHING) && this.#shouldBegin(peer)) this.#ask(peer, 'staged')
    }
    if (this.#takeDue(peer, 'ask') && peer.asked !== null) this.#ask(peer, peer.asked)
  }

  #takeDue(peer: MemoryPeer, timer: keyof MemoryPeer['due']): boolean {
    const at = peer.due[timer]
    if (at === null || at > this.#now) return false
    peer.due[timer] = null
    return true
  }

  /**
   * Whether a persistent keepalive that found no session should begin one. Where the peer began the last, it will begin
   * the next too, as long as it is alive: otherwise both ends would fight over every renewal.
   */
  #shouldBegin(peer: MemoryPeer): boolean {
    if (peer.path === null) return false
    const silence = peer.receivedAt === null ? Infinity : this.#now - peer.receivedAt
    return peer.lastRole !== 'responder' || silence >= wire.REJECT_AFTER_TIME
  }

  /** Asks for a handshake, at most once in REKEY_TIMEOUT; what came too soon is asked when that is over. */
  #ask(peer: MemoryPeer, reason: HandshakeReason): void {
    const earliest = peer.askedAt === null ? this.#now : peer.askedAt + wire.REKEY_TIMEOUT
    if (earliest > this.#now) {
      peer.asked ??= reason
      peer.due.ask = earliest
      return
    }
    peer.asked = null
    peer.due.ask = null
    peer.askedAt = this.#now
    this.#push({ tag: 'need-handshake', peer: peer.id, reason })
  }

  #jitter(): number {
    const bytes = this.#world.primitives.random(2)
    return (((bytes[0] ?? 0) << 8) | (bytes[1] ?? 0)) % (wire.REKEY_JITTER + 1)
  }

  // Sessions and events.

  #rotate(peer: MemoryPeer, keypair: Keypair): void {
    peer.lastRole = keypair.role
    switch (keypair.role) {
      case 'initiator':
        this.#forget(peer.previous)
        if (peer.next !== null) this.#forget(peer.current)
        peer.previous = peer.next ?? peer.current
        peer.next = null
        peer.current = keypair
        return
      case 'responder':
        this.#forget(peer.previous)
        this.#forget(peer.next)
        peer.previous = null
        peer.next = keypair
    }
  }

  #forget(keypair: Keypair | null): void {
    if (keypair === null) return
    keypair.wipe()
    this.#indices.delete(keypair.index)
  }

  #wipe(peer: MemoryPeer): void {
    this.#forget(peer.previous)
    this.#forget(peer.current)
    this.#forget(peer.next)
    peer.previous = null
    peer.current = null
    peer.next = null
    peer.due.wipe = null
    peer.due.noReply = null
    peer.due.keepalive = null
    peer.keepaliveOwed = false
  }

  #dropStaged(peer: MemoryPeer): void {
    for (const _ of peer.staged.splice(0)) this.#drop('staged')
    if (peer.asked === 'staged') peer.asked = null
  }

  #waiting(): number {
    return this.#events.filter(isHandshake).length
  }

  #pushHandshake(event: DataplaneEvent): void {
    if (this.#waiting() >= MAX_HANDSHAKES) return this.#drop('events-full')
    this.#push(event)
  }

  #push(event: DataplaneEvent): void {
    this.#events.push(event)
    if (this.#events.length === 1) queueMicrotask(() => this.#wake())
  }

  #drop(reason: DropReason): void {
    this.#dropped[reason]++
  }
}

/** What an index stands for. */
type IndexUse =
  | { readonly tag: 'handshake'; readonly peer: MemoryPeer }
  | { readonly tag: 'session'; readonly peer: MemoryPeer; readonly keypair: Keypair }

interface MemoryPeer {
  readonly id: PeerId
  /** Milliseconds; 0: none. */
  persistentKeepalive: number
  path: Path | null
  roaming: 'follow' | 'pinned'
  previous: Keypair | null
  current: Keypair | null
  /** A responder's, until the peer has used it. */
  next: Keypair | null
  lastRole: SessionKeys['role'] | null
  readonly staged: Uint8Array[]
  rxBytes: number
  txBytes: number
  receivedAt: number | null
  sentAt: number | null
  /** More came while a passive keepalive was pending: one more is owed after it. */
  keepaliveOwed: boolean
  /** When a handshake was asked for last, and what has been asked for since. */
  askedAt: number | null
  asked: HandshakeReason | null
  /** When each timer runs out; null: it does not run. */
  readonly due: {
    keepalive: number | null
    persistentKeepalive: number | null
    noReply: number | null
    wipe: number | null
    ask: number | null
  }
}

function newPeer(id: PeerId): MemoryPeer {
  return {
    id,
    persistentKeepalive: 0,
    path: null,
    roaming: 'follow',
    previous: null,
    current: null,
    next: null,
    lastRole: null,
    staged: [],
    rxBytes: 0,
    txBytes: 0,
    receivedAt: null,
    sentAt: null,
    keepaliveOwed: false,
    askedAt: null,
    asked: null,
    due: { keepalive: null, persistentKeepalive: null, noReply: null, wipe: null, ask: null },
  }
}

function isHandshake(event: DataplaneEvent): boolean {
  return event.tag === 'initiation' || event.tag === 'response' || event.tag === 'cookie'
}

function noDrops(): Record<DropReason, number> {
  return Object.fromEntries(dropReasons.map((reason) => [reason, 0])) as Record<DropReason, number> // every key is there
}

/** Handshakes that may wait to be drained. */
const MAX_HANDSHAKES = 256

const NOTHING = new Uint8Array(0)
