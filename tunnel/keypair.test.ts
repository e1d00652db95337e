import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { memoryPrimitives as primitives } from './crypto-memory.ts'
import type { SessionIndex } from './dataplane.ts'
import { Keypair } from './keypair.ts'
import { decodeData, REJECT_AFTER_MESSAGES, REKEY_AFTER_MESSAGES } from './wire.ts'

/** Both ends of a session, the first of which has sealed `firstCounter` messages already. */
function ends(firstCounter = 0n): readonly [Keypair, Keypair] {
  const [first, second] = [primitives.random(32), primitives.random(32)]
  const end = (role: 'initiator' | 'responder', index: number) => {
    const [sendKey, receiveKey] = role === 'initiator' ? [first, second] : [second, first]
    const keys = { remoteIndex: 3 - index, sendKey: sendKey.slice(), receiveKey: receiveKey.slice(), role }
    return new Keypair(primitives, index as SessionIndex, keys, 0, role === 'initiator' ? firstCounter : 0n)
  }
  return [end('initiator', 1), end('responder', 2)]
}

function counterOf(message: Uint8Array | null): bigint | null {
  return message === null ? null : (decodeData(message)?.counter ?? null)
}

describe('a session', () => {
  it('opens what its other end sealed, once', () => {
    const [ours, theirs] = ends()
    const sealed = decodeData(ours.seal(new Uint8Array([1, 2, 3]), 0) ?? new Uint8Array(0))
    assert.ok(sealed)
    assert.deepEqual(theirs.open(sealed, 0), new Uint8Array([1, 2, 3]))
    assert.equal(theirs.open(sealed, 0), 'replayed')
    assert.equal(ours.open(sealed, 0), 'bad-tag')
  })

  it('asks to be renewed after 2^60 messages, and seals none after 2^64 - 2^13 - 2', () => {
    const [early] = ends(REKEY_AFTER_MESSAGES - 1n)
    early.seal(new Uint8Array(0), 0)
    assert.equal(early.staleAfterSending(0), null)
    early.seal(new Uint8Array(0), 0)
    assert.equal(early.staleAfterSending(0), 'messages')
    const [late] = ends(REJECT_AFTER_MESSAGES - 1n)
    assert.equal(counterOf(late.seal(new Uint8Array(0), 0)), REJECT_AFTER_MESSAGES - 1n)
    assert.equal(late.canSend(0), false)
    assert.equal(late.seal(new Uint8Array(0), 0), null)
  })

  it('neither seals nor opens once it is 180 s old', () => {
    const [ours, theirs] = ends()
    const sealed = decodeData(theirs.seal(new Uint8Array(0), 179_999) ?? new Uint8Array(0))
    assert.ok(sealed)
    assert.deepEqual([ours.open(sealed, 180_000), ours.seal(new Uint8Array(0), 180_000)], ['expired', null])
  })

  it('is to be renewed by its initiator alone', () => {
    const [ours, theirs] = ends()
    assert.deepEqual(
      [ours.staleAfterSending(119_999), ours.staleAfterSending(120_000), theirs.staleAfterSending(179_000)],
      [null, 'age', null],
    )
    assert.deepEqual(
      [164_999, 165_000, 166_000].map((now) => [
        ours.staleAfterReceiving(now),
        theirs.staleAfterReceiving(now),
      ]),
      [
        [false, false],
        [true, false],
        [false, false],
      ],
    )
  })

  it('opens but does not seal once sending is forbidden, and is silent once it is wiped', () => {
    const [ours, theirs] = ends()
    ours.forbidSending()
    const sealed = decodeData(theirs.seal(new Uint8Array(0), 0) ?? new Uint8Array(0))
    assert.ok(sealed)
    assert.deepEqual([ours.seal(new Uint8Array(0), 0), ours.open(sealed, 0)], [null, new Uint8Array(0)])
    theirs.wipe()
    assert.equal(theirs.seal(new Uint8Array(0), 0), null)
  })
})
