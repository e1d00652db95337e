import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parsePing } from './ping.ts'

describe("ping's words", () => {
  it('are read for the shortest, the average, the longest and what was lost', () => {
    assert.deepEqual(
      parsePing(report('40 packets transmitted, 38 received, 5% packet loss, time 1081ms', times)),
      {
        min: 0.046,
        average: 0.062,
        max: 0.216,
        lost: 2,
      },
    )
  })

  it('are read past what it says of duplicates, errors and a pipe', () => {
    const counts =
      '40 packets transmitted, 38 received, +1 duplicates, +3 errors, 5% packet loss, time 1081ms'
    assert.deepEqual(parsePing(report(counts, `${times}, pipe 4`)), {
      min: 0.046,
      average: 0.062,
      max: 0.216,
      lost: 2,
    })
  })

  it('without a time mean that nothing came back', () => {
    const silence = report('40 packets transmitted, 0 received, 100% packet loss, time 2081ms', '')
    assert.throws(() => parsePing(silence), /no echo came back: 40 packets transmitted, 0 received/)
    assert.throws(() => parsePing('ping: connect: Network is unreachable\n'), /Network is unreachable/)
  })
})

/** Of iputils, with -q. */
function report(counts: string, times: string): string {
  return `PING 192.0.2.2 (192.0.2.2) 56(84) bytes of data.\n\n--- 192.0.2.2 ping statistics ---\n${counts}\n${times}\n`
}

const times = 'rtt min/avg/max/mdev = 0.046/0.062/0.216/0.035 ms'
