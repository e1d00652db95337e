/** What the command line says of causes and numbers, in one place. */
import type { FailCause } from '../contract/index.ts'

/** One clause for each cause. */
export const causeWords: Readonly<Record<FailCause, string>> = {
  'no-endpoint': 'the profile does not say where its server is',
  'endpoint-unresolved': "the server's name could not be resolved",
  offline: 'there is no route to the server',
  'no-answer': 'the server does not answer',
  'tunnel-failed': 'the tunnel could not be opened',
  'host-failed': 'the network of this machine could not be set',
}

/** Bytes as people read them: 1.4 MiB. */
export function formatBytes(bytes: number): string {
  let value = bytes
  for (const unit of ['B', 'KiB', 'MiB', 'GiB']) {
    if (value < 1024) return `${unit === 'B' ? value : value.toFixed(1)} ${unit}`
    value /= 1024
  }
  return `${value.toFixed(1)} TiB`
}

/** Milliseconds as people read them: 12 s, 5 min, 3 h 20 min, 2 d 4 h. */
export function formatAge(milliseconds: number): string {
  const seconds = Math.max(0, Math.floor(milliseconds / 1000))
  const minutes = Math.floor(seconds / 60)
  const hours = Math.floor(minutes / 60)
  if (minutes === 0) return `${seconds} s`
  if (hours === 0) return `${minutes} min`
  if (hours < 24) return `${hours} h ${minutes % 60} min`
  return `${Math.floor(hours / 24)} d ${hours % 24} h`
}

/** Rows as columns two spaces apart. */
export function formatTable(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>(
    (widths, row) => row.map((cell, i) => Math.max(cell.length, widths[i] ?? 0)),
    [],
  )
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

/** JSON for people and programs. */
export function printJson(value: unknown): void {
  console.log(JSON.stringify(value, null, 2))
}
