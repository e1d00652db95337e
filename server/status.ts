/** What a running server says of itself: its shape on the wire, and as text for a person. */
import { dropReasons } from '@culvert/tunnel'
import { z } from 'zod'

const count = z.number()

/** The answer of `GET /v1/status`, and what `culvert-server status --json` prints. Times are milliseconds since 1970. */
export const statusShape = z.object({
  version: z.string(),
  since: count,
  /** Seconds. */
  uptime: count,
  interface: z.string(),
  port: count,
  /** What clients dial. */
  endpoint: z.string(),
  /** The server's own addresses in the tunnel. */
  addresses: z.array(z.string()),
  /** What the data plane found it may use on this machine. */
  offloads: z.array(z.string()),
  devices: z.array(
    z.object({
      user: z.string(),
      publicKey: z.string(),
      addresses: z.array(z.string()),
      /** Where it last wrote from; null: nowhere yet. */
      endpoint: z.string().nullable(),
      latestHandshake: count.nullable(),
      /** Bytes that came from the device, and bytes that went to it, since it was added. */
      rxBytes: count,
      txBytes: count,
      /** Whether a session can send to it now. */
      alive: z.boolean(),
    }),
  ),
  counters: z.object({
    received: z.object({ datagrams: count, packets: count, bytes: count }),
    sent: z.object({ datagrams: count, packets: count, bytes: count }),
    batched: z.object({ sent: count, received: count }),
    cookies: count,
    dropped: z.record(z.enum(dropReasons), count),
  }),
})

export type Status = z.infer<typeof statusShape>

/** The status as a person reads it. @param now milliseconds since 1970. */
export function formatStatus(status: Status, now: number): string {
  const { version, uptime, port, endpoint, devices, counters } = status
  const dropped = Object.entries(counters.dropped).filter(([, n]) => n > 0)
  return [
    `culvert-server ${version}, up ${duration(uptime)}, UDP port ${port} on ${status.interface}, dialled as ${endpoint}`,
    '',
    ...table([
      ['USER', 'ADDRESSES', 'ENDPOINT', 'HANDSHAKE', 'RECEIVED', 'SENT', 'KEY'],
      ...devices.map((device) => [
        device.user,
        device.addresses.join(' '),
        device.endpoint ?? '-',
        device.latestHandshake === null ? 'never' : `${duration((now - device.latestHandshake) / 1000)} ago`,
        size(device.rxBytes),
        size(device.txBytes),
        `${device.publicKey.slice(0, 8)}…`,
      ]),
    ]),
    '',
    `${devices.length} ${devices.length === 1 ? 'device' : 'devices'}, ${devices.filter(({ alive }) => alive).length} with a session`,
    `datagrams: ${counters.received.datagrams} received, ${counters.sent.datagrams} sent`,
    `dropped: ${dropped.length === 0 ? 'none' : dropped.map(([reason, n]) => `${reason} ${n}`).join(', ')}`,
    '',
  ].join('\n')
}

/** Rows under each other, columns two spaces apart. */
export function table(rows: readonly (readonly string[])[]): readonly string[] {
  const widths = (rows[0] ?? []).map((_, i) => Math.max(...rows.map((row) => row[i]?.length ?? 0)))
  return rows.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i] ?? 0))
      .join('  ')
      .trimEnd(),
  )
}

/** `5 s`, `3 min`, `2 h 5 min`, `4 d 1 h`. */
function duration(seconds: number): string {
  const s = Math.max(0, Math.round(seconds))
  if (s < 60) return `${s} s`
  if (s < 3600) return `${Math.floor(s / 60)} min`
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`
}

/** `17 B`, `1.4 MB`: powers of 1000. */
function size(bytes: number): string {
  let value = bytes
  let unit = 0
  for (; value >= 999.5 && unit < UNITS.length - 1; unit++) value /= 1000
  return `${unit === 0 || value >= 99.95 ? value.toFixed(0) : value.toFixed(1)} ${UNITS[unit]}`
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB']
