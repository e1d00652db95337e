/** Round-trip times by ping(8), 20 a second. */
import type { Host } from '../lab/host.ts'

/** Round-trip times in milliseconds. */
export interface RoundTrips {
  readonly min: number
  readonly average: number
  readonly max: number
  /** Echoes that did not come back. */
  readonly lost: number
}

/** Sends echoes for `seconds` and waits for the last. @throws Error when none came back. */
export async function ping(host: Host, address: string, seconds: number): Promise<RoundTrips> {
  const count = Math.max(1, Math.round(seconds / INTERVAL))
  const argv = ['ping', '-q', '-n', '-i', `${INTERVAL}`, '-c', `${count}`, '-W', '2', address]
  const { stdout, stderr } = await host.exec(argv, { timeout: seconds * 1000 + GRACE })
  return parsePing(stdout || stderr)
}

/** The two last lines of iputils' ping. @throws Error when no echo came back. */
export function parsePing(text: string): RoundTrips {
  const counts = /(\d+) packets transmitted, (\d+) received/.exec(text)
  const times = /^rtt min\/avg\/max\/mdev = ([\d.]+)\/([\d.]+)\/([\d.]+)\//m.exec(text)
  if (counts === null || times === null)
    throw new Error(`no echo came back: ${text.trim().split('\n').at(-1) ?? ''}`)
  const [sent, received] = [Number(counts[1]), Number(counts[2])]
  const [min = NaN, average = NaN, max = NaN] = times.slice(1).map(Number)
  return { min, average, max, lost: sent - received }
}

/** Seconds between two echoes: less than 0.2 needs root. */
const INTERVAL = 0.05
/** Milliseconds that the last echo may take. */
const GRACE = 15_000
