/**
 * iperf3 between the two hosts: how it is run and what is read from its JSON. Congestion control is always CUBIC, which
 * a machine may not have as its default; iperf3 tells it to the other end.
 */
import type { Host } from '../lab/host.ts'
import type { Program } from '../lab/program.ts'

/** What TCP flows carried, all together. */
export interface TcpResult {
  /** Payload that arrived, in Gbit. */
  readonly gigabits: number
  /** By the receiver's clock. */
  readonly seconds: number
}

/** Starts the other end on a host, for any number of tests one after another. */
export async function serveIperf(host: Host): Promise<Program> {
  const server = host.start(['iperf3', '--server', '--forceflush'])
  await server.says(/Server listening/, START_TIME)
  return server
}

/**
 * Lets TCP flows run at full speed between a host and the iperf3 at `address`.
 * @param direction `forward`: away from this host; `backward`: towards it.
 */
export async function tcp(
  host: Host,
  address: string,
  seconds: number,
  direction: 'forward' | 'backward' = 'forward',
  flows = 1,
): Promise<TcpResult> {
  const reverse = direction === 'backward' ? ['--reverse'] : []
  const count = ['--parallel', `${flows}`, '--congestion', 'cubic']
  return parseTcp(await iperf(host, address, seconds, [...count, ...reverse]))
}

/**
 * Sends single UDP datagrams of 64 bytes as fast as iperf3 can, and gives how many seconds it did. What becomes of them
 * others count.
 */
export async function smallPackets(host: Host, address: string, seconds: number): Promise<number> {
  const load = ['--udp', '--length', `${SMALL_PACKET}`, '--bandwidth', '0']
  return parseSeconds(await iperf(host, address, seconds, load))
}

/** The totals of a test over TCP, from iperf3's JSON. @throws Error with iperf3's own words when the test failed. */
export function parseTcp(json: string): TcpResult {
  const end = parseEnd(json)
  const { bytes, seconds } = record(end['sum_received'])
  if (typeof bytes !== 'number' || typeof seconds !== 'number') throw new Error('iperf3 gave no totals')
  for (const side of ['sender_tcp_congestion', 'receiver_tcp_congestion']) {
    const used = end[side]
    if (used !== undefined && used !== 'cubic')
      throw new Error(`iperf3 used ${JSON.stringify(used)} where CUBIC was asked for`)
  }
  return { gigabits: (bytes * 8) / 1e9, seconds }
}

/** How long a test sent, in seconds. @throws Error as `parseTcp` does. */
export function parseSeconds(json: string): number {
  const { seconds } = record(parseEnd(json)['sum_sent'])
  if (typeof seconds !== 'number') throw new Error('iperf3 gave no totals')
  return seconds
}

function parseEnd(json: string): Readonly<Record<string, unknown>> {
  let said: Readonly<Record<string, unknown>>
  try {
    said = record(JSON.parse(json))
  } catch (cause) {
    throw new Error(`iperf3 gave no JSON: ${json.slice(0, 200)}`, { cause })
  }
  if (typeof said['error'] === 'string') throw new Error(`iperf3: ${said['error']}`)
  return record(said['end'])
}

async function iperf(
  host: Host,
  address: string,
  seconds: number,
  options: readonly string[],
): Promise<string> {
  const fixed = ['iperf3', '--client', address, '--time', `${seconds}`, '--json', '--connect-timeout', '5000']
  const { stdout, stderr } = await host.exec([...fixed, ...options], { timeout: seconds * 1000 + GRACE })
  return stdout || stderr
}

function record(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {} // both are checked
}

/** Where iperf3 listens, on TCP for its own words and on what the test uses. */
export const IPERF_PORT = 5201
/** Payload of a small packet, in bytes. */
export const SMALL_PACKET = 64

const START_TIME = 15_000
/** For connecting and for exchanging results, in milliseconds. */
const GRACE = 30_000
