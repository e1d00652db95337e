import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { ProfileId } from './contract/index.ts'
import { formatTarget, noTarget, parseTarget, type Target } from './target.ts'

describe('the target file', () => {
  it('reads what it wrote', () => {
    const target: fc.Arbitrary<Target> = fc.record(
      {
        bootId: fc.option(fc.uuid()),
        profile: fc.option(fc.stringMatching(/^[0-9a-f]{16}$/).map((id) => id as ProfileId)),
        lockdown: fc.constantFrom('on', 'off'),
      },
      { noNullPrototype: true },
    )
    fc.assert(fc.property(target, (target) => assert.deepEqual(parseTarget(formatTarget(target)), target)))
  })

  it('wants nothing when there is none', () => {
    assert.deepEqual(parseTarget(''), noTarget)
  })

  it('is nothing at all when it is damaged: a wish is not to be guessed', () => {
    const whole = formatTarget({ ...noTarget, bootId: 'x' })
    const damaged = [
      whole.slice(0, -1),
      whole.slice(5),
      whole.replace('off', ''),
      whole.replace('profile -', 'profile x'),
    ]
    assert.deepEqual(damaged.map(parseTarget), [null, null, null, null])
  })
})
