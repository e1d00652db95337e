/** Where things go: allowed IPs, paths, what waits, and super-packets. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { parseCidr } from '../address.ts'
import { memoryPrimitives as primitives } from '../crypto-memory.ts'
import { ipPacket, markOf, sendsWith, tcpFlags, tcpPacket } from './scene.ts'
import type { FarSession, Scene } from './scene.ts'

/** Declares the tests of where things go. */
export function routingTests(open: () => Promise<Scene>): void {
  it('routes by the longest prefix of all peers', async () => {
    await using scene = await open()
    const sessions = [
      scene.session(scene.peer({ host: 0, prefixes: ['10.0.0.0/8', '10.1.2.3/32', 'fd00::/16', '::/0'] })),
      scene.session(scene.peer({ host: 1, prefixes: ['10.1.0.0/16', 'fd00:1::/32'] })),
      scene.session(scene.peer({ host: 2, prefixes: ['0.0.0.0/0', 'fd00:1::1/128'] })),
    ]
    const routes: readonly (readonly [string, number])[] = [
      ['10.2.0.1', 0],
      ['10.1.0.1', 1],
      ['10.1.2.3', 0],
      ['10.1.2.4', 1],
      ['192.0.2.1', 2],
      ['fd00:2::1', 0],
      ['fd00:1::2', 1],
      ['fd00:1::1', 2],
      ['2001:db8::1', 0],
    ]
    for (const [destination, host] of routes) {
      await scene.subject.fromKernel(
        ipPacket(destination.includes(':') ? 'fd09::1' : '172.16.0.1', destination),
      )
      const session = sessions[host]
      assert.ok(session && (await scene.receive(session)), `${destination} did not go to host ${host}`)
    }
  })

  it('replaces a peer’s prefixes whole, and moves one that another peer had', async () => {
    await using scene = await open()
    const first = scene.session(scene.peer({ host: 0, prefixes: ['10.0.0.0/24', '10.0.1.0/24'] }))
    const second = scene.session(scene.peer({ host: 1, prefixes: ['10.0.2.0/24'] }))
    scene.plane.setAllowedIps(second.peer.id, [parseCidr('10.0.0.0/24')])
    const to = async (destination: string, session: FarSession) => {
      await scene.subject.fromKernel(ipPacket('10.9.0.1', destination))
      return (await scene.receive(session)) !== null
    }
    assert.deepEqual(
      [await to('10.0.0.1', second), await to('10.0.1.1', first), await to('10.0.2.1', second)],
      [true, true, false],
    )
    assert.deepEqual(await scene.dropped(), { 'no-route': 1 })
    scene.plane.setAllowedIps(second.peer.id, []) // what moved does not go back
    assert.equal(await to('10.0.0.1', first), false)
    assert.deepEqual(await scene.dropped(), { 'no-route': 1 })
  })

  it('drops what it cannot send, each for its own reason', async () => {
    await using scene = await open()
    scene.peer({ path: null })
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '192.0.2.1'))
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1'))
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1').with(0, 0x00))
    assert.deepEqual(await scene.dropped(), { 'no-route': 1, 'no-endpoint': 1, 'bad-packet': 1 })
  })

  it('follows the peer to where its authentic datagrams come from', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    await scene.send(session, ipPacket('10.0.0.1', '10.9.0.1'), 3)
    const events = await scene.eventually('roamed')
    assert.deepEqual(
      events.map((event) => [event.peer, event.path.remote]),
      [[session.peer.id, scene.subject.address(3)]],
    )
    assert.deepEqual(scene.plane.peerCounters(session.peer.id)?.path?.remote, scene.subject.address(3))
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1'))
    assert.ok(await scene.receive(session, 3))
    await scene.send(session, undefined, 3)
    assert.deepEqual(await scene.events('roamed'), [])
  })

  it('does not follow what is forged or replayed', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    const datagram = scene.seal(session, ipPacket('10.0.0.1', '10.9.0.1'))
    await scene.subject.fromNetwork(0, datagram)
    await scene.subject.fromNetwork(1, datagram)
    await scene.subject.fromNetwork(2, scene.seal(session).fill(0, 20))
    assert.deepEqual(await scene.dropped(), { replayed: 1, 'bad-tag': 1 })
    assert.deepEqual(await scene.events('roamed'), [])
    assert.equal(await sendsWith(scene, session), true)
  })

  it('delivers what comes from elsewhere to a pinned peer, and stays', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer({ roaming: 'pinned' }))
    await scene.send(session, ipPacket('10.0.0.1', '10.9.0.1'), 3)
    assert.ok(await scene.subject.toKernel())
    assert.deepEqual(await scene.events('roamed'), [])
    assert.equal(await sendsWith(scene, session), true)
    scene.plane.setPath(session.peer.id, scene.path(2), 'pinned')
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1'))
    assert.ok(await scene.receive(session, 2))
  })

  it('sends handshakes to the peer’s path and replies to where they are told', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const [first, second] = [primitives.random(148), primitives.random(92)]
    scene.plane.sendHandshake(peer.id, first)
    scene.plane.reply(scene.path(1), second)
    assert.deepEqual([await scene.subject.toNetwork(0), await scene.subject.toNetwork(1)], [first, second])
    scene.plane.clearSource(peer.id)
    assert.deepEqual(scene.plane.peerCounters(peer.id)?.path, scene.path(0))
  })

  it('lets 128 packets wait for a session, drops the oldest, and sends them in order', async () => {
    await using scene = await open()
    const peer = scene.peer()
    for (let i = 0; i < 130; i++) await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1', 60, i))
    assert.deepEqual(await scene.dropped(), { staged: 2 })
    const session = scene.session(peer)
    assert.equal(scene.plane.flushStaged(peer.id), 128)
    const marks: number[] = []
    for (let i = 2; i < 130; i++) marks.push(markOf((await scene.receive(session)) ?? new Uint8Array(40)))
    assert.deepEqual(
      marks,
      Array.from({ length: 128 }, (_, i) => i + 2),
    )
    assert.equal(scene.plane.flushStaged(peer.id), 0)
  })

  it('drops what waited when the handshake is given up', async () => {
    await using scene = await open()
    const peer = scene.peer()
    for (let i = 0; i < 3; i++) await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1'))
    await scene.subject.settle()
    scene.plane.giveUp(peer.id)
    scene.session(peer)
    assert.equal(scene.plane.flushStaged(peer.id), 0)
    assert.deepEqual(await scene.dropped(), { staged: 3 })
  })

  for (const [family, source, destination] of [
    ['IPv4', '10.9.0.1', '10.0.0.1'],
    ['IPv6', 'fd09::1', 'fd00::1'],
  ] as const) {
    it(`cuts a super-packet over ${family} into the segments that it stands for`, async () => {
      await using scene = await open()
      const session = scene.session(scene.peer())
      for (const [segment, total] of [
        [1300, 1300 * 20 + 77],
        [1300, 1300 * 2],
        [536, 40_000],
        [100, 30_000],
      ] as const) {
        const payload = Uint8Array.from({ length: total }, (_, i) => i * 7)
        const { ack, psh, fin } = tcpFlags
        const whole = { identification: 65_530, sequence: 0xffff_f000, flags: ack | psh | fin, payload }
        await scene.subject.fromKernel(tcpPacket(source, destination, whole), segment)
        for (let offset = 0; offset < total; offset += segment) {
          const expected = tcpPacket(source, destination, {
            identification: (65_530 + offset / segment) & 0xffff,
            sequence: (0xffff_f000 + offset) >>> 0,
            flags: offset + segment >= total ? whole.flags : ack,
            payload: payload.subarray(offset, offset + segment),
          })
          assert.deepEqual(await scene.receive(session), expected, `segments of ${segment}, at ${offset}`)
        }
      }
      assert.equal(await scene.subject.toNetwork(0), null)
    })
  }

  it('counts bytes as `wg show` does', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const { path, ...before } = scene.plane.peerCounters(peer.id) ?? { path: null }
    assert.deepEqual(before, { rxBytes: 0, txBytes: 0, sinceReceived: null, sinceSent: null, alive: false })
    assert.deepEqual(path?.remote, scene.subject.address(0))
    const session = scene.session(peer)
    const installed = scene.plane.peerCounters(peer.id)?.rxBytes ?? 0
    await scene.send(session, ipPacket('10.0.0.1', '10.9.0.1', 100))
    await scene.send(session)
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1', 100))
    await scene.receive(session)
    await scene.subject.settle()
    const after = scene.plane.peerCounters(peer.id)
    assert.deepEqual([(after?.rxBytes ?? 0) - installed, after?.txBytes], [144 + 32, 144])
    assert.ok(after?.sinceReceived !== null && after?.sinceSent !== null)
  })
}
