import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { memoryPrimitives as primitives } from './crypto-memory.ts'
import { consumeInitiation, consumeResponse, createInitiation, createResponse } from './noise.ts'
import type { Identity } from './noise.ts'
import { wireguardGo } from './noise-vector.ts'

const { hex } = wireguardGo
const identity = (privateKey: Uint8Array): Identity => ({
  privateKey,
  publicKey: primitives.publicKey(privateKey),
})
const initiator = identity(wireguardGo.initiatorPrivate)
const responder = identity(wireguardGo.responderPrivate)

function initiation(overrides: { readonly remoteStatic?: Uint8Array } = {}) {
  return createInitiation(primitives, initiator, {
    remoteStatic: responder.publicKey,
    ephemeral: wireguardGo.initiatorEphemeral.slice(),
    timestamp: wireguardGo.timestamp,
    localIndex: wireguardGo.initiatorIndex,
    ...overrides,
  })
}

function handshake() {
  const first = initiation()
  assert.ok(first)
  const consumed = consumeInitiation(primitives, responder, first.message)
  assert.ok(consumed)
  const second = createResponse(primitives, consumed, {
    ephemeral: wireguardGo.responderEphemeral.slice(),
    localIndex: wireguardGo.responderIndex,
    presharedKey: wireguardGo.presharedKey,
  })
  assert.ok(second)
  return { first, consumed, second }
}

describe('a handshake', () => {
  it('has the bytes and the keys of wireguard-go, message for message', () => {
    const { first, consumed, second } = handshake()
    const keys = consumeResponse(
      primitives,
      initiator,
      first.handshake,
      second.message,
      wireguardGo.presharedKey,
    )
    const withoutMacs = (message: Uint8Array) => message.subarray(0, message.length - 32)
    assert.deepEqual(
      {
        initiation: withoutMacs(first.message),
        remoteStatic: consumed.remoteStatic,
        timestamp: consumed.timestamp,
        response: withoutMacs(second.message),
        initiator: keys,
        responder: second.keys,
      },
      {
        initiation: withoutMacs(wireguardGo.initiation),
        remoteStatic: wireguardGo.initiatorPublic,
        timestamp: wireguardGo.timestamp,
        response: withoutMacs(wireguardGo.response),
        initiator: {
          remoteIndex: wireguardGo.responderIndex,
          sendKey: wireguardGo.initiatorSend,
          receiveKey: wireguardGo.initiatorReceive,
        },
        responder: {
          remoteIndex: wireguardGo.initiatorIndex,
          sendKey: wireguardGo.initiatorReceive,
          receiveKey: wireguardGo.initiatorSend,
        },
      },
    )
    assert.deepEqual(
      primitives.seal(wireguardGo.initiatorSend, 7n, Buffer.from('a packet, padded'), new Uint8Array(0)),
      wireguardGo.sealed7,
    )
  })

  it('takes messages that wireguard-go wrote', () => {
    const first = initiation()
    assert.ok(first)
    const consumed = consumeInitiation(primitives, responder, wireguardGo.initiation)
    assert.deepEqual(consumed?.remoteStatic, wireguardGo.initiatorPublic)
    const keys = consumeResponse(
      primitives,
      initiator,
      first.handshake,
      wireguardGo.response,
      wireguardGo.presharedKey,
    )
    assert.deepEqual(keys?.sendKey, wireguardGo.initiatorSend)
  })

  it('fails on a flipped bit anywhere before the MACs, and leaves the initiator ready for the true response', () => {
    const { first, second } = handshake()
    fc.assert(
      fc.property(fc.nat(115 * 8 + 7), (bit) => {
        assert.equal(consumeInitiation(primitives, responder, flip(first.message, bit)), null)
      }),
      // The sender's index (bytes 4 to 7) is not authenticated by the handshake itself, only by mac1.
      { examples: [[0], [64], [320], [704], [927]], numRuns: 60 },
    )
    for (let bit = 96; bit < 60 * 8; bit += 7) {
      const forged = flip(second.message, bit)
      assert.equal(
        consumeResponse(primitives, initiator, first.handshake, forged, wireguardGo.presharedKey),
        null,
        `bit ${bit}`,
      )
    }
    assert.ok(
      consumeResponse(primitives, initiator, first.handshake, second.message, wireguardGo.presharedKey),
    )
  })

  it('fails for another preshared key, for another index and for another responder', () => {
    const { first, second } = handshake()
    const other = { ...first.handshake, localIndex: first.handshake.localIndex + 1 }
    assert.equal(
      consumeResponse(primitives, initiator, first.handshake, second.message, hex('00'.repeat(32))),
      null,
    )
    assert.equal(
      consumeResponse(primitives, initiator, other, second.message, wireguardGo.presharedKey),
      null,
    )
    assert.equal(consumeInitiation(primitives, initiator, first.message), null)
  })

  it('refuses a point of low order in every Diffie-Hellman', () => {
    const zero = new Uint8Array(32)
    assert.equal(initiation({ remoteStatic: zero }), null) // es and ss of the initiator

    const { first, consumed, second } = handshake()
    const forgedFirst = first.message.slice()
    forgedFirst.set(zero, 8)
    assert.equal(consumeInitiation(primitives, responder, forgedFirst), null) // es of the responder

    const answer = (remote: Partial<typeof consumed>) =>
      createResponse(
        primitives,
        { ...consumed, ...remote },
        {
          ephemeral: wireguardGo.responderEphemeral.slice(),
          localIndex: 1,
          presharedKey: wireguardGo.presharedKey,
        },
      )
    assert.equal(answer({ remoteEphemeral: zero }), null) // ee
    assert.equal(answer({ remoteStatic: zero }), null) // se

    const forgedSecond = second.message.slice()
    forgedSecond.set(zero, 12)
    assert.equal(
      consumeResponse(primitives, initiator, first.handshake, forgedSecond, wireguardGo.presharedKey),
      null,
    ) // ee of the initiator
  })

  it('refuses an initiation sealed by a static key of low order', () => {
    // Whoever makes one needs no private key for ss: without the check anybody could sign as the zero key.
    const forged: Identity = { privateKey: initiator.privateKey, publicKey: new Uint8Array(32) }
    const first = createInitiation(primitives, forged, {
      remoteStatic: responder.publicKey,
      ephemeral: wireguardGo.initiatorEphemeral.slice(),
      timestamp: wireguardGo.timestamp,
      localIndex: 1,
    })
    assert.ok(first)
    assert.equal(consumeInitiation(primitives, responder, first.message), null)
  })

  it('wipes the responder’s ephemeral key', () => {
    const { consumed } = handshake()
    const ephemeral = wireguardGo.responderEphemeral.slice()
    createResponse(primitives, consumed, { ephemeral, localIndex: 1, presharedKey: wireguardGo.presharedKey })
    assert.deepEqual(ephemeral, new Uint8Array(32))
  })

  it('reads any bytes without throwing', () => {
    const { first } = handshake()
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 200 }), (bytes) => {
        assert.equal(consumeInitiation(primitives, responder, bytes), null)
        assert.equal(
          consumeResponse(primitives, initiator, first.handshake, bytes, wireguardGo.presharedKey),
          null,
        )
      }),
    )
  })
})

function flip(message: Uint8Array, bit: number): Uint8Array {
  const index = bit < 8 * 4 || bit >= 8 * 8 ? bit >> 3 : 8
  return message.with(index, (message[index] ?? 0) ^ (1 << (bit & 7)))
}
