import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { firstLook, isSilent, look, type Sample } from './liveness.ts'

function silentAfter(
  samples: readonly (readonly [now: number, rxBytes: number, sentPackets: number])[],
): boolean {
  const [first, ...rest] = samples.map(([now, rxBytes, sentPackets]): Sample => ({
    now,
    rxBytes,
    sentPackets,
  }))
  assert.ok(first)
  return isSilent(rest.reduce(look, firstLook(first)))
}

describe('isSilent', () => {
  const cases: readonly [string, boolean, Parameters<typeof silentAfter>[0]][] = [
    [
      'nobody has anything to say for an hour',
      false,
      [
        [0, 1, 1],
        [3_600_000, 1, 1],
      ],
    ],
    [
      'what was sent is unanswered for 15 s',
      true,
      [
        [0, 1, 1],
        [5_000, 1, 2],
        [20_000, 1, 2],
      ],
    ],
    [
      'what was sent is unanswered for 14 s',
      false,
      [
        [0, 1, 1],
        [5_000, 1, 2],
        [19_000, 1, 2],
      ],
    ],
    [
      'more and more is sent, and nothing comes',
      true,
      [
        [0, 1, 1],
        [5_000, 1, 2],
        [10_000, 1, 9],
        [20_000, 1, 50],
      ],
    ],
    [
      'an answer came between',
      false,
      [
        [0, 1, 1],
        [5_000, 1, 2],
        [10_000, 2, 2],
        [25_000, 2, 2],
      ],
    ],
    [
      'answers and packets cross',
      false,
      [
        [0, 1, 1],
        [5_000, 2, 2],
        [20_000, 3, 9],
        [35_000, 4, 12],
      ],
    ],
  ]
  for (const [name, expected, samples] of cases) {
    it(`is ${expected} when ${name}`, () => assert.equal(silentAfter(samples), expected))
  }
})
