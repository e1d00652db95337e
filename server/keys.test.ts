import assert from 'node:assert/strict'
import { mkdtempDisposable, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { formatPublicKey, Secret } from '@culvert/tunnel/pure'
import {
  checkOperatorKey,
  generateOperatorKey,
  generateWireGuardKey,
  publicKeyOf,
  readSecret,
} from './keys.ts'

const hex = (text: string) => Uint8Array.from(Buffer.from(text, 'hex'))

describe('a WireGuard key', () => {
  it('has the public key that RFC 7748 part 6.1 gives', () => {
    const alice = Secret.of(hex('77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a'))
    const published = hex('8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a')
    assert.equal(publicKeyOf(alice), formatPublicKey(published))
  })

  it('is clamped, as wg genkey stores it', () => {
    const bytes = generateWireGuardKey().bytes()
    assert.deepEqual([(bytes[0] ?? 0) & 7, (bytes[31] ?? 0) & 0xc0], [0, 0x40])
  })
})

describe('a key file', () => {
  it('that is damaged or missing is named, with what to do', async () => {
    await using folder = await mkdtempDisposable(join(tmpdir(), 'culvert-keys-'))
    const path = join(folder.path, 'private.key')
    await assert.rejects(readSecret(path), {
      code: 'not-initialised',
      message: /private\.key does not exist: run/,
    })
    await writeFile(path, 'c2hvcnQ=')
    await assert.rejects(readSecret(path), {
      code: 'bad-state',
      message: /private\.key is damaged: .*44 characters/,
    })
    await assert.rejects(checkOperatorKey(path), { code: 'bad-state', message: /not an Ed25519 key in PEM/ })
    await writeFile(path, generateOperatorKey())
    await checkOperatorKey(path)
  })
})
