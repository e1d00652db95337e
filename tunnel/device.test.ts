import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parsePort } from './address.ts'
import { CookieMemory } from './cookie.ts'
import { memoryPrimitives } from './crypto-memory.ts'
import type { PeerId } from './dataplane.ts'
import { Device } from './device.ts'
import type { DeviceEvent } from './device.ts'
import { Secret } from './key.ts'
import { clear, Lab } from './lab.ts'
import type { LabHost, Transit } from './lab.ts'
import { createInitiation } from './noise.ts'
import { timestamp } from './tai64n.ts'
import { classify } from './wire.ts'

const kinds = (transits: readonly Transit[]) => transits.map(({ datagram }) => classify(datagram))
const count = (lab: Lab, kind: string) => kinds(lab.wire).filter((each) => each === kind).length
const tags = (host: LabHost) => host.events.map((event) => event.tag)

describe('two devices', () => {
  it('shake hands for the first packet and deliver it, the initiator confirming the key with it', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.send(server, 7)
    lab.run(1000)
    assert.deepEqual(kinds(lab.wire), ['initiation', 'response', 'data'])
    assert.deepEqual(server.marks(), [7])
    assert.deepEqual(client.events, [{ tag: 'session', peer: server.device.publicKey, role: 'initiator' }])
    assert.deepEqual(server.events, [
      {
        tag: 'roamed',
        peer: client.device.publicKey,
        path: { remote: client.address, source: server.address.address, interfaceIndex: 1 },
      },
      { tag: 'session', peer: client.device.publicKey, role: 'responder' },
    ])
    server.send(client, 8)
    lab.run(1000)
    assert.deepEqual(client.marks(), [8])
  })

  it('confirm the key at once with a keepalive when no packet waits', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.device.connect(server.device.publicKey, client.now)
    lab.run(100)
    assert.deepEqual(
      lab.wire.map(({ datagram }) => datagram.length),
      [148, 92, 32],
    )
    assert.deepEqual(tags(server), ['roamed', 'session'])
    server.send(client)
    lab.run(100)
    assert.equal(client.received.length, 1)
  })

  it('come to a session when their initiations cross', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    server.know(client, { endpoint: client.address })
    client.send(server, 1)
    server.send(client, 2)
    lab.run(200)
    assert.deepEqual([server.marks(), client.marks()], [[1], [2]])
    client.send(server, 3)
    server.send(client, 4)
    lab.run(200)
    assert.deepEqual(
      [server.marks(), client.marks()],
      [
        [1, 3],
        [2, 4],
      ],
    )
  })

  it('agree with a preshared key and do not without the same one', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    const presharedKey = Secret.of(memoryPrimitives.random(32))
    server.know(client, { presharedKey })
    client.send(server)
    lab.run(20_000)
    assert.deepEqual([server.received.length, tags(client).includes('session')], [0, false])
    client.know(server, { endpoint: server.address, presharedKey })
    lab.run(10_000)
    assert.equal(server.received.length, 1)
  })

  it('renew their session after 120 s of traffic, the initiator beginning, without losing a packet', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    for (let i = 0; i < 300; i++) {
      client.send(server, i)
      server.send(client, i)
      lab.run(1000)
    }
    const all = Array.from({ length: 300 }, (_, i) => i)
    // The server did not know where to send its first.
    assert.deepEqual([server.marks(), client.marks()], [all, all.slice(1)])
    assert.equal(count(lab, 'initiation'), 3)
    assert.ok(client.events.every((event) => event.tag !== 'session' || event.role === 'initiator'))
  })

  it('fall silent when there is nothing to say: no keepalive answers a keepalive', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.send(server)
    lab.run(60_000)
    const said = lab.wire.length
    lab.run(3_600_000)
    assert.equal(lab.wire.length, said)
    assert.equal(said, 4) // initiation, response, packet, and the server's passive keepalive
  })
})

describe('a device', () => {
  it('retries every 5 s with up to 333 ms of jitter, and gives up after 90 s', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    lab.weather = { ...clear, loss: 1 }
    client.send(server)
    lab.run(200_000)
    const times = lab.wire.map(({ at }) => at)
    const gaps = times.slice(1).map((at, i) => at - (times[i] ?? 0))
    assert.ok(gaps.every((gap) => gap >= 5000 && gap <= 5333))
    assert.ok(new Set(gaps).size > 10, 'the jitter is drawn anew')
    assert.ok(times.length === 18 || times.length === 19, `${times.length} initiations`)
    assert.deepEqual(client.events, [{ tag: 'gave-up', peer: server.device.publicKey }])
    assert.deepEqual(client.plane.counters().dropped.staged, 1)
    lab.weather = clear
    client.send(server, 9) // the next packet begins again
    lab.run(1000)
    assert.deepEqual(server.marks(), [9])
  })

  it('goes on trying while there is new data, and says every 90 s that nobody answers', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    lab.weather = { ...clear, loss: 1 }
    for (let i = 0; i < 200; i++) {
      client.send(server, i)
      lab.run(1000)
    }
    assert.deepEqual(tags(client), ['gave-up', 'gave-up'])
    assert.ok(lab.wire.length >= 37)
    lab.weather = clear
    lab.run(6000)
    assert.deepEqual(
      server.marks(),
      Array.from({ length: 128 }, (_, i) => i + 72), // what waited was not given up
    )
  })

  it('never sends two initiations within 5 s, whatever asks for them', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    lab.weather = { ...clear, loss: 0.5 }
    for (let i = 0; i < 300; i++) {
      client.device.connect(server.device.publicKey, client.now)
      client.send(server, i)
      if (i % 100 === 50) client.plane.wipeSessions(1 as PeerId) // a device's first peer
      lab.run(700)
    }
    const times = lab.wire.filter(({ datagram }) => classify(datagram) === 'initiation').map(({ at }) => at)
    assert.ok(times.length > 3)
    assert.ok(times.slice(1).every((at, i) => at - (times[i] ?? 0) >= 5000))
  })

  it('waits 5 s after a response of its own before it begins, and not at all once that session is confirmed', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.device.connect(server.device.publicKey, client.now)
    lab.run(11) // the initiation arrived, the response is on its way
    lab.weather = { ...clear, loss: 1 }
    server.send(client, 1)
    lab.run(1000)
    assert.equal(count(lab, 'initiation'), 1)
    lab.run(3900)
    assert.equal(count(lab, 'initiation'), 1)
    lab.weather = clear
    lab.run(1000)
    assert.equal(client.marks().length, 1)
  })

  it('clears the source address with every retry and when there is no reply', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.send(server)
    lab.run(1000)
    const source = () => client.device.peer(server.device.publicKey)?.path?.source
    assert.equal(source(), client.address.address)
    lab.weather = { ...clear, loss: 1 }
    client.send(server)
    lab.run(14_000)
    assert.equal(source(), client.address.address)
    lab.run(2000)
    assert.equal(source(), null)
    client.plane.setPath(
      1 as PeerId,
      { remote: server.address, source: client.address.address, interfaceIndex: 1 },
      'follow',
    )
    lab.run(6000) // the retry
    assert.equal(source(), null)
  })

  it('does not repeat its initiation within 5 s of an answer of its own, nor once that session is confirmed', () => {
    for (const [answerIsLost, repeatedAt] of [
      [true, 9000],
      [false, Infinity],
    ] as const) {
      const lab = new Lab()
      const [client, server] = lab.pair()
      lab.weather = { ...clear, loss: 1 }
      client.device.connect(server.device.publicKey, client.now)
      lab.run(4000)
      server.know(client, { endpoint: client.address })
      lab.weather = clear
      server.device.connect(client.device.publicKey, server.now)
      lab.run(5)
      lab.weather = { ...clear, loss: answerIsLost ? 1 : 0 }
      lab.run(20_000)
      const ours = lab.wire.filter(({ from, datagram }) => from === client.address && datagram.length === 148)
      assert.ok((ours[1]?.at ?? Infinity) >= repeatedAt)
    }
  })

  it('counts the 5 s from its last message, when it had already put off beginning', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    const from = { remote: client.address, source: null, interfaceIndex: 0 }
    const answer = (at: number) =>
      server.device.handle({ tag: 'initiation', message: initiationOf(client, server, at), from }, at)
    answer(1000)
    server.device.handle({ tag: 'need-handshake', peer: 1 as PeerId, reason: 'staged' }, 2000)
    answer(5000)
    assert.deepEqual([server.device.tick(6000), server.device.tick(9999)], [10_000, 10_000])
    assert.equal(count(lab, 'initiation'), 0)
    server.device.tick(10_000)
    assert.equal(count(lab, 'initiation'), 1)
  })

  it('leaves the source address alone when it is told of an endpoint that it is at', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.send(server)
    lab.run(100)
    const path = client.device.peer(server.device.publicKey)?.path
    client.know(server, { endpoint: server.address })
    assert.deepEqual(client.device.peer(server.device.publicKey)?.path, path)
    assert.notEqual(path?.source, null)
    const moved = { address: server.address.address, port: parsePort(9) }
    client.know(server, { endpoint: moved })
    assert.deepEqual(client.device.peer(server.device.publicKey)?.path, {
      remote: moved,
      source: null,
      interfaceIndex: 0,
    })
  })

  it('takes no initiation twice, nor one older than the last, nor two within 20 ms', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    const stamps = [1000, 2000, 1500, 2000, 3000, 3100].map((at) => initiationOf(client, server, at))
    const times = [0, 100, 200, 300, 400, 410]
    stamps.forEach((message, i) => {
      lab.run((times[i] ?? 0) - lab.now)
      lab.send(client.address, server.address, message)
    })
    lab.run(1000)
    assert.equal(count(lab, 'response'), 3) // 1000, 2000, 3000; the last came 10 ms after
  })

  it('takes initiations again 20 ms later, and when its clock was set back', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    const events = [1000, 2000, 3000].map((at) => ({
      tag: 'initiation' as const,
      message: initiationOf(client, server, at),
      from: { remote: client.address, source: null, interfaceIndex: 0 },
    }))
    for (const [i, event] of events.entries()) server.device.handle(event, [1000, 1021, 5][i] ?? 0)
    assert.equal(count(lab, 'response'), 3)
    assert.doesNotThrow(() => server.device.tick(0))
  })

  it('keeps the greatest timestamp over a restart', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    lab.send(client.address, server.address, initiationOf(client, server, 2000))
    lab.run(100)
    const lastTimestamp = server.device.lastTimestamp(client.device.publicKey)
    assert.deepEqual(lastTimestamp, timestamp(2000, null))
    assert.ok(lastTimestamp)
    server.device.removePeer(client.device.publicKey)
    server.know(client, { lastTimestamp })
    lab.send(client.address, server.address, initiationOf(client, server, 2000))
    lab.run(100)
    assert.equal(count(lab, 'response'), 1)
    lab.send(client.address, server.address, initiationOf(client, server, 3000))
    lab.run(100)
    assert.equal(count(lab, 'response'), 2)
    server.know(client, { lastTimestamp }) // an older one does not set it back
    assert.deepEqual(server.device.lastTimestamp(client.device.publicKey), timestamp(3000, null))
  })

  it('does the same work for a stranger, and gives no answer', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    server.device.removePeer(client.device.publicKey)
    client.send(server)
    lab.run(1000)
    assert.deepEqual(kinds(lab.wire), ['initiation'])
    assert.deepEqual(server.events, [])

    let work = 0
    const { plane } = lab.host()
    const device = new Device({
      primitives: { ...memoryPrimitives, x25519: (...keys) => (work++, memoryPrimitives.x25519(...keys)) },
      dataplane: plane,
      privateKey: server.privateKey,
      wallClock: () => 0,
      onEvent: () => {},
    })
    const from = { remote: client.address, source: null, interfaceIndex: 0 }
    const cost = (clock: number) => {
      const before = work
      device.handle({ tag: 'initiation', message: initiationOf(client, server, clock), from }, clock)
      return work - before
    }
    const stranger = cost(1000)
    device.putPeer(
      {
        publicKey: client.device.publicKey,
        presharedKey: null,
        allowedIps: [],
        endpoint: null,
        roaming: 'follow',
        persistentKeepalive: 0,
        lastTimestamp: timestamp(5000, null),
      },
      0,
    )
    const tooOld = cost(2000)
    const answered = cost(6000)
    assert.deepEqual({ stranger, tooOld, answered }, { stranger: 2, tooOld: 2, answered: 4 })
  })

  it('does not have itself as a peer', () => {
    const lab = new Lab()
    const host = lab.host()
    host.know(host)
    assert.deepEqual(host.device.peers(), [])
  })

  it('drops the peer that its new private key belongs to, and sends no more under the old sessions', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.send(server, 1)
    lab.run(1000)
    const third = lab.host()
    const key = Secret.of(memoryPrimitives.random(32))
    third.device.setPrivateKey(key)
    server.know(third)
    server.device.connect(client.device.publicKey, server.now)
    lab.run(6000)
    server.device.connect(client.device.publicKey, server.now)
    assert.notEqual(server.device.deadline(), null)
    server.device.setPrivateKey(key)
    assert.equal(server.device.deadline(), null) // what was in flight is of the old key
    assert.deepEqual(
      server.device.peers().map((peer) => peer.publicKey),
      [client.device.publicKey],
    )
    server.send(client, 2) // waits for a handshake, which the client cannot answer: it knows the old key
    client.send(server, 3) // still received
    const before = count(lab, 'initiation')
    lab.run(6000)
    assert.deepEqual([client.marks(), server.marks()], [[], [1, 3]])
    assert.equal(count(lab, 'initiation'), before + 1)
    client.know(server, { endpoint: server.address })
    client.send(server, 4)
    lab.run(20_000)
    assert.deepEqual([client.marks(), server.marks()], [[2], [1, 3, 4]])
  })

  it('keeps the session when a peer’s settings change', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.send(server, 1)
    lab.run(1000)
    const presharedKey = Secret.of(memoryPrimitives.random(32))
    client.know(server, { presharedKey, persistentKeepalive: 25, endpoint: server.address })
    server.know(client, { presharedKey, allowedIps: [] })
    server.know(client, { presharedKey })
    client.send(server, 2)
    server.send(client, 3)
    lab.run(1000)
    assert.deepEqual([server.marks(), client.marks()], [[1, 2], [3]])
    assert.equal(count(lab, 'initiation'), 1)
  })

  it('begins at once for a persistent keepalive, and keeps the session alive with it', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.know(server, { endpoint: server.address, persistentKeepalive: 25 })
    lab.run(100)
    assert.deepEqual(kinds(lab.wire), ['initiation', 'response', 'data'])
    lab.run(600_000)
    assert.equal(client.device.peer(server.device.publicKey)?.alive, true)
    assert.equal(server.device.peer(client.device.publicKey)?.alive, true)
    assert.deepEqual(count(lab, 'initiation'), Math.ceil(600 / 125))
  })

  it('that answered does not fight over renewals with a peer that both keep alive', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.know(server, { endpoint: server.address, persistentKeepalive: 25 })
    lab.run(100)
    server.know(client, { persistentKeepalive: 25 })
    lab.run(3_600_000)
    assert.ok(server.events.every((event) => event.tag !== 'session' || event.role === 'responder'))
    assert.ok(count(lab, 'initiation') <= 3600 / 120 + 1)
  })

  it('follows a peer that moves, within the session', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.send(server, 1)
    lab.run(1000)
    client.move()
    client.send(server, 2)
    lab.run(1000)
    server.send(client, 3)
    lab.run(1000)
    assert.deepEqual([server.marks(), client.marks()], [[1, 2], [3]])
    assert.equal(count(lab, 'initiation'), 1)
    assert.deepEqual(server.device.peer(client.device.publicKey)?.path?.remote, client.address)
  })

  it('answers a pinned peer where it writes from, and moves nothing', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    const elsewhere = { address: client.address.address, port: parsePort(9) }
    server.know(client, { endpoint: elsewhere, roaming: 'pinned' })
    client.send(server, 1)
    lab.run(1000)
    assert.deepEqual(server.marks(), [1])
    assert.deepEqual(server.device.peer(client.device.publicKey)?.path?.remote, elsewhere)
    assert.deepEqual(tags(server), ['session'])
  })

  it('under load gives a cookie, and the peer comes again with it at its time, not at once', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    server.plane.setGate({ underLoadAt: 0, perSecond: 20, burst: 5, silent: false })
    client.send(server, 1)
    lab.run(4900)
    assert.deepEqual(kinds(lab.wire), ['initiation', 'cookie'])
    lab.run(1000)
    assert.deepEqual(kinds(lab.wire).slice(2), ['initiation', 'response', 'data'])
    assert.deepEqual(server.marks(), [1])
  })

  it('frees the index of a handshake that it repeats or gives up', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    const allocated = new Set<number>()
    const allocate = client.plane.allocateIndex.bind(client.plane)
    client.plane.allocateIndex = (peer) => {
      const index = allocate(peer)
      allocated.add(index)
      return index
    }
    const free = client.plane.freeIndex.bind(client.plane)
    client.plane.freeIndex = (index) => {
      allocated.delete(index)
      free(index)
    }
    lab.weather = { ...clear, loss: 1 }
    client.send(server)
    lab.run(30_000)
    assert.equal(allocated.size, 1)
    lab.run(100_000)
    assert.equal(allocated.size, 0)
  })

  it('tells of a fault', () => {
    const lab = new Lab()
    const host = lab.host()
    const fault: DeviceEvent = { tag: 'fault', message: 'a worker stopped' }
    host.device.handle(fault, host.now)
    assert.deepEqual(host.events, [fault])
  })

  it('ignores events of a peer that is gone', () => {
    const lab = new Lab()
    const [client, server] = lab.pair()
    client.send(server)
    lab.run(5)
    client.device.removePeer(server.device.publicKey)
    lab.run(60_000)
    assert.deepEqual(client.device.deadline(), null)
    assert.deepEqual(count(lab, 'initiation'), 1)
  })
})

/** An initiation of one host to another, stamped with a wall clock of ours. */
function initiationOf(from: LabHost, to: LabHost, wallClock: number): Uint8Array {
  const privateKey = from.privateKey.bytes()
  const identity = { privateKey, publicKey: memoryPrimitives.publicKey(privateKey) }
  const remoteStatic = Buffer.from(to.device.publicKey, 'base64')
  const created = createInitiation(memoryPrimitives, identity, {
    remoteStatic,
    ephemeral: memoryPrimitives.random(32),
    timestamp: timestamp(wallClock, null),
    localIndex: 1,
  })
  assert.ok(created)
  new CookieMemory(memoryPrimitives, remoteStatic).stamp(created.message, 0)
  return created.message
}
