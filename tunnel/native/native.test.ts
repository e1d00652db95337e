import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { closeSync, readdirSync, readFileSync, readSync, writeSync } from 'node:fs'
import { createServer, Socket } from 'node:net'
import type { AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import { promisify } from 'node:util'

import { parseCidr, parseIp, parsePort } from '../address.ts'
import type { Port } from '../address.ts'
import { holdsVectors } from '../crypto-vectors.ts'
import type { Path, PeerId } from '../dataplane.ts'
import { TunnelError } from '../error.ts'
import type { NativeDataplane } from './dataplane.ts'
import { markedSocket, nativePrimitives, openNativeDataplane, packetPair, peerCredentials } from './index.ts'

holdsVectors('Rust', nativePrimitives)

describe('the addon', () => {
  it('is said to be missing where it is not built', async () => {
    const stdout = await runModule(`
      useAddon('/nowhere/culvert.node')
      try { nativePrimitives.random(1) } catch (error) { console.log(error.name, error.code, error.message) }`)
    assert.equal(stdout, 'TunnelError no-native the native part is not built: npm run setup\n')
  })

  it('refuses keys and nonces of another length', () => {
    const [short, key, nothing] = [new Uint8Array(31), new Uint8Array(32), new Uint8Array(0)]
    assert.throws(() => nativePrimitives.publicKey(short), /a key is 32 bytes long/)
    assert.throws(() => nativePrimitives.seal(short, 0n, nothing, nothing), /a key is 32 bytes long/)
    assert.throws(() => nativePrimitives.xseal(key, short, nothing, nothing), /nonce is 24 bytes long/)
    assert.throws(() => nativePrimitives.seal(key, 2n ** 64n, nothing, nothing), /from 0 to 2\^64 - 1/)
    assert.throws(() => nativePrimitives.mac(new Uint8Array(33), nothing), /1 to 32 bytes/)
  })
})

describe('descriptors', () => {
  it('tell who holds the other end of a Unix socket', () => {
    const [a, b] = packetPair()
    const { pid, uid, gid } = peerCredentials(a)
    assert.deepEqual([pid, uid, gid], [process.pid, process.getuid?.(), process.getgid?.()])
    closeSync(a)
    closeSync(b)
    assert.throws(() => peerCredentials(a), hasCode('fault'))
  })

  it('are marked sockets that Node adopts: UDP', async () => {
    const fd = markedSocket({ family: 4, type: 'udp', mark: 0 })
    const socket = createSocket('udp4')
    socket.bind({ fd }) // at once
    const received = once(socket, 'message')
    // Not bound by us: the kernel chooses a port at the first send.
    const other = createSocket('udp4')
    other.bind(0, '127.0.0.1')
    await once(other, 'listening')
    other.on('message', (message, from) => other.send(message, from.port, from.address))
    socket.send('echo', other.address().port, '127.0.0.1')
    assert.equal(String((await received)[0]), 'echo')
    socket.close()
    other.close()
  })

  it('are marked sockets that Node adopts: TCP', async () => {
    const server = createServer((connection) => connection.pipe(connection)).listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo // it listens on an address
    const socket = new Socket({ fd: markedSocket({ family: 4, type: 'tcp', mark: 0 }) })
    socket.connect(port, '127.0.0.1')
    await once(socket, 'connect')
    socket.end('echo')
    const [data] = await once(socket, 'data')
    assert.equal(String(data), 'echo')
    server.close()
  })

  it('need a privilege to carry a mark', () => {
    const open = () => markedSocket({ family: 6, type: 'udp', mark: 0x6376 })
    if (isRoot) closeSync(open())
    else assert.throws(open, hasCode('no-privilege'))
  })

  it('keep the boundaries of messages in a packet pair', () => {
    const [a, b] = packetPair()
    for (const length of [1, 1500, 65_545]) writeSync(a, new Uint8Array(length).fill(length & 0xff))
    const buffer = new Uint8Array(70_000)
    assert.deepEqual([readSync(b, buffer), readSync(b, buffer), readSync(b, buffer)], [1, 1500, 65_545])
    closeSync(a)
    closeSync(b)
  })
})

describe('the data plane', () => {
  it('says in one sentence why it cannot be opened', () => {
    using first = openOnPair({ port: 0 })
    assert.throws(() => openOnPair({ port: first.port }), {
      name: 'TunnelError',
      code: 'port-taken',
      message: `UDP port ${first.port} is in use: stop what uses it (see ss -lnup), or choose another port`,
    })
    const named = (name: string) => () =>
      openNativeDataplane({ tun: { name }, mtu: 1420, port: 0, fwmark: 0, gso: 'auto' })
    assert.throws(named('much-too-long-a-name'), /"much-too-long-a-name" cannot name an interface/)
    assert.throws(named('has/slash'), /cannot name an interface/)
    if (!isRoot) assert.throws(named('culvert-test'), hasCode('no-privilege', 'no-tun'))
  })

  it('has the same port for both families and says what it may use', () => {
    using plane = openOnPair({ port: 0 })
    assert.ok(plane.port > 0)
    for (const offload of plane.offloads) {
      assert.match(offload, /^(tso|uso|tun-gro|tun-udp-gro|udp-gso|udp-gro|ipv6)$/)
    }
    using off = openOnPair({ port: 0, gso: 'off' })
    assert.deepEqual(
      off.offloads.filter((offload) => offload !== 'ipv6'),
      [],
    )
  })

  it('carries packets from one TUN to the other through two planes', async () => {
    using pair = connectedPair()
    const packet = ipPacket(1200)
    for (let i = 0; i < 50; i++) write(pair.kernelA, packet)
    for (let i = 0; i < 50; i++) assert.deepEqual(await read(pair.kernelB), packet)
    const { sent } = pair.a.counters()
    assert.deepEqual([sent.packets, sent.bytes], [50, 50 * 1200])
  })

  it('wakes its owner once, and gives what it has in order', async () => {
    const [ours, kernel] = packetPair()
    using plane = openNativeDataplane({ tun: { fd: ours }, mtu: 1420, port: 0, fwmark: 0, gso: 'auto' })
    closeSync(ours)
    const woken = Promise.withResolvers<void>()
    plane.onWake(() => woken.resolve())
    for (const peer of [1, 2] as PeerId[]) {
      plane.putPeer(peer, { persistentKeepalive: 0 })
      plane.setAllowedIps(peer, [parseCidr(`10.0.0.${peer}/32`)])
      plane.setPath(peer, pathTo(9 as Port), 'follow')
    }
    plane.start()
    for (const peer of [2, 1]) write(kernel, ipPacket(100, peer))
    await woken.promise
    while (!plane.isIdle) await delay(1)
    assert.deepEqual(plane.drain(10), [
      { tag: 'need-handshake', peer: 2, reason: 'staged' },
      { tag: 'need-handshake', peer: 1, reason: 'staged' },
    ])
    closeSync(kernel)
  })

  it('faults when its TUN goes away, and does nothing after it is disposed of', async () => {
    const [ours, kernel] = packetPair()
    const plane = openNativeDataplane({ tun: { fd: ours }, mtu: 1420, port: 0, fwmark: 0, gso: 'auto' })
    closeSync(ours)
    const woken = Promise.withResolvers<void>()
    plane.onWake(() => woken.resolve())
    plane.start()
    closeSync(kernel)
    await woken.promise
    assert.deepEqual(
      plane.drain(10).map((event) => event.tag),
      ['fault'],
    )
    plane[Symbol.dispose]()
    plane[Symbol.dispose]()
    plane.putPeer(1 as PeerId, { persistentKeepalive: 25 })
    plane.keepalive(1 as PeerId)
    plane.start()
    assert.deepEqual([plane.drain(10), plane.peerCounters(1 as PeerId)], [[], null])
  })

  it('sleeps while there is nothing to do', async () => {
    using pair = connectedPair()
    write(pair.kernelA, ipPacket(100))
    await read(pair.kernelB)
    while (!pair.a.isIdle) await delay(1)
    const before = wakes()
    assert.equal(before.length, 6)
    await delay(500)
    assert.deepEqual(wakes(), before)
  })

  it('gives every descriptor and thread back', async () => {
    const stdout = await runModule(`
      const { readdirSync } = await import('node:fs')
      const count = () => ['fd', 'task'].map((kind) => readdirSync('/proc/self/' + kind).length)
      const open = () => {
        const pair = packetPair()
        const plane = openNativeDataplane({ tun: { fd: pair[0] }, mtu: 1420, port: 0, fwmark: 0, gso: 'auto' })
        pair.forEach(closeSync)
        plane.start()
        plane[Symbol.dispose]()
      }
      open()
      const before = count()
      for (let i = 0; i < 5; i++) open()
      console.log(before.join() === count().join())`)
    assert.equal(stdout, 'true\n')
  })

  it('does not keep the process alive', async () => {
    const stdout = await runModule(`
      const [fd] = packetPair()
      const plane = openNativeDataplane({ tun: { fd }, mtu: 1420, port: 0, fwmark: 0, gso: 'auto' })
      plane.onWake(() => {})
      plane.start()
      console.log('started')`)
    assert.equal(stdout, 'started\n')
  })
})

/** Runs code that has the door's exports in a process of its own; what it wrote. */
async function runModule(code: string): Promise<string> {
  const door = new URL('index.ts', import.meta.url).href
  const names = 'nativePrimitives, openNativeDataplane, packetPair, useAddon'
  const source = `import { closeSync } from 'node:fs'\nimport { ${names} } from '${door}'\n${code}`
  const { stdout } = await run(process.execPath, ['--input-type=module', '-e', source], { timeout: 20_000 })
  return stdout
}

/** How often each worker in this process gave its processor up. */
function wakes(): string[] {
  return readdirSync('/proc/self/task')
    .map((task) => readFileSync(`/proc/self/task/${task}/status`, 'utf8'))
    .filter((status) => status.startsWith('Name:\tculvert-'))
    .map((status) => /^voluntary_ctxt_switches:\s*(\d+)/m.exec(status)?.[1] ?? '')
}

interface Pair extends Disposable {
  readonly a: NativeDataplane
  readonly kernelA: number
  readonly kernelB: number
}

/** Two planes with a session between them; peer 1 of each is the other. */
function connectedPair(): Pair {
  const [oursA, kernelA] = packetPair()
  const [oursB, kernelB] = packetPair()
  const open = (fd: number) =>
    openNativeDataplane({ tun: { fd }, mtu: 1420, port: 0, fwmark: 0, gso: 'auto' })
  const [a, b] = [open(oursA), open(oursB)]
  closeSync(oursA)
  closeSync(oursB)
  const peer = 1 as PeerId
  for (const [plane, to] of [
    [a, b],
    [b, a],
  ] as const) {
    plane.putPeer(peer, { persistentKeepalive: 0 })
    plane.setAllowedIps(peer, [parseCidr('0.0.0.0/0')])
    plane.setPath(peer, pathTo(to.port), 'follow')
  }
  const [indexA, indexB] = [a.allocateIndex(peer), b.allocateIndex(peer)]
  const key = (byte: number) => new Uint8Array(32).fill(byte)
  a.installSession(peer, indexA, {
    remoteIndex: indexB,
    sendKey: key(1),
    receiveKey: key(2),
    role: 'initiator',
  })
  b.installSession(peer, indexB, {
    remoteIndex: indexA,
    sendKey: key(2),
    receiveKey: key(1),
    role: 'initiator',
  })
  a.start()
  b.start()
  return {
    a,
    kernelA,
    kernelB,
    [Symbol.dispose]() {
      a[Symbol.dispose]()
      b[Symbol.dispose]()
      closeSync(kernelA)
      closeSync(kernelB)
    },
  }
}

function openOnPair({ port, gso = 'auto' }: { port: Port | 0; gso?: 'auto' | 'off' }): NativeDataplane {
  const [ours, kernel] = packetPair()
  try {
    return openNativeDataplane({ tun: { fd: ours }, mtu: 1420, port, fwmark: 0, gso })
  } finally {
    closeSync(ours)
    closeSync(kernel)
  }
}

function pathTo(port: Port): Path {
  return { remote: { address: parseIp('127.0.0.1'), port: parsePort(port) }, source: null, interfaceIndex: 0 }
}

/** An IPv4 packet to 10.0.0.`host` of a protocol that nobody interprets, after a vnet header of zeros. */
function ipPacket(length: number, host = 1): Uint8Array {
  const message = new Uint8Array(VNET + length)
  const view = new DataView(message.buffer, VNET)
  view.setUint8(0, 0x45)
  view.setUint16(2, length)
  view.setUint8(8, 64)
  view.setUint8(9, 253)
  message.set([10, 9, 0, 1, 10, 0, 0, host], VNET + 12)
  return message.subarray(0)
}

function write(kernel: number, message: Uint8Array): void {
  writeSync(kernel, message)
}

async function read(kernel: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(70_000)
  for (;;) {
    try {
      return buffer.slice(0, readSync(kernel, buffer))
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'EAGAIN')) throw error
      await delay(1)
    }
  }
}

function hasCode(...codes: readonly TunnelError['code'][]): (error: unknown) => boolean {
  return (error) => error instanceof TunnelError && codes.includes(error.code)
}

const run = promisify(execFile)
const isRoot = process.getuid?.() === 0
const VNET = 10
