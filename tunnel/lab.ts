/**
 * A lab of devices over memory data planes, on a network and a clock of its own: minutes of protocol in milliseconds, and
 * the same again for the same seed.
 *
 *   host.send ─▶ plane ─▶ network (loss, latency, reordering, copies) ─▶ plane ─▶ host.received
 *                  ▲▼ events                                              ▲▼
 *                 device                                                 device
 */
import { ipBytes, parseIp, parsePort } from './address.ts'
import type { Cidr, IpAddress, Port, SocketAddress } from './address.ts'
import { memoryPrimitives } from './crypto-memory.ts'
import type { Primitives } from './crypto.ts'
import { MemoryDataplane } from './dataplane-memory.ts'
import type { Path } from './dataplane.ts'
import { Device } from './device.ts'
import type { DeviceEvent, DevicePeer } from './device.ts'
import { Secret } from './key.ts'

/** How the network treats a datagram. Probabilities from 0 to 1, times in milliseconds. */
export interface Weather {
  readonly loss: number
  readonly copies: number
  readonly latency: number
  /** Up to this much is added to the latency, so that datagrams overtake each other. */
  readonly jitter: number
}

export const clear: Weather = { loss: 0, copies: 0, latency: 10, jitter: 0 }

/** A datagram on its way, or seen on it. */
export interface Transit {
  readonly at: number
  readonly from: SocketAddress
  readonly to: SocketAddress
  readonly datagram: Uint8Array
}

export class Lab {
  weather: Weather = clear
  /** Every datagram that was sent, lost ones too. */
  readonly wire: Transit[] = []
  readonly hosts: LabHost[] = []
  readonly #random: () => number
  #now = 0
  #flying: Transit[] = []

  constructor(seed = 1) {
    this.#random = generator(seed)
  }

  get now(): number {
    return this.#now
  }

  /** Adds a host: 192.0.2.n:51820 outside, 10.0.0.n inside. */
  host(): LabHost {
    const host = new LabHost(this, this.hosts.length + 1, this.#primitives())
    this.hosts.push(host)
    return host
  }

  /** Two hosts that know each other; the first knows the second's endpoint. */
  pair(): readonly [LabHost, LabHost] {
    const [client, server] = [this.host(), this.host()]
    client.know(server, { endpoint: server.address })
    server.know(client)
    return [client, server]
  }

  /** Lets this much time pass, with everything that falls into it. */
  run(milliseconds: number): void {
    const end = this.#now + milliseconds
    for (;;) {
      this.#settle()
      const next = this.#next()
      if (next > end) break
      this.#pass(next - this.#now)
      this.#deliver()
    }
    this.#pass(end - this.#now)
    this.#settle()
  }

  /** A datagram enters the network. */
  send(from: SocketAddress, to: SocketAddress, datagram: Uint8Array): void {
    this.wire.push({ at: this.#now, from, to, datagram })
    const { loss, copies, latency, jitter } = this.weather
    const times = this.#random() < copies ? 2 : 1
    for (let i = 0; i < times; i++) {
      if (this.#random() < loss) continue
      this.#flying.push({ at: this.#now + latency + this.#random() * jitter, from, to, datagram })
    }
  }

  #deliver(): void {
    const due = this.#flying.filter((transit) => transit.at <= this.#now).toSorted((a, b) => a.at - b.at)
    this.#flying = this.#flying.filter((transit) => transit.at > this.#now)
    for (const { to, from, datagram } of due) {
      const host = this.hosts.find(
        ({ address }) => address.address === to.address && address.port === to.port,
      )
      host?.plane.fromNetwork({ remote: from, source: to.address, interfaceIndex: 1 }, datagram.slice())
    }
  }

  #settle(): void {
    for (let busy = true; busy;) {
      busy = false
      for (const host of this.hosts) busy = host.settle() || busy
    }
  }

  #next(): number {
    const waits = this.hosts.map((host) => host.wait())
    const arrivals = this.#flying.map((transit) => transit.at)
    return Math.min(this.#now + Math.max(0, Math.min(Infinity, ...waits)), ...arrivals)
  }

  #pass(milliseconds: number): void {
    this.#now += milliseconds
    for (const host of this.hosts) host.plane.advance(milliseconds)
  }

  #primitives(): Primitives {
    return {
      ...memoryPrimitives,
      random: (length) => Uint8Array.from({ length }, () => Math.floor(this.#random() * 256)),
    }
  }
}

/** A machine with a tunnel. Its clock is the lab's and the time that it slept. */
export class LabHost {
  readonly plane: MemoryDataplane
  readonly device: Device
  readonly privateKey: Secret
  readonly inside: IpAddress
  readonly events: DeviceEvent[] = []
  /** Packets that came out of the tunnel. */
  readonly received: Uint8Array[] = []
  address: SocketAddress
  readonly #number: number
  readonly #primitives: Primitives

  constructor(lab: Lab, number: number, primitives: Primitives) {
    this.#number = number
    this.#primitives = primitives
    this.inside = parseIp(`10.0.0.${number}`)
    this.address = { address: parseIp(`192.0.2.${number}`), port: PORT }
    this.plane = new MemoryDataplane({
      primitives,
      port: PORT,
      mtu: 1420,
      toKernel: (packet) => this.received.push(packet),
      toNetwork: (to: Path, datagram) => lab.send(this.address, to.remote, datagram),
    })
    this.privateKey = Secret.of(primitives.random(32))
    this.device = new Device({
      primitives,
      dataplane: this.plane,
      privateKey: this.privateKey,
      wallClock: () => WALL_CLOCK + this.now,
      onEvent: (event) => this.events.push(event),
    })
    this.plane.start()
  }

  get now(): number {
    return this.plane.now
  }

  /** Adds another host as a peer, with its inside address as its allowed IP. */
  know(other: LabHost, changes: Partial<DevicePeer> = {}): void {
    this.device.putPeer(
      {
        publicKey: other.device.publicKey,
        presharedKey: null,
        allowedIps: [`${other.inside}/32` as Cidr], // host addresses are canonical
        endpoint: null,
        roaming: 'follow',
        persistentKeepalive: 0,
        ...changes,
      },
      this.now,
    )
  }

  /** Sends a packet to another host through the tunnel, with a number in it. */
  send(other: LabHost, mark = 0): void {
    const packet = new Uint8Array(64)
    const view = new DataView(packet.buffer)
    view.setUint8(0, 0x45)
    view.setUint16(2, packet.length)
    packet.set(ipBytes(this.inside) ?? [], 12)
    packet.set(ipBytes(other.inside) ?? [], 16)
    view.setUint32(20, mark)
    this.plane.fromKernel(packet)
  }

  /** The numbers in the packets that came, oldest first. */
  marks(): number[] {
    return this.received.map((packet) => new DataView(packet.buffer, packet.byteOffset).getUint32(20))
  }

  /** Goes to another network: another address outside, on which nothing that is on its way arrives. */
  move(): void {
    const address = parseIp(`198.51.100.${this.#number}`)
    this.address = { address, port: parsePort(1024 + (this.#primitives.random(1)[0] ?? 0)) }
    this.device.clearSources()
  }

  /** Sleeps: its clock goes on, and nothing of it happens until it wakes. */
  suspend(milliseconds: number): void {
    this.plane.advance(milliseconds)
  }

  /** Takes what the data plane has to say, and does what is due. Whether there was anything. */
  settle(): boolean {
    const events = this.plane.drain(64)
    for (const event of events) this.device.handle(event, this.now)
    const deadline = this.device.deadline()
    if (deadline === null || deadline > this.now) return events.length > 0
    this.device.tick(this.now)
    return true
  }

  /** Milliseconds until something falls due. */
  wait(): number {
    const deadlines = [this.device.deadline(), this.plane.nextDeadline()]
    return Math.min(...deadlines.map((at) => (at === null ? Infinity : at - this.now)))
  }
}

/** A generator of numbers from 0 to 1 that repeats itself for a seed (mulberry32). */
function generator(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const PORT: Port = parsePort(51820)
/** 2026-01-01. */
const WALL_CLOCK = 1_767_225_600_000
