/** Sessions: how they are sealed, confirmed, rotated and forgotten. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { parseCidr } from '../address.ts'
import { memoryPrimitives as primitives } from '../crypto-memory.ts'
import type { PeerId, SessionIndex } from '../dataplane.ts'
import * as wire from '../wire.ts'
import { alive, ipPacket, markOf, MTU, sendsWith } from './scene.ts'
import type { Scene } from './scene.ts'

/** Declares the tests of sessions. */
export function sessionTests(open: () => Promise<Scene>): void {
  it('seals packets with the header, counter and padding of the paper, byte for byte', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    for (const [counter, length] of [20, 100, 112, 1405, 1410, 1420].entries()) {
      const packet = ipPacket('10.9.0.1', '10.0.0.1', length)
      await scene.subject.fromKernel(packet)
      const padded = new Uint8Array(wire.paddedLength(length, MTU))
      padded.set(packet)
      const sealed = primitives.seal(session.subjectKey, BigInt(counter), padded, new Uint8Array(0))
      const expected = wire.encodeData({ receiver: session.remoteIndex, counter: BigInt(counter), sealed })
      assert.deepEqual(await scene.subject.toNetwork(0), expected, `${length} bytes`)
    }
  })

  it('seals an empty message of 32 bytes as a keepalive, and nothing without a session', async () => {
    await using scene = await open()
    const peer = scene.peer()
    scene.plane.keepalive(peer.id)
    assert.equal(await scene.subject.toNetwork(0), null)
    const session = scene.session(peer)
    scene.plane.keepalive(peer.id)
    const sealed = primitives.seal(session.subjectKey, 0n, new Uint8Array(0), new Uint8Array(0))
    const expected = wire.encodeData({ receiver: session.remoteIndex, counter: 0n, sealed })
    assert.deepEqual([expected.length, await scene.subject.toNetwork(0)], [32, expected])
  })

  it('lets a responder send only after the peer has proved that it holds the key', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const session = scene.session(peer, 'responder')
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1', 60, 5))
    assert.equal(await scene.subject.toNetwork(0), null)
    assert.equal(scene.plane.peerCounters(peer.id)?.alive, false)
    await scene.send(session)
    assert.deepEqual(await scene.eventually('confirmed'), [
      { tag: 'confirmed', peer: peer.id, index: session.index },
    ])
    scene.plane.flushStaged(peer.id)
    assert.equal(markOf((await scene.receive(session)) ?? new Uint8Array(40)), 5)
    assert.equal(scene.plane.peerCounters(peer.id)?.alive, true)
    await scene.send(session)
    assert.deepEqual(await scene.events('confirmed'), [])
  })

  it('rotates an initiator’s sessions: current becomes previous, previous dies', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const [first, second, third] = [scene.session(peer), scene.session(peer), scene.session(peer)]
    assert.deepEqual(await alive(scene, [first, second, third]), [false, true, true])
    assert.deepEqual(await scene.dropped(), { 'unknown-index': 1 })
    assert.equal(await sendsWith(scene, third), true)
  })

  it('rotates a responder’s sessions: a new one waits, previous and an older waiting one die', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const [first, second] = [scene.session(peer), scene.session(peer)]
    const third = scene.session(peer, 'responder')
    assert.equal(await sendsWith(scene, second), true)
    const fourth = scene.session(peer, 'responder')
    assert.equal(await sendsWith(scene, second), true)
    assert.deepEqual(await alive(scene, [first, second, third, fourth]), [false, true, false, true])
    // The last of these confirmed the fourth.
    assert.equal(await sendsWith(scene, fourth), true)
    assert.deepEqual(await alive(scene, [second, fourth]), [true, true])
  })

  it('keeps a waiting session as previous when we complete a handshake of our own', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const [current, next, ours] = [scene.session(peer), scene.session(peer, 'responder'), scene.session(peer)]
    assert.equal(await sendsWith(scene, ours), true)
    assert.deepEqual(await alive(scene, [current, next, ours]), [false, true, true])
    assert.equal(await sendsWith(scene, ours), true)
  })

  it('wipes the keys that it was given, and refuses an index that is not the peer’s or is a session', async () => {
    await using scene = await open()
    const [peer, other] = [scene.peer(), scene.peer({ host: 1, prefixes: [] })]
    const index = scene.plane.allocateIndex(peer.id)
    const keys = () => ({
      remoteIndex: 1,
      sendKey: primitives.random(32),
      receiveKey: primitives.random(32),
      role: 'initiator' as const,
    })
    const given = keys()
    assert.deepEqual(
      [
        scene.plane.installSession(other.id, index, keys()),
        scene.plane.installSession(peer.id, ((index ^ 1) >>> 0) as SessionIndex, keys()), // nobody's
        scene.plane.installSession(peer.id, index, given),
        scene.plane.installSession(peer.id, index, keys()),
      ],
      [false, false, true, false],
    )
    assert.deepEqual([given.sendKey, given.receiveKey], [new Uint8Array(32), new Uint8Array(32)])
  })

  it('draws indices at random, none twice', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const indices = Array.from({ length: 500 }, () => scene.plane.allocateIndex(peer.id))
    assert.equal(new Set(indices).size, 500)
    assert.ok(indices.filter((index) => index >= 2 ** 31).length > 150)
    assert.ok(indices.every((index, i) => index !== (indices[i - 1] ?? 0) + 1))
  })

  it('receives but does not send once sending is forbidden', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const [current, next] = [scene.session(peer), scene.session(peer, 'responder')]
    scene.plane.forbidSending(peer.id)
    assert.deepEqual(await alive(scene, [current, next]), [true, true])
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1'))
    scene.plane.keepalive(peer.id)
    assert.equal(await scene.subject.toNetwork(0), null)
    assert.equal(await sendsWith(scene, scene.session(peer)), true)
  })

  it('forgets every session on request, and the peer with all that is its', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const wiped = scene.session(peer)
    scene.plane.wipeSessions(peer.id)
    assert.deepEqual(await alive(scene, [wiped]), [false])
    const session = scene.session(peer)
    const handshake = scene.plane.allocateIndex(peer.id)
    scene.plane.removePeer(peer.id)
    await scene.dropped()
    await scene.subject.fromNetwork(0, scene.seal(session))
    await scene.subject.fromNetwork(0, scene.response(handshake))
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1'))
    assert.deepEqual(await scene.dropped(), { 'unknown-index': 2, 'no-route': 1 })
    assert.equal(scene.plane.peerCounters(peer.id), null)
  })

  it('does nothing for a peer that is gone', async () => {
    await using scene = await open()
    const gone = 4_000_000_000 as PeerId // never put
    const { plane } = scene
    plane.removePeer(gone)
    plane.setAllowedIps(gone, [parseCidr('10.0.0.0/8')])
    plane.setPath(gone, scene.path(0), 'follow')
    plane.clearSource(gone)
    plane.wipeSessions(gone)
    plane.forbidSending(gone)
    plane.sendHandshake(gone, new Uint8Array(148))
    plane.keepalive(gone)
    plane.giveUp(gone)
    assert.equal(plane.flushStaged(gone), 0)
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.0.1'))
    assert.deepEqual(await scene.dropped(), { 'no-route': 1 })
    assert.equal(await scene.subject.toNetwork(0), null)
  })
}
