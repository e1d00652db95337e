/** A report for people: metrics down, contenders across; under each median its extremes. */
import { metrics, type Metric } from './metric.ts'
import type { Result, ThroughputReport } from './throughput.ts'

/** The report as text, to its last newline. */
export function formatReport(report: ThroughputReport): string {
  const { machine, rounds, seconds, contenders, remarks } = report
  const head = ['', 'unit', ...contenders.map(({ name }) => name), 'to the best peer']
  const rows = metrics.map((metric) => [
    metric.title,
    metric.unit,
    ...contenders.map((result) => cell(metric, result)),
    ratio(metric, report),
  ])
  const versions = contenders.filter(({ version }) => version !== '')
  const notes = [
    `${machine.cores} x ${machine.cpu}, Linux ${machine.kernel}; load ${machine.loadBefore.toFixed(1)} before, ${machine.loadAfter.toFixed(1)} after.`,
    `${rounds} rounds of ${seconds} s in turns: median (least-most). Both hosts, iperf3 (CUBIC) and whatever else ran shared this machine.`,
    'To the best peer: over 1 is better. The machine\'s CPU is everything that ran, other programs too. "no tunnel" is the cable alone.',
    '64-byte UDP: sent one by one by iperf3, counted where the far tunnel hands them to its host, TCP at rest.',
    `${versions.map(({ name, version }) => `${name} ${version}`).join('; ')}.`,
    ...remarks.map((remark) => `${remark}.`),
  ]
  return `${formatTable([head, ...rows])}\n\n${notes.join('\n')}\n`
}

/** Cells in columns as wide as they need: the first two to the left, the others to the right. The first row is ruled off. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const [head = []] = rows
  const widths = head.map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
  const line = (row: readonly string[]) =>
    row
      .map((cell, i) => (i < 2 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0)))
      .join('  ')
      .trimEnd()
  const rule = widths.map((width) => '-'.repeat(width))
  return [head, rule, ...rows.slice(1)].map(line).join('\n')
}

function cell({ id, digits }: Metric, { summary }: Result): string {
  const values = summary[id]
  if (values === undefined) return '-'
  const [median, min, max] = [values.median, values.min, values.max].map((value) => value.toFixed(digits))
  return min === max ? `${median}` : `${median} (${min}-${max})`
}

function ratio({ id }: Metric, { ratios }: ThroughputReport): string {
  const value = ratios[id]
  return value === undefined ? '' : `${value.ratio.toFixed(2)} x ${value.against}`
}
