/** The gate: which handshakes from strangers get through, and what the others are told. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import { memoryPrimitives as primitives } from '../crypto-memory.ts'
import * as wire from '../wire.ts'
import type { Scene } from './scene.ts'

/** Declares the tests of handshakes at the gate. */
export function gateTests(open: () => Promise<Scene>): void {
  it('drops what no message is, by length and by type', async () => {
    await using scene = await open()
    const message = (length: number, word: number) => {
      const bytes = new Uint8Array(length)
      if (length >= 4) new DataView(bytes.buffer).setUint32(0, word, true)
      return bytes
    }
    const lengths = [
      message(1, 0),
      message(31, 4),
      message(147, 1),
      message(149, 1),
      message(93, 2),
      message(65, 3),
    ]
    const types = [message(148, 0), message(148, 5), message(32, 0x0100_0004), message(1500, 0xffff_ffff)]
    for (const datagram of [...lengths, ...types]) await scene.subject.fromNetwork(0, datagram)
    assert.deepEqual(await scene.dropped(), { 'bad-length': 6, 'bad-type': 4 })
  })

  it('passes an initiation with the path that it came by', async () => {
    await using scene = await open()
    const { message } = scene.initiation()
    await scene.subject.fromNetwork(2, message)
    const [event] = await scene.eventually('initiation')
    assert.deepEqual([event?.message, event?.from.remote], [message, scene.subject.address(2)])
  })

  it('drops a handshake whose mac1 fits another key', async () => {
    await using scene = await open()
    const { message } = scene.initiation()
    const peer = scene.peer()
    const response = scene.response(scene.plane.allocateIndex(peer.id))
    scene.plane.setIdentity(primitives.publicKey(primitives.random(32)))
    await scene.subject.fromNetwork(0, message)
    await scene.subject.fromNetwork(0, response)
    assert.deepEqual(await scene.dropped(), { 'bad-mac': 2 })
    assert.deepEqual([await scene.events('initiation'), await scene.events('response')], [[], []])
  })

  it('passes a response only while a handshake has the index that it names', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const index = scene.plane.allocateIndex(peer.id)
    await scene.subject.fromNetwork(0, scene.response(index))
    const [event] = await scene.eventually('response')
    assert.deepEqual(
      [event?.index, event?.peer, event?.from.remote],
      [index, peer.id, scene.subject.address(0)],
    )
    scene.plane.freeIndex(index)
    await scene.subject.fromNetwork(0, scene.response(index))
    await scene.subject.fromNetwork(0, scene.response(scene.session(peer).index))
    assert.deepEqual(await scene.dropped(), { 'unknown-index': 2 })
  })

  it('passes a cookie for an index of a handshake or of a session, and for no other', async () => {
    await using scene = await open()
    const peer = scene.peer()
    const handshake = scene.plane.allocateIndex(peer.id)
    const session = scene.session(peer).index // a response is answered by a cookie too
    const nobodys = [1, 2, 3].find((index) => index !== handshake && index !== session) ?? 4
    for (const index of [handshake, session, nobodys]) {
      await scene.subject.fromNetwork(0, scene.cookieReply(index))
    }
    const events = await scene.eventually('cookie')
    assert.deepEqual(
      events.map(({ index, peer: owner, message }) => ({ index, owner, length: message.length })),
      [
        { index: handshake, owner: peer.id, length: 64 },
        { index: session, owner: peer.id, length: 64 },
      ],
    )
    assert.deepEqual(await scene.dropped(), { 'unknown-index': 1 })
  })

  it('under load, asks for a cookie that only the holder of the address can have', async () => {
    await using scene = await open()
    scene.plane.setGate({ underLoadAt: 0, perSecond: 20, burst: 5, silent: false })
    const { message, memory } = scene.initiation()
    await scene.subject.fromNetwork(0, message)
    const reply = await scene.subject.toNetwork(0)
    assert.deepEqual(await scene.dropped(), { 'under-load': 1 })
    assert.equal(wire.decodeCookieReply(reply ?? new Uint8Array(0))?.receiver, 77)
    assert.equal(memory.consume(reply ?? new Uint8Array(0), 0), true)
    memory.stamp(message, 0)
    await scene.subject.fromNetwork(0, message)
    assert.deepEqual(
      (await scene.eventually('initiation')).map((event) => event.message),
      [message],
    )
    await scene.subject.fromNetwork(1, message) // the same cookie from elsewhere
    assert.deepEqual(await scene.dropped(), { 'under-load': 1 })
    assert.equal(scene.plane.counters().cookies, 2)
  })

  it('under load, gives each address a share, and none another’s', async () => {
    await using scene = await open()
    scene.plane.setGate({ underLoadAt: 0, perSecond: 1, burst: 3, silent: false })
    for (const host of [0, 1]) {
      const { message, memory } = scene.initiation()
      await scene.subject.fromNetwork(host, message)
      memory.consume((await scene.subject.toNetwork(host)) ?? new Uint8Array(0), 0)
      memory.stamp(message, 0)
      for (let i = 0; i < 8; i++) await scene.subject.fromNetwork(host, message)
      const passed = await scene.eventually('initiation')
      assert.ok(passed.length >= 3 && passed.length <= 5, `${passed.length} passed`)
      assert.ok(passed.every((event) => event.from.remote.address === scene.subject.address(host).address))
    }
  })

  it('under load, still passes the response that a handshake waits for', async () => {
    await using scene = await open()
    scene.plane.setGate({ underLoadAt: 0, perSecond: 20, burst: 5, silent: false })
    const index = scene.plane.allocateIndex(scene.peer().id)
    await scene.subject.fromNetwork(0, scene.response(index))
    assert.equal((await scene.eventually('response'))[0]?.index, index)
  })

  it('when silent, answers no stranger', async () => {
    await using scene = await open()
    scene.plane.setGate({ underLoadAt: 0, perSecond: 1, burst: 1, silent: true })
    for (let i = 0; i < 6; i++) await scene.subject.fromNetwork(0, scene.initiation().message)
    assert.equal(await scene.subject.toNetwork(0), null)
    const { dropped, cookies } = scene.plane.counters()
    assert.ok(dropped['under-load'] > 0)
    assert.equal(cookies, 0)
  })

  it('keeps only so many handshakes for code that does not take them, and counts the others', async () => {
    await using scene = await open()
    scene.plane.setGate({ underLoadAt: 1_000_000, perSecond: 20, burst: 5, silent: false })
    const { message } = scene.initiation()
    for (let i = 0; i < 3000; i++) await scene.subject.fromNetwork(0, message)
    await scene.subject.settle()
    const received = scene.plane.counters().received.datagrams // a real socket may have lost some
    const kept = (await scene.events('initiation')).length
    const { 'events-full': full = 0, 'under-load': rationed = 0 } = await scene.dropped()
    assert.ok(kept > 0 && kept < 3000)
    assert.equal(kept + full + rationed, received)
  })
}
