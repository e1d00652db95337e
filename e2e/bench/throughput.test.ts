import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { checksumErrors } from './measure.ts'
import { table } from './table.ts'
import { columnNames, medians, ratiosOf, type Column, type Row } from './throughput.ts'

describe('the benchmark', () => {
  it('takes the middle of what it measured, and the mean of the middle two', () => {
    assert.equal(medians([9, 1, 5].map(sample))['up, Gbit/s'], 5)
    assert.equal(medians([4, 1, 2, 9].map(sample))['up, Gbit/s'], 3)
  })

  it('compares with the best of the others: the most where more is better, the least where less is', () => {
    const ratios = ratiosOf([row('Culvert', 6), row('one', 3), row('other', 4)])
    assert.deepEqual([ratios['up, Gbit/s'], ratios['RTT idle, ms']], [1.5, 2])
    assert.deepEqual(ratiosOf([row('Culvert', 6)]), {})
  })

  it('adds up the checksum errors of every protocol', () => {
    const counters = 'Tcp: InSegs InCsumErrors\nTcp: 100 2\nUdp: InCsumErrors SndbufErrors\nUdp: 3 50\n'
    assert.equal(checksumErrors(counters), 5)
  })

  it('names who was left out', () => {
    const report = {
      machine: { cpu: 'a processor', cores: 2, kernel: '6.18' },
      load: [0.1, 2],
      plan: { rounds: 3, seconds: 5 },
      bare: 0.05,
      rows: [row('Culvert', 6)],
      ratios: {},
      left: ['openvpn is not installed'],
    } as const
    assert.match(table(report), /Left out: openvpn is not installed\./)
  })
})

function sample(value: number): Readonly<Record<Column, number>> {
  // Every column is in the list, so the record is whole.
  return Object.fromEntries(columnNames.map((column) => [column, value])) as Record<Column, number>
}

function row(name: string, value: number): Row {
  return { name, version: '1', values: sample(value) }
}
