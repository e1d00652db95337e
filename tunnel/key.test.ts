import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { inspect } from 'node:util'
import { formatPublicKey, parsePublicKey, publicKeyBytes, Secret } from './key.ts'

describe('a secret', () => {
  const text = `${'A'.repeat(42)}E=`

  it('cannot be printed, logged or serialised', () => {
    const secret = Secret.parse(text)
    assert.deepEqual(
      [String(secret), inspect({ secret }), JSON.stringify({ secret })],
      ['[secret]', '{ secret: [secret] }', '{"secret":"[secret]"}'],
    )
    assert.equal(Object.keys(secret).length, 0)
    assert.equal(secret.base64(), text)
  })

  it('is wiped when it is disposed', () => {
    const bytes = new Uint8Array(32).fill(7)
    {
      using secret = Secret.of(bytes)
      assert.equal(secret.bytes()[0], 7)
    }
    assert.deepEqual(bytes, new Uint8Array(32))
  })

  it('is not repeated by the error that refuses it', () => {
    assert.throws(
      () => Secret.parse('hunter2'),
      (error: Error) => !error.message.includes('hunter2'),
    )
  })
})

describe('a public key', () => {
  it('has one base64 form only', () => {
    assert.equal(parsePublicKey(`${'A'.repeat(42)}E=`), `${'A'.repeat(42)}E=`)
    // The same 32 bytes, but the two spare bits are set.
    assert.throws(() => parsePublicKey(`${'A'.repeat(42)}F=`), { code: 'bad-format' })
    assert.throws(() => parsePublicKey('A'.repeat(44)), { code: 'bad-format' })
  })

  it('survives a trip through its bytes', () => {
    const bytes = Uint8Array.from({ length: 32 }, (_, i) => i * 8)
    assert.deepEqual(publicKeyBytes(formatPublicKey(bytes)), bytes)
  })
})
