import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  classify,
  decodeCookieReply,
  decodeData,
  decodeInitiation,
  decodeResponse,
  encodeCookieReply,
  encodeData,
  encodeInitiation,
  encodeResponse,
  macs,
  paddedLength,
} from './wire.ts'

describe('a message', () => {
  it('has the layout of the paper, 5.4, little-endian', () => {
    const bytes = (length: number, value: number) => new Uint8Array(length).fill(value)
    const hex = (message: Uint8Array) => Buffer.from(message).toString('hex')
    const initiation = encodeInitiation({
      sender: 0x01020304,
      ephemeral: bytes(32, 0xaa),
      static: bytes(48, 0xbb),
      timestamp: bytes(28, 0xcc),
    })
    const response = encodeResponse({
      sender: 0x01020304,
      receiver: 0xf1f2f3f4,
      ephemeral: bytes(32, 0xaa),
      empty: bytes(16, 0xbb),
    })
    const cookie = encodeCookieReply({
      receiver: 0x01020304,
      nonce: bytes(24, 0xaa),
      cookie: bytes(32, 0xbb),
    })
    const data = encodeData({ receiver: 0x01020304, counter: 0x1112131415161718n, sealed: bytes(16, 0xaa) })
    assert.deepEqual(
      [hex(initiation), hex(response), hex(cookie), hex(data)],
      [
        `01000000 04030201 ${'aa'.repeat(32)} ${'bb'.repeat(48)} ${'cc'.repeat(28)} ${'00'.repeat(32)}`,
        `02000000 04030201 f4f3f2f1 ${'aa'.repeat(32)} ${'bb'.repeat(16)} ${'00'.repeat(32)}`,
        `03000000 04030201 ${'aa'.repeat(24)} ${'bb'.repeat(32)}`,
        `04000000 04030201 1817161514131211 ${'aa'.repeat(16)}`,
      ].map((text) => text.replaceAll(' ', '')),
    )
  })

  it('ends in two MACs that cover what is before them', () => {
    const message = Uint8Array.from({ length: 92 }, (_, i) => i)
    const parts = macs(message)
    assert.deepEqual(
      [parts.beforeMac1.length, parts.mac1[0], parts.beforeMac2.length, parts.mac2[0]],
      [60, 60, 76, 76],
    )
  })

  it('is told apart by its length and its first four bytes, the three zeros among them', () => {
    const of = (length: number, word: number) => {
      const message = new Uint8Array(length)
      new DataView(message.buffer).setUint32(0, word, true)
      return classify(message)
    }
    assert.deepEqual(
      {
        initiation: of(148, 1),
        response: of(92, 2),
        cookie: of(64, 3),
        keepalive: of(32, 4),
        data: of(1452, 4),
        'data of an odd length': of(33, 4),
        empty: classify(new Uint8Array(0)),
        'a byte short': of(147, 1),
        'a byte long': of(149, 1),
        'another one’s length': of(148, 2),
        'data without a tag': of(31, 4),
        'type 0': of(148, 0),
        'type 5': of(148, 5),
        'reserved bytes': of(148, 0x0100_0001),
      },
      {
        initiation: 'initiation',
        response: 'response',
        cookie: 'cookie',
        keepalive: 'data',
        data: 'data',
        'data of an odd length': 'data',
        empty: 'bad-length',
        'a byte short': 'bad-length',
        'a byte long': 'bad-length',
        'another one’s length': 'bad-length',
        'data without a tag': 'bad-length',
        'type 0': 'bad-type',
        'type 5': 'bad-type',
        'reserved bytes': 'bad-type',
      },
    )
  })

  it('of any bytes is decoded as what it claims to be or not at all, and never throws', () => {
    const lengths = fc.constantFrom(0, 3, 4, 31, 32, 33, 63, 64, 92, 147, 148, 149, 1500)
    const datagrams = lengths.chain((length) => fc.uint8Array({ minLength: length, maxLength: length }))
    fc.assert(
      fc.property(datagrams, fc.integer({ min: 0, max: 6 }), (datagram, type) => {
        if (datagram.length >= 4) datagram.set([type, 0, 0, 0])
        const kind = classify(datagram)
        const decoded = {
          initiation: decodeInitiation(datagram),
          response: decodeResponse(datagram),
          cookie: decodeCookieReply(datagram),
          data: decodeData(datagram),
        }
        for (const [name, fields] of Object.entries(decoded)) assert.equal(fields !== null, name === kind)
      }),
    )
  })

  it('survives a trip through its fields', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ minLength: 48, maxLength: 1500 }),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
        (bytes, counter) => {
          const data = { receiver: bytes.length, counter, sealed: bytes }
          assert.deepEqual(decodeData(encodeData(data)), data)
          const initiation = {
            sender: 0xffff_ffff,
            ephemeral: bytes.subarray(0, 32),
            static: bytes.subarray(0, 48),
            timestamp: bytes.subarray(0, 28),
          }
          assert.deepEqual(decodeInitiation(encodeInitiation(initiation)), initiation)
          const response = {
            sender: 1,
            receiver: 2,
            ephemeral: bytes.subarray(0, 32),
            empty: bytes.subarray(0, 16),
          }
          assert.deepEqual(decodeResponse(encodeResponse(response)), response)
          const cookie = { receiver: 3, nonce: bytes.subarray(0, 24), cookie: bytes.subarray(0, 32) }
          assert.deepEqual(decodeCookieReply(encodeCookieReply(cookie)), cookie)
        },
      ),
    )
  })
})

describe('padding', () => {
  it('goes to a multiple of 16, but not past the MTU', () => {
    assert.deepEqual(
      [0, 1, 16, 17, 1407, 1408, 1409, 1420, 1421].map((length) => paddedLength(length, 1420)),
      [0, 16, 16, 32, 1408, 1408, 1420, 1420, 1424],
    )
  })
})
