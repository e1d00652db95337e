/** Timers (paper, 6): when a session is renewed, kept alive and ended. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import type { HandshakeReason } from '../dataplane.ts'
import { alive, ipPacket, sendsWith } from './scene.ts'
import type { Scene } from './scene.ts'

/** Declares the tests of timers. */
export function timeTests(open: () => Promise<Scene>): void {
  const reasons = async (scene: Scene): Promise<HandshakeReason[]> =>
    (await scene.events('need-handshake')).map((event) => event.reason)
  const toPeer = ipPacket('10.9.0.1', '10.0.0.1')
  const fromPeer = ipPacket('10.0.0.1', '10.9.0.1')

  it('asks for a handshake when a packet waits, at most once in 5 s', async () => {
    await using scene = await open()
    const peer = scene.peer()
    await scene.subject.fromKernel(toPeer)
    await scene.subject.fromKernel(toPeer)
    assert.deepEqual(await scene.events('need-handshake'), [
      { tag: 'need-handshake', peer: peer.id, reason: 'staged' },
    ])
    scene.plane.advance(5_100)
    await scene.subject.fromKernel(toPeer)
    assert.deepEqual(await reasons(scene), ['staged'])
  })

  it('asks to renew a session that we began when it has sent for 120 s', async () => {
    await using scene = await open()
    const ours = scene.session(scene.peer())
    const theirs = scene.session(scene.peer({ host: 1, prefixes: ['10.0.1.0/24'] }), 'responder')
    await scene.send(theirs)
    scene.plane.advance(118_000)
    assert.equal(await sendsWith(scene, ours), true)
    assert.deepEqual(await reasons(scene), [])
    scene.plane.advance(2_500)
    assert.equal(await sendsWith(scene, ours), true)
    await scene.subject.fromKernel(ipPacket('10.9.0.1', '10.0.1.1'))
    assert.ok(await scene.receive(theirs))
    assert.deepEqual(await reasons(scene), ['age'])
  })

  it('asks to renew a session that we began when it receives in its last minute, once', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    scene.plane.advance(163_000)
    await scene.send(session)
    assert.deepEqual(await reasons(scene), [])
    scene.plane.advance(2_500)
    await scene.send(session)
    assert.deepEqual(await reasons(scene), ['last-minute'])
    scene.plane.advance(6_000)
    await scene.send(session)
    assert.deepEqual(await reasons(scene), [])
  })

  it('asks for a handshake when what it sent is unanswered for 15 s', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    assert.equal(await sendsWith(scene, session), true)
    scene.plane.advance(10_000)
    assert.equal(await sendsWith(scene, session), true) // more does not put it off
    scene.plane.advance(4_000)
    assert.deepEqual(await reasons(scene), [])
    scene.plane.advance(1_400)
    assert.deepEqual(await reasons(scene), ['no-reply'])
    scene.plane.advance(60_000)
    assert.equal(await sendsWith(scene, session), true)
    scene.plane.advance(10_000)
    await scene.send(session) // any authentic datagram is an answer
    await scene.subject.settle()
    scene.plane.advance(10_000)
    assert.deepEqual(await reasons(scene), [])
  })

  it('asks for nothing because a keepalive of ours was unanswered', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    scene.plane.keepalive(session.peer.id)
    assert.ok(await scene.receive(session))
    scene.plane.advance(30_000)
    assert.deepEqual(await reasons(scene), [])
  })

  it('answers data with a keepalive after 10 s of silence, and a second when more came meanwhile', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    await scene.send(session, fromPeer)
    await scene.send(session, fromPeer)
    await scene.subject.settle()
    scene.plane.advance(9_000)
    assert.equal(await scene.subject.toNetwork(0), null)
    scene.plane.advance(1_100)
    assert.equal((await scene.receive(session))?.length, 0)
    assert.equal(await scene.subject.toNetwork(0), null)
    scene.plane.advance(10_100)
    assert.equal((await scene.receive(session))?.length, 0)
    scene.plane.advance(10_100)
    assert.equal(await scene.subject.toNetwork(0), null)
  })

  it('sends no keepalive when it answered with data', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    await scene.send(session, fromPeer)
    await scene.subject.settle()
    scene.plane.advance(5_000)
    assert.equal(await sendsWith(scene, session), true)
    scene.plane.advance(8_000)
    assert.equal(await scene.subject.toNetwork(0), null)
  })

  it('answers no keepalive with a keepalive', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    for (let i = 0; i < 3; i++) {
      await scene.send(session)
      await scene.subject.settle()
      scene.plane.advance(10_500)
    }
    assert.equal(await scene.subject.toNetwork(0), null)
  })

  it('sends a persistent keepalive after that long without traffic either way', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer({ persistentKeepalive: 25 }))
    scene.plane.advance(24_000)
    await scene.send(session)
    await scene.subject.settle()
    scene.plane.advance(24_000)
    assert.equal(await scene.subject.toNetwork(0), null)
    scene.plane.advance(1_500)
    assert.equal((await scene.receive(session))?.length, 0)
    scene.plane.putPeer(session.peer.id, { persistentKeepalive: 0 }) // and the session is kept
    scene.plane.advance(60_000)
    assert.equal(await scene.subject.toNetwork(0), null)
    assert.equal(await sendsWith(scene, session), true)
  })

  it('asks for a handshake when a persistent keepalive finds no session', async () => {
    await using scene = await open()
    scene.peer({ persistentKeepalive: 25 })
    scene.plane.advance(25_500)
    assert.deepEqual(await reasons(scene), ['staged'])
    scene.plane.advance(25_500)
    assert.deepEqual(await reasons(scene), ['staged'])
  })

  it('leaves the next handshake to a peer that began the last and was heard from', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer({ persistentKeepalive: 25 }), 'responder')
    await scene.send(session)
    for (const milliseconds of [100_000, 75_000]) {
      scene.plane.advance(milliseconds)
      await scene.send(session)
      await scene.subject.settle()
    }
    scene.plane.advance(30_000) // the session is too old now, the peer is alive
    assert.deepEqual(await reasons(scene), [])
    scene.plane.advance(180_000)
    assert.deepEqual(await reasons(scene), ['staged'])
  })

  it('neither sends nor receives with a key of 180 s', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    scene.plane.advance(178_000)
    assert.deepEqual(await alive(scene, [session]), [true])
    await scene.events('need-handshake')
    scene.plane.advance(7_500)
    assert.deepEqual(await alive(scene, [session]), [false])
    assert.deepEqual(await scene.dropped(), { expired: 1 })
    await scene.subject.fromKernel(toPeer)
    assert.equal(await scene.subject.toNetwork(0), null)
    assert.deepEqual(await reasons(scene), ['staged'])
    assert.equal(scene.plane.peerCounters(session.peer.id)?.alive, false)
  })

  it('wipes every key 540 s after the last new session', async () => {
    await using scene = await open()
    const peer = scene.peer()
    scene.session(peer)
    scene.plane.advance(300_000)
    const session = scene.session(peer)
    scene.plane.advance(538_000)
    assert.deepEqual(await scene.events('expired'), [])
    scene.plane.advance(2_500)
    assert.deepEqual(await scene.eventually('expired'), [{ tag: 'expired', peer: peer.id }])
    await scene.send(session)
    assert.deepEqual(await scene.dropped(), { 'unknown-index': 1 })
  })
}
