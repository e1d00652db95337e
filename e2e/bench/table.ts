/** A report for people: contenders across, measurements down, the ratio to the best peer last. */
import { columnNames, columns, type Report } from './throughput.ts'

export function table(report: Report): string {
  const { machine, load, plan, rows, ratios, left } = report
  const head = ['', ...rows.map((row) => row.name), 'Culvert / best peer']
  const lines = columnNames.map((column) => {
    const ratio = ratios[column]
    const better = columns[column] === 'more' ? 'more is better' : 'less is better'
    return [
      column,
      ...rows.map((row) => number(row.values[column])),
      ratio === undefined ? '' : `${ratio.toFixed(2)} (${better})`,
    ]
  })
  const widths = head.map((_, i) => Math.max(...[head, ...lines].map((line) => line[i]?.length ?? 0)))
  const text = [head, widths.map((width) => '-'.repeat(width)), ...lines].map((line) =>
    line.map((cell, i) => (i === 0 ? cell.padEnd(widths[i] ?? 0) : cell.padStart(widths[i] ?? 0))).join('  '),
  )
  const notes = [
    `${machine.cores} x ${machine.cpu}, Linux ${machine.kernel}; load ${load[0].toFixed(2)} before, ${load[1].toFixed(2)} after.`,
    `Medians of ${plan.rounds} rounds of ${plan.seconds} s in turns; both ends and iperf3 (-C cubic) on this machine; cable MTU 1500, tunnels 1420.`,
    `"tunnel" is the CPU time of the tunnel's two processes, "machine" all that was used meanwhile; the bare cable's RTT is ${report.bare.toFixed(3)} ms.`,
    ...rows.slice(1).map((row) => `${row.name} ${row.version}`),
    ...left.map((why) => `Left out: ${why}.`),
  ]
  return `${text.join('\n')}\n\n${notes.join('\n')}\n`
}

/** Three digits that count. */
function number(value: number): string {
  if (!Number.isFinite(value)) return '-'
  return value >= 1000 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)))
}
