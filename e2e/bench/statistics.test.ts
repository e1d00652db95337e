import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { againstBest, spread } from './statistics.ts'

describe('what is said of several measurements', () => {
  it('is the middle one and the extremes; of an even number the mean of the middle two', () => {
    assert.deepEqual(spread([9, 1, 100]), { median: 9, min: 1, max: 100 })
    assert.deepEqual(spread([10, 9, 4, 1]), { median: 6.5, min: 1, max: 10 })
    assert.deepEqual(spread([7]), { median: 7, min: 7, max: 7 })
    assert.equal(spread([]), null)
  })

  it('does not depend on their order, and has half of them on either side', () => {
    const some = fc.array(fc.double({ noNaN: true, min: -1e9, max: 1e9 }), { minLength: 1, maxLength: 20 })
    fc.assert(
      fc.property(some, (values) => {
        const found = spread(values)
        assert.deepEqual(spread(values.toReversed()), found)
        const median = found?.median ?? NaN
        const below = values.filter((value) => value <= median).length
        const above = values.filter((value) => value >= median).length
        assert.ok(below * 2 >= values.length && above * 2 >= values.length)
      }),
    )
  })

  it('stands to the best of the others, over 1 where it is better, whichever way that is', () => {
    const others = [
      { name: 'slow', median: 2 },
      { name: 'fast', median: 4 },
    ]
    assert.deepEqual(againstBest(6, others, 'more'), { against: 'fast', ratio: 1.5 })
    assert.deepEqual(againstBest(1, others, 'less'), { against: 'slow', ratio: 2 })
    assert.equal(againstBest(1, [], 'less'), null)
  })
})
