import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { ReplayWindow, WINDOW } from './replay.ts'
import { REJECT_AFTER_MESSAGES } from './wire.ts'

describe('the replay window', () => {
  it('takes counters in any order, each once', () => {
    const window = new ReplayWindow()
    const answers = [0n, 1n, 1n, 9n, 8n, 8n, 0n, 7n].map((counter) => window.accept(counter))
    assert.deepEqual(answers, [true, true, false, true, true, false, false, true])
  })

  it('takes all of a burst sent backwards, as far as it reaches', () => {
    const window = new ReplayWindow()
    for (let counter = WINDOW; counter >= 0n; counter--) assert.equal(window.accept(counter), true)
    for (let counter = 0n; counter <= WINDOW; counter++) assert.equal(window.accept(counter), false)
  })

  it('forgets what it knew of a word when it comes round to it', () => {
    const window = new ReplayWindow()
    for (let counter = 0n; counter < 1000n; counter++) window.accept(counter)
    const later = [9192n, 8192n, 8500n, 9000n, 9191n, 9192n].map((counter) => window.accept(counter))
    assert.deepEqual(later, [true, true, true, true, true, false])
  })

  it('refuses counters that no key may reach', () => {
    const window = new ReplayWindow()
    assert.equal(window.accept(REJECT_AFTER_MESSAGES), false)
    assert.equal(window.accept(REJECT_AFTER_MESSAGES - 1n), true)
    assert.equal(window.accept(2n ** 64n - 1n), false)
  })

  it('agrees with a set of all counters seen, whatever comes', () => {
    const jumps = fc.array(
      fc.oneof(
        fc.bigInt({ min: -9000n, max: 9000n }),
        fc.bigInt({ min: -70n, max: 70n }),
        fc.bigInt({ min: 0n, max: 1_000_000n }),
      ),
      { minLength: 1, maxLength: 300 },
    )
    fc.assert(
      fc.property(jumps, (steps) => {
        const window = new ReplayWindow()
        const seen = new Set<bigint>()
        let greatest = -1n
        let counter = 0n
        for (const step of steps) {
          counter = counter + step < 0n ? 0n : counter + step
          const isFresh = !seen.has(counter) && greatest - counter <= WINDOW
          assert.equal(window.accept(counter), isFresh)
          if (!isFresh) continue
          seen.add(counter)
          if (counter > greatest) greatest = counter
        }
      }),
    )
  })
})
