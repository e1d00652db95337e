/**
 * The Rust data plane in the hands of a test: a packet pair stands for its TUN, and its UDP port is a real one on the
 * loopback interface, where four sockets are the hosts. Only `advance` makes time pass faster than it does.
 */
import { createSocket } from 'node:dgram'
import type { Socket } from 'node:dgram'
import { once } from 'node:events'
import { closeSync, readSync, writeSync } from 'node:fs'
import { setImmediate, setTimeout as delay } from 'node:timers/promises'

import { parseIp, parsePort } from '../address.ts'
import type { SocketAddress } from '../address.ts'
import type { Subject } from '../conformance.ts'
import { cutTcp } from '../ip-packet.ts'
import type { NativeDataplane } from './dataplane.ts'
import { openNativeDataplane, packetPair } from './index.ts'

/** Opens a data plane that is not started yet. */
export async function openSubject(options: { readonly gso: 'auto' | 'off' }): Promise<Subject> {
  const [ours, kernel] = packetPair()
  const dataplane = openNativeDataplane({ tun: { fd: ours }, mtu: 1420, port: 0, fwmark: 0, ...options })
  closeSync(ours)
  const hosts = await Promise.all(hostAddresses.map(openHost))
  return new NativeSubject(dataplane, kernel, hosts)
}

class NativeSubject implements Subject {
  readonly dataplane: NativeDataplane
  readonly #kernel: number
  readonly #hosts: readonly Host[]
  /** Packets of a super-packet that nobody has asked for yet. */
  readonly #packets: Uint8Array[] = []

  constructor(dataplane: NativeDataplane, kernel: number, hosts: readonly Host[]) {
    this.dataplane = dataplane
    this.#kernel = kernel
    this.#hosts = hosts
  }

  async fromKernel(packet: Uint8Array, segment?: number): Promise<void> {
    const message = Buffer.concat([segment === undefined ? PLAIN : tsoHeader(packet, segment), packet])
    while (!attempt(() => writeSync(this.#kernel, message))) await delay(1)
    await this.settle()
  }

  async toKernel(): Promise<Uint8Array | null> {
    await this.settle()
    const buffer = Buffer.alloc(VNET + 65_535)
    if (this.#packets.length === 0) {
      const length = attempt(() => readSync(this.#kernel, buffer)) ?? 0
      if (length > 0) this.#packets.push(...packetsOf(buffer.subarray(0, length)))
    }
    return this.#packets.shift() ?? null
  }

  async fromNetwork(host: number, datagram: Uint8Array): Promise<void> {
    const { socket, address } = this.#host(host)
    const to = address.address.includes(':') ? '::1' : '127.0.0.1'
    await new Promise<void>((resolve, reject) => {
      socket.send(datagram, this.dataplane.port, to, (error) => (error === null ? resolve() : reject(error)))
    })
  }

  async toNetwork(host: number): Promise<Uint8Array | null> {
    await this.settle()
    const { datagrams } = this.#host(host)
    // What was sent is in the socket already; Node has to read it.
    for (let turn = 0; turn < 10 && datagrams.length === 0; turn++) await delay(1)
    return datagrams.shift() ?? null
  }

  address(host: number): SocketAddress {
    return this.#host(host).address
  }

  async settle(): Promise<void> {
    await setImmediate()
    while (!this.dataplane.isIdle) await delay(1)
    await setImmediate()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.dataplane[Symbol.dispose]()
    closeSync(this.#kernel)
    await Promise.all(this.#hosts.map(({ socket }) => new Promise<void>((closed) => socket.close(closed))))
  }

  #host(host: number): Host {
    const found = this.#hosts[host]
    if (found === undefined) throw new RangeError(`there is no host ${host}`)
    return found
  }
}

interface Host {
  readonly socket: Socket
  readonly address: SocketAddress
  readonly datagrams: Uint8Array[]
}

async function openHost(text: string): Promise<Host> {
  const address = parseIp(text)
  const datagrams: Uint8Array[] = []
  const socket = createSocket({ type: text.includes(':') ? 'udp6' : 'udp4', recvBufferSize: 1 << 20 })
  socket.on('message', (message) => datagrams.push(Uint8Array.from(message)))
  const listening = once(socket, 'listening')
  socket.bind(0, address)
  await listening
  return { socket, address: { address, port: parsePort(socket.address().port) }, datagrams }
}

/** A system call on a descriptor that does not block; null: it would have. */
function attempt(call: () => number): number | null {
  try {
    return call()
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EAGAIN') return null
    throw error
  }
}

/** A virtio_net_hdr for a TCP super-packet. Its hdr_len is nonsense, as it is on a packet that the kernel forwards. */
function tsoHeader(packet: Uint8Array, segment: number): Buffer {
  const isV4 = (packet[0] ?? 0) >> 4 === 4
  const header = Buffer.alloc(VNET)
  header.writeUInt8(NEEDS_CSUM, 0)
  header.writeUInt8(isV4 ? TCPV4 : TCPV6, 1)
  header.writeUInt16LE(0xffff, 2)
  header.writeUInt16LE(segment, 4)
  header.writeUInt16LE(isV4 ? 20 : 40, 6)
  header.writeUInt16LE(16, 8)
  return header
}

/** The packets that a message from the data plane stands for. */
function packetsOf(message: Buffer): Uint8Array[] {
  const packet = Uint8Array.from(message.subarray(VNET))
  const type = message.readUInt8(1)
  return type === TCPV4 || type === TCPV6 ? cutTcp(packet, message.readUInt16LE(4)) : [packet]
}

/** Three hosts of one family and one of the other. */
const hostAddresses = ['127.0.0.1', '127.0.0.2', '127.0.0.3', '::1']
const VNET = 10
const PLAIN = Buffer.alloc(VNET)
const NEEDS_CSUM = 1
const TCPV4 = 1
const TCPV6 = 4
