/** A tunnel in memory, for tests: it has a link in a `MemoryKernel`, and a server that is there or not. */
import type {
  Counters,
  PeerStatus,
  PublicKey,
  Tunnel,
  TunnelEvent,
  TunnelOptions,
  TunnelPeer,
} from '@culvert/tunnel'
import { TunnelError } from '@culvert/tunnel'
import type { MemoryKernel } from './host/kernel-memory.ts'

/** What the servers of a test do, and what they were asked. */
export interface MemoryServers {
  /** Whether handshakes are answered. */
  answering: boolean
  /** Every tunnel that was opened, the newest last. */
  readonly tunnels: MemoryTunnel[]
}

/** `openTunnel` on a memory kernel. */
export function memoryTunnels(
  kernel: MemoryKernel,
  servers: MemoryServers,
): (options: TunnelOptions) => Promise<Tunnel> {
  return (options) => {
    if (kernel.links.has(options.name)) {
      return Promise.reject(new TunnelError('name-taken', `there is an interface "${options.name}" already`))
    }
    kernel.addLink(options.name, options.mtu)
    const tunnel = new MemoryTunnel(kernel, servers, options)
    servers.tunnels.push(tunnel)
    return Promise.resolve(tunnel)
  }
}

/** One tunnel, with its other side in the test's hands. */
export class MemoryTunnel implements Tunnel {
  readonly name: string
  readonly port: Tunnel['port']
  readonly offloads = []
  /** What `putPeer` was given, by key. */
  readonly configured = new Map<PublicKey, TunnelPeer>()
  /** Inner packets sent so far, as the test says. */
  sentPackets = 0
  isClosed = false
  readonly #kernel: MemoryKernel
  readonly #servers: MemoryServers
  /** What it was opened with. */
  readonly options: TunnelOptions

  constructor(kernel: MemoryKernel, servers: MemoryServers, options: TunnelOptions) {
    this.name = options.name
    // Any port is one.
    this.port = (options.port === 0 ? 40_000 : options.port) as Tunnel['port']
    this.#kernel = kernel
    this.#servers = servers
    this.options = options
  }

  /** The tunnel tells what happened to it. */
  tell(event: TunnelEvent): void {
    this.options.onEvent(event)
  }

  putPeer(peer: TunnelPeer): void {
    this.configured.set(peer.publicKey, peer)
  }

  removePeer(peer: PublicKey): void {
    this.configured.delete(peer)
  }

  connect(peer: PublicKey): void {
    if (!this.#servers.answering) return
    setImmediate(() => this.tell({ tag: 'session', peer, role: 'initiator' }))
  }

  clearSources(): void {}

  peers(): readonly PeerStatus[] {
    return [...this.configured.keys()].flatMap((key) => this.peer(key) ?? [])
  }

  peer(publicKey: PublicKey): PeerStatus | null {
    if (!this.configured.has(publicKey)) return null
    return {
      publicKey,
      path: null,
      latestHandshake: null,
      rxBytes: 0,
      txBytes: 0,
      sinceReceived: null,
      sinceSent: null,
      alive: true,
    }
  }

  lastTimestamp(): null {
    return null
  }

  counters(): Counters {
    const none = { datagrams: 0, packets: 0, bytes: 0 }
    return {
      received: none,
      sent: { ...none, packets: this.sentPackets },
      // Nothing is dropped, and nobody here asks.
      dropped: {} as Counters['dropped'],
      batched: { sent: 0, received: 0 },
      cookies: 0,
    }
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.isClosed = true
    this.#kernel.removeLink(this.name)
    return Promise.resolve()
  }
}
