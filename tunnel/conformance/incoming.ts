/** What comes in: opened, believed once, and only from the addresses of its sender. */
import assert from 'node:assert/strict'
import { it } from 'node:test'
import * as wire from '../wire.ts'
import { ipPacket, tcpFlags, tcpPacket } from './scene.ts'
import type { FarSession, Scene } from './scene.ts'

/** Declares the tests of what comes in. */
export function incomingTests(open: () => Promise<Scene>): void {
  it('opens packets of both families and takes the padding off', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    for (const packet of [
      ipPacket('10.0.0.1', '10.9.0.1', 61),
      ipPacket('fd00::1', 'fd09::1', 77),
      ipPacket('10.0.0.1', '10.9.0.1', 1420),
    ]) {
      await scene.send(session, packet)
      assert.deepEqual(await scene.subject.toKernel(), packet)
    }
    const { packets, bytes } = scene.plane.counters().received
    assert.deepEqual({ packets, bytes }, { packets: 3, bytes: 61 + 77 + 1420 })
  })

  it('believes no tag that is wrong, no index that nobody has, no counter past the limit', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    const good = scene.seal(session, ipPacket('10.0.0.1', '10.9.0.1'))
    const flipped = (at: number) => good.with(at, (good[at] ?? 0) ^ 1)
    await scene.subject.fromNetwork(0, flipped(40))
    await scene.subject.fromNetwork(0, flipped(good.length - 1))
    await scene.subject.fromNetwork(0, flipped(4))
    await scene.subject.fromNetwork(0, scene.seal(session, undefined, wire.REJECT_AFTER_MESSAGES))
    assert.deepEqual(await scene.dropped(), { 'bad-tag': 2, 'unknown-index': 1, expired: 1 })
    await scene.subject.fromNetwork(0, good)
    assert.ok(await scene.subject.toKernel())
  })

  it('takes each counter once, within a window of 8128 (the kernel’s table for RFC 6479)', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    const limit = 8129n
    const last = wire.REJECT_AFTER_MESSAGES
    const table: readonly (readonly [bigint, 'taken' | 'replayed' | 'expired'])[] = [
      [0n, 'taken'],
      [1n, 'taken'],
      [1n, 'replayed'],
      [9n, 'taken'],
      [8n, 'taken'],
      [7n, 'taken'],
      [7n, 'replayed'],
      [limit, 'taken'],
      [limit - 1n, 'taken'],
      [limit - 1n, 'replayed'],
      [limit - 2n, 'taken'],
      [2n, 'taken'],
      [2n, 'replayed'],
      [limit + 16n, 'taken'],
      [3n, 'replayed'],
      [limit + 16n, 'replayed'],
      [limit * 4n, 'taken'],
      [limit * 4n - (limit - 1n), 'taken'],
      [10n, 'replayed'],
      [limit * 4n - limit, 'replayed'],
      [limit * 4n - (limit + 1n), 'replayed'],
      [limit * 4n - (limit - 2n), 'taken'],
      [limit * 4n + 1n - limit, 'replayed'],
      [0n, 'replayed'],
      // Not of the kernel's table: the window comes round to words that it used before.
      [limit * 4n + 8192n, 'taken'],
      [limit * 4n + 8192n - 200n, 'taken'],
      [limit * 4n + 8192n - 2000n, 'taken'],
      [last, 'expired'],
      [last - 1n, 'taken'],
      [last, 'expired'],
      [last - 1n, 'replayed'],
      [last - 2n, 'taken'],
      [last + 1n, 'expired'],
      [last - 2n, 'replayed'],
      [last - 3n, 'taken'],
      [0n, 'replayed'],
    ]
    const seen: (readonly [bigint, string])[] = []
    for (const [counter] of table) {
      await scene.subject.fromNetwork(0, scene.seal(session, undefined, counter))
      seen.push([counter, Object.keys(await scene.dropped()).join() || 'taken'])
    }
    assert.deepEqual(seen, table)
  })

  it('does not let a forged counter move the window', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    const forged = scene.seal(session, undefined, 1_000_000n)
    await scene.subject.fromNetwork(0, forged.with(31, (forged[31] ?? 0) ^ 1))
    await scene.send(session, ipPacket('10.0.0.1', '10.9.0.1'))
    assert.ok(await scene.subject.toKernel())
    assert.deepEqual(await scene.dropped(), { 'bad-tag': 1 })
  })

  it('drops what was sealed but is no whole IP packet', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    const longer = ipPacket('10.0.0.1', '10.9.0.1', 64)
    new DataView(longer.buffer).setUint16(2, 65)
    const longer6 = ipPacket('fd00::1', 'fd09::1', 64)
    new DataView(longer6.buffer).setUint16(4, 25)
    const shorter = ipPacket('10.0.0.1', '10.9.0.1', 64)
    new DataView(shorter.buffer).setUint16(2, 19)
    const version = ipPacket('10.0.0.1', '10.9.0.1', 64).with(0, 0x55)
    const bad = [
      longer,
      longer6,
      shorter,
      version,
      new Uint8Array(16),
      new Uint8Array([0x45]),
      new Uint8Array([0x60]),
    ]
    for (const packet of bad) await scene.send(session, packet)
    assert.deepEqual(await scene.dropped(), { 'bad-packet': bad.length })
    assert.equal(await scene.subject.toKernel(), null)
  })

  it('passes on only what comes from the sender’s own addresses, by longest prefix', async () => {
    await using scene = await open()
    const subnet = scene.session(scene.peer({ prefixes: ['10.0.0.0/8', 'fd00::/32'] }))
    const host = scene.session(scene.peer({ host: 1, prefixes: ['10.1.2.3/32', 'fd00:0:1::/48'] }))
    const from = (
      session: FarSession,
      source: string,
      destination = source.includes(':') ? 'fd09::1' : '10.9.0.1',
    ) => scene.send(session, ipPacket(source, destination))
    await from(subnet, '10.1.2.4')
    assert.ok(await scene.subject.toKernel())
    await from(host, '10.1.2.3')
    assert.ok(await scene.subject.toKernel())
    await from(subnet, '10.1.2.3') // inside the subnet, but another peer's
    await from(subnet, 'fd00:0:1::9')
    await from(host, '10.1.2.4')
    await from(host, 'fd00:0:2::9')
    await from(subnet, '192.0.2.1')
    assert.deepEqual(await scene.dropped(), { 'source-not-allowed': 5 })
    assert.equal(await scene.subject.toKernel(), null)
  })

  it('keeps the packets of a TCP flow whole and in order', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    const sent = Array.from({ length: 30 }, (_, i) =>
      tcpPacket('10.0.0.1', '10.9.0.1', {
        identification: i,
        sequence: 1000 + i * 1000,
        flags: i === 29 ? tcpFlags.ack | tcpFlags.psh : tcpFlags.ack,
        payload: new Uint8Array(i === 29 ? 300 : 1000).fill(i),
      }),
    )
    for (const packet of sent) await scene.send(session, packet)
    const received: (Uint8Array | null)[] = []
    for (const _ of sent) received.push(await scene.subject.toKernel())
    assert.deepEqual(received.map(withoutIdentification), sent.map(withoutIdentification))
  })

  it('counts every datagram once, whatever it is', async () => {
    await using scene = await open()
    const session = scene.session(scene.peer())
    const templates = [
      scene.initiation().message,
      scene.response(session.index),
      scene.cookieReply(session.remoteIndex),
      scene.seal(session, ipPacket('10.0.0.1', '10.9.0.1')),
      scene.seal(session),
    ]
    let random = 12345
    const draw = (below: number) => {
      random = (Math.imul(random, 1_103_515_245) + 12_345) & 0x7fff_ffff
      return (random >>> 8) % below
    }
    const before = scene.plane.counters().received.datagrams
    for (let i = 0; i < 400; i++) {
      const template = templates[draw(templates.length)] ?? new Uint8Array(1)
      const cut = template.slice(0, draw(3) === 0 ? 1 + draw(template.length - 1) : template.length)
      // Not among the last 32 bytes of a whole handshake: mac2 is nobody's business when there is no load.
      const at = draw(Math.max(1, Math.min(cut.length, template.length - 32)))
      await scene.subject.fromNetwork(draw(4), cut.with(at, (cut[at] ?? 0) ^ (1 + draw(255))))
    }
    const dropped = await scene.dropped()
    const cookies = (await scene.events('cookie')).length // a flipped nonce is for the code above to find
    const handshakes = (await scene.events('initiation')).length + (await scene.events('response')).length
    const counted = Object.values(dropped).reduce((sum, count) => sum + count, 0)
    assert.deepEqual(
      {
        counted: counted + cookies + handshakes,
        received: scene.plane.counters().received.datagrams - before,
      },
      { counted: 400, received: 400 },
    )
    await scene.send(session, ipPacket('10.0.0.1', '10.9.0.1'))
    assert.ok(await scene.subject.toKernel())
  })
}

/** GRO gives the packets of one flow identifications of its own. */
function withoutIdentification(packet: Uint8Array | null): Uint8Array | null {
  return packet === null
    ? null
    : Uint8Array.from([
        ...packet.subarray(0, 4),
        0,
        0,
        ...packet.subarray(6, 10),
        0,
        0,
        ...packet.subarray(12),
      ])
}
