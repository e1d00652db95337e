import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { parseCidr, parseIp, parsePort } from './address.ts'
import type { SocketAddress } from './address.ts'
import { memoryPrimitives as primitives } from './crypto-memory.ts'
import { MemoryDataplane } from './dataplane-memory.ts'
import type { PeerId } from './dataplane.ts'
import { formatPublicKey, Secret } from './key.ts'
import { startTunnel } from './tunnel.ts'
import type { Tunnel, TunnelEvent } from './tunnel.ts'

/** Two tunnels over memory data planes, on the real clock. */
function pair() {
  const addresses: SocketAddress[] = [1, 2].map((n) => ({
    address: parseIp(`192.0.2.${n}`),
    port: parsePort(n),
  }))
  const planes: MemoryDataplane[] = []
  const ends = [0, 1].map((self) => {
    const other = 1 - self
    const kernel: Uint8Array[] = []
    const events: TunnelEvent[] = []
    const plane = new MemoryDataplane({
      primitives,
      port: parsePort(51820),
      mtu: 1420,
      toKernel: (packet) => kernel.push(packet),
      toNetwork: (_, datagram) => {
        const remote = addresses[self]
        if (remote)
          setImmediate(() =>
            planes[other]?.fromNetwork({ remote, source: null, interfaceIndex: 0 }, datagram),
          )
      },
    })
    planes.push(plane)
    const privateKey = Secret.of(primitives.random(32))
    const dataplane = Object.assign(plane, { offloads: ['none'] })
    const tunnel = startTunnel(
      { name: `t${self}`, privateKey, onEvent: (event) => events.push(event) },
      dataplane,
      primitives,
    )
    return {
      tunnel,
      plane,
      kernel,
      events,
      publicKey: formatPublicKey(primitives.publicKey(privateKey.bytes())),
    }
  })
  const [client, server] = ends
  const endpoint = addresses[1]
  assert.ok(client && server && endpoint)
  return { client, server, endpoint }
}

function know(
  tunnel: Tunnel,
  publicKey: ReturnType<typeof formatPublicKey>,
  endpoint: SocketAddress | null,
): void {
  tunnel.putPeer({
    publicKey,
    presharedKey: null,
    allowedIps: [parseCidr('10.0.0.0/8')],
    endpoint,
    roaming: 'follow',
    persistentKeepalive: 0,
  })
}

async function until(condition: () => boolean): Promise<void> {
  const signal = AbortSignal.timeout(5000)
  while (!condition()) await delay(1, undefined, { signal })
}

describe('a tunnel', () => {
  it('shakes hands when it is told to connect, and says so on both ends', async () => {
    const { client, server, endpoint } = pair()
    await using first = client.tunnel
    await using second = server.tunnel
    know(first, server.publicKey, endpoint)
    know(second, client.publicKey, null)
    first.connect(server.publicKey)
    await until(() => client.events.length > 0 && server.events.length > 1)
    assert.deepEqual(client.events, [{ tag: 'session', peer: server.publicKey, role: 'initiator' }])
    assert.deepEqual(server.events.at(-1), { tag: 'session', peer: client.publicKey, role: 'responder' })
    const { latestHandshake, alive, sinceReceived } = first.peer(server.publicKey) ?? {}
    assert.ok(Math.abs((latestHandshake ?? 0) - Date.now()) < 60_000)
    assert.deepEqual([alive, sinceReceived], [true, 0])
    assert.equal(second.lastTimestamp(client.publicKey)?.length, 12)
  })

  it('takes a thousand events without holding the loop up', async () => {
    const { server } = pair()
    await using tunnel = server.tunnel
    const garbage = new Uint8Array(148)
    garbage[0] = 1
    const events = Array.from({ length: 1000 }, () => ({
      tag: 'initiation' as const,
      message: garbage,
      from: {
        remote: { address: parseIp('192.0.2.9'), port: parsePort(9) },
        source: null,
        interfaceIndex: 0,
      },
    }))
    const sizes: number[] = []
    server.plane.drain = (most) => {
      sizes.push(Math.min(most, events.length))
      return events.splice(0, most)
    }
    know(tunnel, formatPublicKey(primitives.random(32)), null)
    let turns = 0
    const turn = () => {
      turns++
      if (events.length > 0) setImmediate(turn)
    }
    setImmediate(turn)
    server.plane.putPeer(9 as PeerId, { persistentKeepalive: 1 })
    server.plane.setPath(
      9 as PeerId,
      { remote: { address: parseIp('192.0.2.9'), port: parsePort(9) }, source: null, interfaceIndex: 0 },
      'follow',
    )
    server.plane.advance(1000) // an event: the plane wakes the tunnel
    await until(() => events.length === 0)
    assert.ok(turns > 10)
    assert.ok(sizes.every((size) => size <= 64))
  })

  it('is closed once and for all, its keys with it', async () => {
    const { client, server, endpoint } = pair()
    know(client.tunnel, server.publicKey, endpoint)
    client.tunnel.connect(server.publicKey)
    await client.tunnel[Symbol.asyncDispose]()
    await client.tunnel[Symbol.asyncDispose]()
    assert.deepEqual(client.tunnel.peers(), [])
    await server.tunnel[Symbol.asyncDispose]()
  })
})
