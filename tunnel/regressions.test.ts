/**
 * Bugs that other implementations of WireGuard shipped (changelogs and issue trackers of gotatun, boringtun, firezone
 * and wireguard-go), each as the test that would have found it.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseCidr } from './address.ts'
import type { Cidr } from './address.ts'
import { memoryPrimitives as primitives } from './crypto-memory.ts'
import type { PeerId, SessionIndex } from './dataplane.ts'
import { Keypair } from './keypair.ts'
import { clear, Lab } from './lab.ts'
import type { LabHost } from './lab.ts'
import { ReplayWindow } from './replay.ts'
import { classify, decodeData } from './wire.ts'

const count = (lab: Lab, kind: string) =>
  lab.wire.filter(({ datagram }) => classify(datagram) === kind).length

/** Two hosts with a session, and what was sent so far forgotten. */
function connected(): { readonly lab: Lab; readonly client: LabHost; readonly server: LabHost } {
  const lab = new Lab()
  const [client, server] = lab.pair()
  client.device.connect(server.device.publicKey, client.now)
  lab.run(1000)
  lab.wire.splice(0)
  return { lab, client, server }
}

describe('a bug that others shipped is not ours:', () => {
  it('a clock that goes back ends the program', () => {
    const { lab, client, server } = connected()
    client.plane.advance(-60_000)
    server.plane.advance(-60_000)
    client.send(server)
    for (const event of server.plane.drain(64)) server.device.handle(event, server.now)
    assert.doesNotThrow(() => client.device.tick(client.now - 1_000_000))
    const initiations = count(lab, 'initiation')
    client.device.connect(server.device.publicKey, client.now) // and waits for no time to come back
    assert.equal(count(lab, 'initiation'), initiations + 1)
  })

  it('a response that takes longer than 250 ms is thrown away', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    lab.weather = { ...clear, latency: 2000 }
    client.send(server, 1)
    lab.run(6500)
    assert.deepEqual(server.marks(), [1])
    assert.equal(count(lab, 'initiation'), 1)
  })

  it('sessions are renewed far more often than every 120 s', () => {
    const { lab, client, server } = connected()
    for (let i = 0; i < 3600; i++) {
      client.send(server)
      server.send(client)
      lab.run(1000)
    }
    const renewals = count(lab, 'initiation')
    assert.ok(renewals >= 28 && renewals <= 30, `${renewals} renewals in an hour`)
  })

  it('idle peers answer keepalives with keepalives', () => {
    const { lab, client, server } = connected()
    client.plane.keepalive(FIRST)
    server.plane.keepalive(FIRST)
    lab.run(600_000)
    assert.equal(lab.wire.length, 2)
  })

  it('persistent keepalives are sent though there is traffic', () => {
    const { lab, client, server } = connected()
    client.know(server, { endpoint: server.address, persistentKeepalive: 25 })
    lab.run(10)
    lab.wire.splice(0)
    for (let i = 0; i < 10; i++) {
      client.send(server)
      lab.run(10_000)
    }
    assert.equal(lab.wire.filter(({ from }) => from.address === client.address.address).length, 10)
  })

  it('every client retries in the same instant', () => {
    const lab = new Lab()
    const server = lab.host()
    const clients = Array.from({ length: 20 }, () => lab.host())
    lab.weather = { ...clear, loss: 1 }
    for (const client of clients) {
      client.know(server, { endpoint: server.address })
      client.send(server)
    }
    lab.run(6000)
    assert.ok(new Set(lab.wire.slice(20).map(({ at }) => Math.round(at))).size > 10)
  })

  it('packets are sealed without padding', () => {
    const { lab, client, server } = connected()
    client.send(server) // 64 bytes
    assert.equal(lab.wire[0]?.datagram.length, 16 + 64 + 16)
    const packet = new Uint8Array(65)
    packet.set([0x45, 0, 0, 65])
    packet.set([10, 0, 0, 2], 16)
    client.plane.fromKernel(packet)
    assert.equal(lab.wire[1]?.datagram.length, 16 + 80 + 16)
  })

  it('the replay window is 1024, too narrow for a fast link', () => {
    const window = new ReplayWindow()
    assert.deepEqual([window.accept(8000n), window.accept(0n)], [true, true])
  })

  it('the counter is kept in 32 bits, and comes again', () => {
    const keys = {
      remoteIndex: 1,
      sendKey: new Uint8Array(32),
      receiveKey: new Uint8Array(32),
      role: 'initiator' as const,
    }
    const keypair = new Keypair(primitives, 1 as SessionIndex, keys, 0, 2n ** 32n - 1n)
    const counters = [0, 1].map(
      () => decodeData(keypair.seal(new Uint8Array(0), 0) ?? new Uint8Array(0))?.counter,
    )
    assert.deepEqual(counters, [2n ** 32n - 1n, 2n ** 32n])
  })

  it('a flood from one address uses up everybody’s handshakes', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    const flooder = lab.host()
    server.plane.setGate({ underLoadAt: 0, perSecond: 20, burst: 5, silent: false })
    server.know(flooder)
    flooder.know(server, { endpoint: server.address })
    for (let i = 0; i < 4; i++) {
      flooder.device.connect(server.device.publicKey, flooder.now)
      lab.run(5500)
    }
    const flood = lab.wire.findLast(
      ({ from, datagram }) => from.address === flooder.address.address && datagram.length === 148,
    )
    assert.ok(flood)
    client.send(server, 1)
    for (let passed = 0; passed < 12_000; passed += 10) {
      for (let i = 0; i < 5; i++) lab.send(flood.from, flood.to, flood.datagram)
      lab.run(10)
    }
    assert.deepEqual(server.marks(), [1])
  })

  it('after a hundred handshakes every one is answered with a cookie', () => {
    const lab = new Lab()
    const server = lab.host()
    for (let i = 0; i < 200; i++) {
      const client = lab.host()
      client.know(server, { endpoint: server.address })
      server.know(client)
      client.send(server, i)
      lab.run(100)
    }
    assert.equal(server.received.length, 200)
    assert.equal(server.plane.counters().cookies, 0)
  })

  it('a session that began under load has expired already', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    server.plane.setGate({ underLoadAt: 0, perSecond: 20, burst: 5, silent: false })
    client.send(server)
    lab.run(6000)
    for (let i = 0; i < 100; i++) {
      client.send(server)
      server.send(client)
      lab.run(1000)
    }
    assert.equal(client.received.length, 100)
    assert.equal(count(lab, 'response'), 1)
  })

  it('the source of an IPv6 packet is read where IPv4 has it', () => {
    const { lab, client, server } = connected()
    client.plane.setAllowedIps(FIRST, [parseCidr('::/0')])
    const packet = new Uint8Array(40)
    packet[0] = 0x60
    packet[24] = 0xfd
    packet.set([10, 0, 0, 1], 12) // where IPv4 has its source: the client's address, which it may use; here a part of an IPv6 one
    client.plane.fromKernel(packet)
    lab.run(100)
    assert.deepEqual([server.received, server.plane.counters().dropped['source-not-allowed']], [[], 1])
  })

  it('a peer with a subnet sends from an address inside it that is another peer’s', () => {
    const lab = new Lab()
    const [subnet, server] = lab.pair()
    const single = lab.host()
    server.know(subnet, { allowedIps: ['10.0.0.0/24' as Cidr] })
    server.know(single)
    subnet.send(server, 1)
    lab.run(1000)
    const spoofed = new Uint8Array(64)
    spoofed.set([0x45, 0, 0, 64])
    spoofed.set([10, 0, 0, 3], 12) // the third host's
    spoofed.set([10, 0, 0, 2], 16)
    subnet.plane.fromKernel(spoofed)
    lab.run(1000)
    assert.deepEqual(server.marks(), [1])
    assert.equal(server.plane.counters().dropped['source-not-allowed'], 1)
  })

  it('a datagram larger than any buffer ends the program', () => {
    const { lab, client, server } = connected()
    for (const type of [1, 2, 3, 4]) {
      const datagram = new Uint8Array(65_535)
      datagram[0] = type
      lab.send(client.address, server.address, datagram)
    }
    lab.run(1000)
    const { 'bad-length': length, 'unknown-index': index } = server.plane.counters().dropped
    assert.deepEqual({ length, index }, { length: 3, index: 1 })
  })

  it('a responder keeps an initiator’s address from a cookie reply or from a forged message', () => {
    const { lab, client, server } = connected()
    const elsewhere = lab.host()
    client.send(server, 1)
    const sealed = lab.wire[0]
    assert.ok(sealed)
    lab.run(100)
    lab.send(elsewhere.address, server.address, sealed.datagram) // replayed
    lab.send(elsewhere.address, server.address, sealed.datagram.with(40, 0)) // forged
    lab.run(100)
    assert.deepEqual(server.device.peer(client.device.publicKey)?.path?.remote, client.address)
  })
})

/** A device counts its peers from 1. */
const FIRST = 1 as PeerId
