import { parseIp, parsePort } from './address.ts'
import type { SocketAddress } from './address.ts'
import { conforms } from './conformance.ts'
import type { Subject } from './conformance.ts'
import { memoryPrimitives as primitives } from './crypto-memory.ts'
import { MemoryDataplane } from './dataplane-memory.ts'
import { cutTcp } from './ip-packet.ts'

conforms('in memory', async () => subject())

function subject(): Subject {
  const address = (host: number): SocketAddress => ({
    address: host === 3 ? parseIp('2001:db8::3') : parseIp(`192.0.2.${host}`),
    port: parsePort(5000 + host),
  })
  const kernel: Uint8Array[] = []
  const hosts: Uint8Array[][] = [[], [], [], []]
  const dataplane = new MemoryDataplane({
    primitives,
    port: parsePort(51820),
    mtu: 1420,
    toKernel: (packet) => kernel.push(packet),
    toNetwork: ({ remote }, datagram) => {
      hosts.find((_, host) => address(host).address === remote.address)?.push(datagram)
    },
  })
  return {
    dataplane,
    async fromKernel(packet, segment) {
      for (const piece of segment === undefined ? [packet] : cutTcp(packet, segment))
        dataplane.fromKernel(piece)
    },
    toKernel: async () => kernel.shift() ?? null,
    async fromNetwork(host, datagram) {
      dataplane.fromNetwork({ remote: address(host), source: null, interfaceIndex: 0 }, datagram)
    },
    toNetwork: async (host) => hosts[host]?.shift() ?? null,
    address,
    async settle() {},
    async [Symbol.asyncDispose]() {
      dataplane[Symbol.dispose]()
    },
  }
}
