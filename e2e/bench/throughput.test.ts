import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { formatReport, formatTable } from './table.ts'
import { ratiosOf, resultOf, type ThroughputReport } from './throughput.ts'

describe('a report on throughput', () => {
  it('sums up what there is of each metric, and leaves out what does not apply', () => {
    const samples = [{ tcpForward: 3, cpuTunnel: 0.4 }, { tcpForward: 1 }, { tcpForward: 2, cpuTunnel: 0.6 }]
    assert.deepEqual(resultOf(ours, samples), {
      ...ours,
      samples,
      summary: {
        tcpForward: { median: 2, min: 1, max: 3 },
        cpuTunnel: { median: 0.5, min: 0.4, max: 0.6 },
      },
    })
  })

  it('compares with peers only, metric by metric, and not where nothing is better or worse', () => {
    const results = [
      resultOf(ours, [{ tcpForward: 3, rttIdle: 0.5, retransmits: 100 }]),
      resultOf(one, [{ tcpForward: 2, rttIdle: 0.25, retransmits: 50, smallPackets: 9 }]),
      resultOf(other, [{ tcpForward: 1, rttIdle: 4 }]),
      resultOf(cable, [{ tcpForward: 28, rttIdle: 0.06 }]),
    ]
    assert.deepEqual(ratiosOf(results), {
      tcpForward: { against: 'one', ratio: 1.5 },
      rttIdle: { against: 'one', ratio: 0.5 },
    })
    assert.deepEqual(ratiosOf(results.slice(1)), {})
  })

  it('is for people a table with extremes, the machine, versions and everything that went wrong', () => {
    const results = [
      resultOf(ours, [{ tcpForward: 3.004 }, { tcpForward: 2 }, { tcpForward: 3.5 }]),
      resultOf(one, [{ tcpForward: 2 }]),
      resultOf(other, []),
      resultOf(cable, [{ tcpForward: 28 }]),
    ]
    const text = formatReport({ ...report, contenders: results, ratios: ratiosOf(results) })
    const [head, , first] = text.split('\n')
    assert.match(head ?? '', /^ +unit +culvert +one +other +no tunnel +to the best peer$/)
    assert.match(
      first ?? '',
      /^one TCP flow, there +Gbit\/s +3\.00 \(2\.00-3\.50\) +2\.00 +- +28\.00 +1\.50 x one$/,
    )
    assert.match(text, /2 x a processor, Linux 6\.18; load 1\.2 before, 3\.0 after\./)
    assert.match(text, /culvert this checkout; one 1\.0; other 2\.0\./)
    assert.match(text, /left out: openvpn is not installed\./)
  })

  it('has columns as wide as their widest cell', () => {
    const rows = [
      ['', 'unit', 'long name'],
      ['a metric', 's', '1'],
    ]
    assert.equal(
      formatTable(rows),
      '          unit  long name\n--------  ----  ---------\na metric  s             1',
    )
  })
})

const ours = { name: 'culvert', version: 'this checkout', role: 'ours' } as const
const one = { name: 'one', version: '1.0', role: 'peer' } as const
const other = { name: 'other', version: '2.0', role: 'peer' } as const
const cable = { name: 'no tunnel', version: '', role: 'reference' } as const

const report: ThroughputReport = {
  benchmark: 'throughput',
  machine: { cpu: 'a processor', cores: 2, kernel: '6.18', loadBefore: 1.2, loadAfter: 3 },
  rounds: 3,
  seconds: 5,
  contenders: [],
  ratios: {},
  remarks: ['left out: openvpn is not installed'],
}
