import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import {
  contains,
  formatEndpoint,
  formatIp,
  ipBytes,
  isIp,
  parseCidr,
  parseEndpoint,
  parseHostName,
  parseInterfaceAddress,
  parseIp,
  parsePort,
  type Cidr,
  type IpAddress,
  type Port,
} from './address.ts'

describe('an address', () => {
  it('is kept in the one form of RFC 5952', () => {
    const forms: Record<string, string> = {
      '192.0.2.1': '192.0.2.1',
      '2001:DB8:0:0:0:0:0:1': '2001:db8::1',
      '2001:db8:0:1:0:0:0:1': '2001:db8:0:1::1',
      '2001:0:0:1:0:0:0:1': '2001:0:0:1::1',
      '::': '::',
      '::1': '::1',
      '1::': '1::',
      '2001:db8:0:1:1:1:1:1': '2001:db8:0:1:1:1:1:1',
      '::ffff:192.0.2.1': '::ffff:c000:201',
      'fe80:0:0:0:0:0:0:0': 'fe80::',
    }
    assert.deepEqual(
      Object.keys(forms).map((form) => parseIp(form)),
      Object.values(forms),
    )
  })

  it('is refused by name when it is not one', () => {
    for (const text of [
      '',
      '1.2.3',
      '1.2.3.256',
      '01.2.3.4',
      '1.2.3.4.5',
      ':',
      ':::',
      '1:2:3:4:5:6:7',
      '1::2::3',
      '12345::',
      'fe80::1%eth0',
      '1:2:3:4:5:6:7:8:9',
      '::1.2.3',
    ]) {
      assert.equal(isIp(text), false, text)
      assert.throws(
        () => parseIp(text),
        new RegExp(`"${text.replaceAll(/[.%]/g, '\\$&')}" is not an IPv4 or IPv6 address`),
      )
    }
  })

  it('survives a trip through its bytes', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.uint8Array({ minLength: 4, maxLength: 4 }),
          fc.uint8Array({ minLength: 16, maxLength: 16 }),
        ),
        (bytes) => {
          assert.deepEqual(ipBytes(formatIp(bytes)), bytes)
          assert.equal(parseIp(formatIp(bytes)), formatIp(bytes))
        },
      ),
    )
  })
})

describe('a prefix', () => {
  it('loses its host bits, and an interface address keeps them', () => {
    assert.equal(parseCidr('10.1.2.3/8'), '10.0.0.0/8')
    assert.equal(parseCidr('2001:db8:ffff::1/33'), '2001:db8:8000::/33')
    assert.equal(parseCidr('192.0.2.7'), '192.0.2.7/32')
    assert.equal(parseCidr('::/0'), '::/0')
    assert.equal(parseInterfaceAddress('10.1.2.3/8'), '10.1.2.3/8')
    assert.equal(parseInterfaceAddress('fd00::2'), 'fd00::2/128')
  })

  it('is refused when the length does not fit the family', () => {
    for (const text of [
      '10.0.0.0/33',
      '::/129',
      '10.0.0.0/',
      '10.0.0.0/-1',
      '10.0.0.0/8/8',
      '10.0.0.0/1e1',
    ]) {
      assert.throws(() => parseCidr(text), { code: 'bad-format' }, text)
    }
  })

  it('contains what lies in it and nothing of the other family', () => {
    const in10 = (inner: string) => contains('10.0.0.0/8' as Cidr, inner as IpAddress | Cidr)
    assert.deepEqual(['10.2.3.4', '11.0.0.1', '10.0.0.0/9', '8.0.0.0/6', '::1'].map(in10), [
      true,
      false,
      true,
      false,
      false,
    ])
    assert.equal(contains('0.0.0.0/0' as Cidr, '::1' as IpAddress), false)
  })
})

describe('an endpoint', () => {
  it('is a name or an address with a port', () => {
    assert.deepEqual(parseEndpoint('vpn.Example.org:51820'), { host: 'vpn.example.org', port: 51820 })
    assert.deepEqual(parseEndpoint('[2001:db8::0:1]:443'), { host: '2001:db8::1', port: 443 })
    assert.deepEqual(parseEndpoint('192.0.2.1', 51820 as Port), { host: '192.0.2.1', port: 51820 })
    assert.deepEqual(parseEndpoint('2001:db8::1', 51820 as Port), { host: '2001:db8::1', port: 51820 })
    assert.equal(formatEndpoint(parseEndpoint('[2001:db8::1]:443')), '[2001:db8::1]:443')
  })

  it('is refused without a port, with a bad one, or with a broken host', () => {
    for (const text of [
      'vpn.example.org',
      '192.0.2.1:0',
      '192.0.2.1:65536',
      ':51820',
      '[zz]:1',
      '2001:db8::1',
      '1.2.3.400:1',
      'a b:1',
      '-x:1',
      '[1.2.3.4]:1',
    ]) {
      assert.throws(() => parseEndpoint(text), { code: 'bad-format' }, text)
    }
    assert.throws(() => parsePort('070000'), { code: 'bad-format' })
    assert.throws(() => parseHostName(`${'a'.repeat(64)}.org`), { code: 'bad-format' })
  })
})
