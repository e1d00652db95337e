import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { parseSeconds, parseTcp } from './iperf.ts'

describe("iperf3's JSON", () => {
  it('says what the receiver got, in its own time', () => {
    assert.deepEqual(parseTcp(JSON.stringify({ start: {}, end })), {
      gigabits: 56.865325056,
      seconds: 2.004076,
    })
  })

  it('is refused when another congestion control was in use', () => {
    const other = { ...end, receiver_tcp_congestion: 'bbr' }
    assert.throws(() => parseTcp(JSON.stringify({ end: other })), /used "bbr" where CUBIC was asked for/)
  })

  it("that tells of an error becomes iperf3's own sentence", () => {
    const failed = JSON.stringify({ end: {}, error: 'unable to connect to server: Connection refused' })
    assert.throws(() => parseTcp(failed), /^Error: iperf3: unable to connect to server: Connection refused$/)
    assert.throws(() => parseSeconds(failed), /Connection refused/)
  })

  it('that is none, or has no totals, is said so', () => {
    assert.throws(
      () => parseTcp('iperf3: interrupt - the client has terminated'),
      /gave no JSON: iperf3: interrupt/,
    )
    assert.throws(() => parseTcp('{"end":{"sum_received":{"bytes":"many"}}}'), /gave no totals/)
    assert.throws(() => parseTcp('[]'), /gave no totals/)
  })

  it('says how long datagrams were sent, also when none arrived', () => {
    assert.equal(parseSeconds('{"end":{"sum_sent":{"seconds":3.000647,"packets":482920}}}'), 3.000647)
    assert.throws(() => parseSeconds('{"end":{}}'), /gave no totals/)
  })
})

/** Of iperf3 3.12, shortened. */
const end = {
  sum_sent: { start: 0, end: 2.000046, seconds: 2.000046, bytes: 7110131712, retransmits: 0, sender: true },
  sum_received: { start: 0, end: 2.004076, seconds: 2.004076, bytes: 7108165632, sender: true },
  cpu_utilization_percent: { host_total: 53.87 },
  sender_tcp_congestion: 'cubic',
  receiver_tcp_congestion: 'cubic',
}
