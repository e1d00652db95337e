import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseCidr, parseInterfaceAddress } from '@culvert/tunnel/pure'
import { addressesOf, choosePool4, lastNumber, overlaps, serverAddresses, uniqueLocalPrefix } from './pool.ts'

const pool = { pool4: parseCidr('10.64.0.0/10'), pool6: parseCidr('fd12:3456:789a::/48') }

describe('the address pool', () => {
  it('gives the same number in both families', () => {
    assert.deepEqual(
      [2, 255, 256, lastNumber(pool)].map((number) => addressesOf(pool, number)),
      [
        { address4: '10.64.0.2', address6: 'fd12:3456:789a::2' },
        { address4: '10.64.0.255', address6: 'fd12:3456:789a::ff' },
        { address4: '10.64.1.0', address6: 'fd12:3456:789a::100' },
        { address4: '10.127.255.254', address6: 'fd12:3456:789a::3f:fffe' },
      ],
    )
  })

  it('gives the server the first address of each', () => {
    assert.deepEqual(serverAddresses(pool), ['10.64.0.1/10', 'fd12:3456:789a::1/48'])
  })

  it('is chosen so that it lies over no network of this machine', () => {
    const cloud = parseInterfaceAddress('10.116.0.4/20')
    assert.equal(overlaps(pool.pool4, cloud), true)
    assert.equal(overlaps(pool.pool4, parseInterfaceAddress('10.1.2.3/8')), true)
    assert.equal(overlaps(pool.pool4, parseInterfaceAddress('fd12::1/16')), false)
    assert.deepEqual(
      [[], [cloud], [cloud, parseInterfaceAddress('10.0.0.1/8')], [parseInterfaceAddress('0.0.0.1/0')]].map(
        choosePool4,
      ),
      ['10.64.0.0/10', '10.128.0.0/10', '172.16.0.0/12', null],
    )
  })

  it('takes its IPv6 prefix from 40 random bits below fd00::/8', () => {
    assert.equal(uniqueLocalPrefix(Uint8Array.of(1, 2, 3, 4, 255)), 'fd01:203:4ff::/48')
  })
})
