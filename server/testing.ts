/** Twins and tools for the server's own tests. */
import type { Counters, PeerStatus, Tunnel, TunnelPeer } from '@culvert/tunnel'
import { dropReasons } from '@culvert/tunnel'
import { parsePort, type PublicKey } from '@culvert/tunnel/pure'

/** A tunnel without a network: it keeps peers as a real one does, and a test says what they did. */
export class MemoryTunnel implements Tunnel {
  readonly name = 'culvert-srv'
  readonly port = parsePort(51820)
  readonly offloads = []
  /** Every order it was given, in order: `put KEY`, `remove KEY`. */
  readonly orders: string[] = []
  readonly #peers = new Map<
    PublicKey,
    { peer: TunnelPeer; status: PeerStatus; lastTimestamp: Uint8Array | null }
  >()

  putPeer(peer: TunnelPeer): void {
    this.orders.push(`put ${peer.publicKey}`)
    const known = this.#peers.get(peer.publicKey)
    this.#peers.set(peer.publicKey, {
      peer,
      status: known?.status ?? { ...silent, publicKey: peer.publicKey },
      lastTimestamp: peer.lastTimestamp ?? known?.lastTimestamp ?? null,
    })
  }

  removePeer(peer: PublicKey): void {
    this.orders.push(`remove ${peer}`)
    this.#peers.delete(peer)
  }

  connect(): void {}

  clearSources(): void {}

  peers(): readonly PeerStatus[] {
    return [...this.#peers.values()].map(({ status }) => status)
  }

  peer(key: PublicKey): PeerStatus | null {
    return this.#peers.get(key)?.status ?? null
  }

  lastTimestamp(key: PublicKey): Uint8Array | null {
    return this.#peers.get(key)?.lastTimestamp ?? null
  }

  counters(): Counters {
    const dropped = Object.fromEntries(dropReasons.map((reason) => [reason, 0])) as Counters['dropped']
    const none = { datagrams: 0, packets: 0, bytes: 0 }
    return { received: none, sent: none, dropped, batched: { sent: 0, received: 0 }, cookies: 0 }
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** What it was last told of a peer. */
  told(key: PublicKey): TunnelPeer | null {
    return this.#peers.get(key)?.peer ?? null
  }

  /** A peer wrote, and handshakes came with it. */
  happens(key: PublicKey, status: Partial<PeerStatus>, lastTimestamp: Uint8Array | null): void {
    const known = this.#peers.get(key)
    if (known === undefined) throw new Error(`there is no peer ${key}`)
    this.#peers.set(key, {
      ...known,
      status: { ...known.status, ...status },
      lastTimestamp: lastTimestamp ?? known.lastTimestamp,
    })
  }
}

const silent = {
  path: null,
  latestHandshake: null,
  rxBytes: 0,
  txBytes: 0,
  sinceReceived: null,
  sinceSent: null,
  alive: false,
}
