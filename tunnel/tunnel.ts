/**
 * A running tunnel: one TUN device, one UDP port, many peers. It joins `Device` (which decides) and the native data plane
 * (which carries) to the real clock, and is the only file that does. Client and server open the same thing.
 *
 *   data plane ─ wake ─▶ drain 64 events ─▶ Device.handle ─▶ (more? after the other work of the loop)
 *   one timer  ◀─ deadline ─ Device ◀─ tick ─ the timer
 */
import type { Port } from './address.ts'
import type { Primitives } from './crypto.ts'
import type { Counters, Dataplane } from './dataplane.ts'
import { Device } from './device.ts'
import type { DeviceEvent, DevicePeer, PeerStatus } from './device.ts'
import type { PublicKey, Secret } from './key.ts'
import { nativePrimitives, openNativeDataplane } from './native/index.ts'

export type { DeviceEvent as TunnelEvent, DevicePeer as TunnelPeer, PeerStatus } from './device.ts'

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
  /** Packets or super-packets that the interface queues. Default: it follows their size, so that about 2 MB wait. */
  readonly txQueueLength?: number
  /**
   * `one-send`: the kernel makes no super-packet that needs two UDP sends; for an end whose own programs send. `kernel`
   * (default): as they come; for an end that forwards, where the kernel would cut every larger one into single packets.
   */
  readonly superPackets?: 'one-send' | 'kernel'
  onEvent(event: DeviceEvent): void
}

export interface Tunnel extends AsyncDisposable {
  readonly name: string
  readonly port: Port
  /** Adds a peer, or changes one without dropping its session. */
  putPeer(peer: DevicePeer): void
  removePeer(peer: PublicKey): void
  /** Begins a handshake now, unless one is in flight or was begun less than REKEY_TIMEOUT ago. */
  connect(peer: PublicKey): void
  /** Lets the kernel choose every source address again: the uplink changed. */
  clearSources(): void
  peers(): readonly PeerStatus[]
  peer(key: PublicKey): PeerStatus | null
  /** The greatest handshake timestamp of a peer, to be kept over a restart and given to `putPeer`; null: none yet. */
  lastTimestamp(key: PublicKey): Uint8Array | null
  counters(): Counters
  /** What the data plane found it may use on this machine, e.g. `['tso', 'uso', 'udp-gso', 'udp-gro']`; for doctor. */
  readonly offloads: readonly string[]
}

/**
 * Opens the TUN device and the UDP port and begins to carry. The interface has its MTU and its queue; it is down and has
 * no address, which is the caller's plan to do.
 * @throws TunnelError `no-native`, `no-tun`, `no-privilege`, `name-taken`, `port-taken` or `fault`.
 */
export async function openTunnel(options: TunnelOptions): Promise<Tunnel> {
  const { name, mtu, port, fwmark, gso, txQueueLength, superPackets = 'kernel' } = options
  const dataplane = openNativeDataplane({
    tun: { name, superPackets, ...(txQueueLength === undefined ? {} : { txQueueLength }) },
    mtu,
    port,
    fwmark,
    gso,
  })
  return startTunnel(options, dataplane, nativePrimitives)
}

/** Starts a tunnel over a data plane that is open, and takes it. */
export function startTunnel(
  options: Pick<TunnelOptions, 'name' | 'privateKey' | 'onEvent'>,
  dataplane: Dataplane & { readonly offloads: readonly string[] },
  primitives: Primitives,
): Tunnel {
  return new RunningTunnel(options, dataplane, primitives)
}

class RunningTunnel implements Tunnel {
  readonly name: string
  readonly offloads: readonly string[]
  readonly #dataplane: Dataplane
  readonly #device: Device
  #timer: NodeJS.Timeout | null = null
  #isDraining = false
  #isClosed = false

  constructor(
    options: Pick<TunnelOptions, 'name' | 'privateKey' | 'onEvent'>,
    dataplane: Dataplane & { readonly offloads: readonly string[] },
    primitives: Primitives,
  ) {
    this.name = options.name
    this.offloads = dataplane.offloads
    this.#dataplane = dataplane
    this.#device = new Device({
      primitives,
      dataplane,
      privateKey: options.privateKey,
      wallClock: () => Date.now(),
      onEvent: (event) => options.onEvent(event),
    })
    dataplane.onWake(() => this.#wake())
    dataplane.start()
  }

  get port(): Port {
    return this.#dataplane.port
  }

  putPeer(peer: DevicePeer): void {
    this.#device.putPeer(peer, now())
    this.#arm()
  }

  removePeer(peer: PublicKey): void {
    this.#device.removePeer(peer)
    this.#arm()
  }

  connect(peer: PublicKey): void {
    this.#device.connect(peer, now())
    this.#arm()
  }

  clearSources(): void {
    this.#device.clearSources()
  }

  peers(): readonly PeerStatus[] {
    return this.#device.peers()
  }

  peer(key: PublicKey): PeerStatus | null {
    return this.#device.peer(key)
  }

  lastTimestamp(key: PublicKey): Uint8Array | null {
    return this.#device.lastTimestamp(key)
  }

  counters(): Counters {
    return this.#dataplane.counters()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#device[Symbol.dispose]()
    this.#dataplane[Symbol.dispose]()
  }

  #wake(): void {
    if (this.#isDraining || this.#isClosed) return
    this.#isDraining = true
    this.#drain()
  }

  /** A handshake costs a good part of a millisecond: after some of them everything else has its turn. */
  #drain(): void {
    if (this.#isClosed) return
    const events = this.#dataplane.drain(EVENTS_AT_ONCE)
    this.#isDraining = events.length === EVENTS_AT_ONCE
    if (this.#isDraining) setImmediate(() => this.#drain())
    for (const event of events) {
      if (this.#isClosed) return // by the listener of the event before
      this.#device.handle(event, now())
    }
    this.#arm()
  }

  /** One timer for the earliest deadline of all peers. It does not keep the process alive: the tunnel's owner does. */
  #arm(): void {
    if (this.#timer !== null) clearTimeout(this.#timer)
    this.#timer = null
    const deadline = this.#device.deadline()
    if (deadline === null || this.#isClosed) return
    this.#timer = setTimeout(() => this.#tick(), Math.max(0, deadline - now())).unref()
  }

  #tick(): void {
    this.#device.tick(now())
    this.#arm()
  }
}

/**
 * Milliseconds of a clock that is never set. It may stand still while the machine sleeps, which matters to nobody: by it
 * go retransmissions alone; the ages of keys are the data plane's, by CLOCK_BOOTTIME.
 */
function now(): number {
  return performance.now()
}

const EVENTS_AT_ONCE = 64
