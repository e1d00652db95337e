import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { tcpFlags, tcpPacket } from './conformance/scene.ts'
import { cutTcp, parseIpPacket } from './ip-packet.ts'

describe('an IP packet', () => {
  it('of any bytes is read within its bounds or not at all', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.constantFrom(0x45, 0x60, null), (bytes, first) => {
        if (bytes.length > 0 && first !== null) bytes[0] = first
        const packet = parseIpPacket(bytes)
        if (packet === null) return
        assert.ok(packet.length <= bytes.length && packet.length >= 20)
        assert.equal(packet.source.length, packet.destination.length)
      }),
      { numRuns: 1000 },
    )
  })

  it('has checksums that make the sum of its words nothing (RFC 1071: a multiple of 65535)', () => {
    const isNothing = (...parts: readonly Uint8Array[]) => {
      const bytes = Buffer.concat(parts)
      return BigInt(`0x${bytes.toString('hex')}${bytes.length % 2 === 1 ? '00' : ''}`) % 65_535n === 0n
    }
    const pseudo = (packet: Uint8Array, addresses: Uint8Array, header: number) => {
      const tail = new Uint8Array(8)
      new DataView(tail.buffer).setUint32(0, packet.length - header)
      tail[7] = 6
      return Buffer.concat([addresses, tail])
    }
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 1, maxLength: 100 }), (payload) => {
        const fields = { identification: 7, sequence: 9, flags: tcpFlags.ack, payload }
        const four = tcpPacket('10.0.0.1', '10.0.0.2', fields)
        const six = tcpPacket('fd00::1', 'fd00::2', fields)
        assert.ok(isNothing(four.subarray(0, 20)))
        assert.ok(isNothing(pseudo(four, four.subarray(12, 20), 20), four.subarray(20)))
        assert.ok(isNothing(pseudo(six, six.subarray(8, 40), 40), six.subarray(40)))
      }),
    )
  })

  it('of TCP is cut into packets that carry the same bytes', () => {
    const sizes = fc.tuple(fc.integer({ min: 1, max: 20_000 }), fc.integer({ min: 50, max: 3000 }))
    fc.assert(
      fc.property(sizes, fc.constantFrom('10.0.0.1', 'fd00::1'), ([total, segment], source) => {
        const payload = Uint8Array.from({ length: total }, (_, i) => i)
        const destination = source === 'fd00::1' ? 'fd00::2' : '10.0.0.2'
        const { ack, psh } = tcpFlags
        const whole = tcpPacket(source, destination, {
          identification: 1,
          sequence: 5,
          flags: ack | psh,
          payload,
        })
        const header = whole.length - total
        const pieces = cutTcp(whole, segment)
        assert.deepEqual(Buffer.concat(pieces.map((piece) => piece.subarray(header))), Buffer.from(payload))
        assert.ok(pieces.every((piece) => parseIpPacket(piece)?.length === piece.length))
      }),
      { numRuns: 30 },
    )
  })
})
