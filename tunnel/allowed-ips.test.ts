import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { contains, formatIp, ipBytes, parseCidr, parseIp, prefixLengthOf } from './address.ts'
import type { Cidr } from './address.ts'
import { AllowedIps } from './allowed-ips.ts'
import type { PeerId } from './dataplane.ts'

const owner = (table: AllowedIps, address: string) => table.lookup(ipBytes(address) ?? new Uint8Array(4))
const [first, second] = [1 as PeerId, 2 as PeerId]

describe('allowed IPs', () => {
  it('belong to the longest prefix, of either family', () => {
    const table = new AllowedIps()
    table.replace(first, ['0.0.0.0/0', '10.1.0.0/16', '::/0'].map(parseCidr))
    table.replace(second, ['10.0.0.0/8', '10.1.2.3/32', 'fd00::/8'].map(parseCidr))
    assert.deepEqual(
      ['192.0.2.1', '10.9.9.9', '10.1.9.9', '10.1.2.3', '2001:db8::1', 'fd12::1'].map((address) =>
        owner(table, address),
      ),
      [first, second, first, second, first, second],
    )
  })

  it('move to the peer that was told of them last, and do not come back', () => {
    const table = new AllowedIps()
    table.replace(first, ['10.0.0.0/24', '10.0.1.0/24'].map(parseCidr))
    table.replace(second, ['10.0.0.0/24'].map(parseCidr))
    assert.deepEqual([owner(table, '10.0.0.1'), owner(table, '10.0.1.1')], [second, first])
    table.remove(first)
    assert.deepEqual([owner(table, '10.0.0.1'), owner(table, '10.0.1.1')], [second, null])
    table.replace(second, [])
    assert.equal(owner(table, '10.0.0.1'), null)
  })

  it('of IPv4 and IPv6 do not meet', () => {
    const table = new AllowedIps()
    table.replace(first, [parseCidr('0.0.0.0/0')])
    assert.equal(owner(table, '::'), null)
    table.replace(first, [parseCidr('::/0')])
    assert.equal(owner(table, '0.0.0.0'), null)
  })

  it('are found as a search through all of them finds them', () => {
    const address = fc
      .uint8Array({ minLength: 4, maxLength: 4 })
      .map((bytes) => formatIp(bytes.map((byte) => byte & 3)))
    const prefix = fc.tuple(address, fc.nat(32)).map(([from, length]) => parseCidr(`${from}/${length}`))
    const change = fc.tuple(fc.integer({ min: 1, max: 5 }), fc.array(prefix, { maxLength: 6 }))
    fc.assert(
      fc.property(fc.array(change, { maxLength: 12 }), fc.array(address), (changes, addresses) => {
        const table = new AllowedIps()
        const model = new Map<Cidr, PeerId>()
        for (const [id, prefixes] of changes) {
          const peer = id as PeerId
          table.replace(peer, prefixes)
          for (const [known, who] of model) if (who === peer) model.delete(known)
          for (const each of prefixes) model.set(each, peer)
        }
        for (const text of addresses) {
          const matches = [...model].filter(([each]) => contains(each, parseIp(text)))
          const best = matches.toSorted(([a], [b]) => prefixLengthOf(b) - prefixLengthOf(a))[0]
          assert.equal(owner(table, text), best?.[1] ?? null)
        }
      }),
    )
  })
})
