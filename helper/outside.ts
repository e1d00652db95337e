/**
 * The way outside, past the tunnel: sockets that bear our mark, and what the kernel would do with a packet that does. Node
 * cannot mark a socket, so the addon makes it and Node adopts its descriptor.
 */
import { createSocket } from 'node:dgram'
import { Socket } from 'node:net'
import { familyOf, link, lookup, markedSocket, type IpAddress, type Run } from '@culvert/tunnel'
import { FWMARK } from './host/names.ts'
import type { OutsideSockets } from './resolver.ts'

/** Sockets that go around the tunnel. */
export const markedSockets: OutsideSockets = {
  udp(family) {
    const socket = createSocket(family === 4 ? 'udp4' : 'udp6')
    socket.bind({ fd: markedSocket({ family, type: 'udp', mark: FWMARK }) })
    return socket
  },
  tcp(address, port) {
    const fd = markedSocket({ family: familyOf(address), type: 'tcp', mark: FWMARK })
    return new Socket({ fd, readable: true, writable: true }).connect({ host: address, port })
  },
}

/** The MTU of the way to an address outside the tunnel, in bytes; null: there is no way. */
export async function pathMtu(run: Run, address: IpAddress): Promise<number | null> {
  const route = await lookup(run, address, FWMARK)
  if (route === null) return null
  return route.mtu ?? (await link(run, route.device))?.mtu ?? null
}
