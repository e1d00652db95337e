import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { makeKeys, readConf, setCommand } from './uapi.ts'

describe('the configuration protocol', () => {
  it('says what a .conf says, with keys in hex and lists taken apart', () => {
    const key = Buffer.alloc(32, 1)
    const conf = `[Interface]
      PrivateKey = ${key.toString('base64')} # ours
      ListenPort = 51820
      [Peer]
      PublicKey = ${key.toString('base64')}
      AllowedIPs = 0.0.0.0/0, ::/0
      Endpoint = [2001:db8::1]:51820`
    assert.deepEqual(setCommand(readConf(conf)).split('\n'), [
      'set=1',
      `private_key=${key.toString('hex')}`,
      'listen_port=51820',
      'replace_peers=true',
      `public_key=${key.toString('hex')}`,
      'endpoint=[2001:db8::1]:51820',
      'allowed_ip=0.0.0.0/0',
      'allowed_ip=::/0',
      '',
      '',
    ])
  })

  it('refuses a key that is not 32 bytes', () => {
    assert.throws(() => setCommand(readConf('[Interface]\nPrivateKey = c2hvcnQ=')), /not 32 bytes/)
  })

  it('gets keys of 32 bytes that are not alike', () => {
    const { privateKey, publicKey } = makeKeys()
    assert.deepEqual(
      [privateKey, publicKey].map((key) => Buffer.from(key, 'base64').length),
      [32, 32],
    )
    assert.notEqual(privateKey, publicKey)
  })
})
