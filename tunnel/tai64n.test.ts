import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { isLater, timestamp } from './tai64n.ts'

describe('a timestamp', () => {
  it('is TAI64N with the low 24 bits of its nanoseconds taken off (wireguard-go, tai64n.go)', () => {
    // wireguard-go's stamp(time.Unix(1700000000, 123456789)).
    assert.equal(
      Buffer.from(timestamp(1_700_000_000_123.456, null)).toString('hex'),
      '400000006553f10a07000000',
    )
    assert.equal(Buffer.from(timestamp(0, null)).toString('hex'), '400000000000000a00000000')
  })

  it('is later than the one before, though the clock stands still or is set back', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 0, max: 4_102_444_800_000 }), { maxLength: 50 }), (clocks) => {
        let last: Uint8Array | null = null
        for (const clock of clocks) {
          const next: Uint8Array = timestamp(clock, last)
          if (last !== null) assert.ok(isLater(next, last))
          assert.ok(new DataView(next.buffer).getUint32(8) < 1_000_000_000)
          last = next
        }
      }),
    )
  })

  it('of two moments less than 17 ms apart does not tell them apart', () => {
    assert.deepEqual(timestamp(1_000_000, null), timestamp(1_000_016, null))
    assert.ok(isLater(timestamp(1_000_017, null), timestamp(1_000_000, null)))
  })

  it('is not later than itself', () => {
    assert.equal(isLater(timestamp(5, null), timestamp(5, null)), false)
  })
})
