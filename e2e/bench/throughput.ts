/**
 * `npm run bench -- throughput`: every tunnel in the same lab in the same run, in turns. In each round each contender gets two fresh
 * hosts, its tunnel is up only while it is measured, and the order moves on by one from round to round, so that nobody
 * always follows the same neighbour.
 *
 *   idle ping ─▶ TCP there ─▶ TCP back ─▶ 8 TCP flows and ping ─▶ 64-byte UDP        for each contender, in each round
 */
import { arch, cpus, loadavg, release } from 'node:os'
import { pause } from '../lab/program.ts'
import type { Contender } from './contender.ts'
import { IPERF_PORT, serveIperf, SMALL_PACKET, smallPackets, tcp } from './iperf.ts'
import { metrics, type MetricId, type Sample } from './metric.ts'
import { openPair, type OpenTunnel, type Pair } from './pair.ts'
import { ping } from './ping.ts'
import { cpuTime, netCounters, since, total, type CpuTime, type NetCounters } from './proc.ts'
import { againstBest, spread, type Spread } from './statistics.ts'

export interface ThroughputOptions {
  readonly rounds: number
  /** Of one measurement; a contender takes about four times as long in a round. */
  readonly seconds: number
  /** Hears a line after each contender of each round. */
  onProgress(line: string): void
}

export interface ThroughputReport {
  readonly benchmark: 'throughput'
  readonly machine: {
    readonly cpu: string
    readonly cores: number
    readonly kernel: string
    /** Load averages over one minute. */
    readonly loadBefore: number
    readonly loadAfter: number
  }
  readonly rounds: number
  readonly seconds: number
  readonly contenders: readonly Result[]
  /** Of Culvert to the best peer; over 1 is better. */
  readonly ratios: Readonly<Partial<Record<MetricId, { readonly against: string; readonly ratio: number }>>>
  /** A sentence for each contender that was left out, and for each round that one did not get through. */
  readonly remarks: readonly string[]
}

/** What one contender did. */
export interface Result {
  readonly name: string
  readonly version: string
  readonly role: Contender['role']
  readonly summary: Readonly<Partial<Record<MetricId, Spread>>>
  readonly samples: readonly Sample[]
}

/** Measures the contenders in turns. Whoever fails in a round is remarked on and has one sample less. */
export async function measureThroughput(
  contenders: readonly Contender[],
  options: ThroughputOptions,
): Promise<ThroughputReport> {
  const loadBefore = load()
  const remarks: string[] = []
  const samples = new Map<Contender, Sample[]>(contenders.map((contender) => [contender, []]))
  for (let round = 0; round < options.rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const contender = contenders[(round + turn) % contenders.length]
      if (contender === undefined) continue
      const place = `round ${round + 1} of ${options.rounds}, ${contender.name}`
      try {
        const sample = await measure(contender, options.seconds)
        samples.get(contender)?.push(sample)
        options.onProgress(`${place}: ${glance(sample)}`)
      } catch (error) {
        const remark = `${place}: ${sentence(error)}`
        remarks.push(remark)
        options.onProgress(remark)
      }
    }
  }
  const results = [...samples].map(([contender, samples]) => resultOf(contender, samples))
  return {
    benchmark: 'throughput',
    machine: {
      cpu: cpus()[0]?.model ?? arch(),
      cores: cpus().length,
      kernel: release(),
      loadBefore,
      loadAfter: load(),
    },
    rounds: options.rounds,
    seconds: options.seconds,
    contenders: results,
    ratios: ratiosOf(results),
    remarks,
  }
}

/** One contender's samples and what they amount to. */
export function resultOf(
  { name, version, role }: Pick<Contender, 'name' | 'version' | 'role'>,
  samples: readonly Sample[],
): Result {
  const summary = metrics.flatMap(({ id }) => {
    const values = spread(samples.map((sample) => sample[id]).filter((value) => value !== undefined))
    return values === null ? [] : [[id, values] as const]
  })
  return { name, version, role, summary: Object.fromEntries(summary), samples }
}

/** Culvert's median through the best peer's, metric by metric. Empty when one of the two is not there. */
export function ratiosOf(results: readonly Result[]): ThroughputReport['ratios'] {
  const own = results.find(({ role }) => role === 'ours')
  const peers = results.filter(({ role }) => role === 'peer')
  const ratios = metrics.flatMap(({ id, better }) => {
    const median = own?.summary[id]?.median
    if (better === null || median === undefined) return []
    const standings = peers.flatMap(({ name, summary }) =>
      summary[id] === undefined ? [] : [{ name, median: summary[id].median }],
    )
    const ratio = againstBest(median, standings, better)
    return ratio === null ? [] : [[id, ratio] as const]
  })
  return Object.fromEntries(ratios)
}

async function measure(contender: Contender, seconds: number): Promise<Sample> {
  const loadNow = load()
  await using pair = await openPair()
  await using tunnel = await contender.open(pair)
  await serveIperf(pair.far.host) // it ends with its host
  const { host } = pair.near
  await ping(host, tunnel.address, WARM_UP) // the handshake is not what is measured
  const idle = await ping(host, tunnel.address, Math.min(seconds, IDLE))
  const before = bothCounters(pair, tunnel)
  const forward = await metered(tunnel, () => tcp(host, tunnel.address, seconds))
  const backward = await metered(tunnel, () => tcp(host, tunnel.address, seconds, 'backward'))
  const loaded = await underLoad(pair, tunnel, seconds)
  const counted = since(before, bothCounters(pair, tunnel))
  const small = await metered(tunnel, () => flood(pair, tunnel, seconds))
  const gigabits = forward.result.gigabits + backward.result.gigabits
  const cpu = (kind: keyof CpuTime) => (forward.cpu[kind] + backward.cpu[kind]) / gigabits
  return {
    tcpForward: forward.result.gigabits / forward.result.seconds,
    tcpBackward: backward.result.gigabits / backward.result.seconds,
    cpuMachine: cpu('machine'),
    rttIdleMin: idle.min,
    rttIdle: idle.average,
    rttIdleMax: idle.max,
    ...loaded,
    smallPackets: small.result.arrived / small.result.seconds / 1000,
    smallPacketsOffered: small.result.offered / small.result.seconds / 1000,
    ...(tunnel.programs.length > 0 && {
      cpuTunnel: cpu('programs'),
      smallPacketCpu: (small.cpu.programs / small.result.arrived) * 1e6,
    }),
    tunDrops: counted.rxDropped + counted.txDropped,
    retransmits: counted.retransmits,
    checksumErrors: counted.checksumErrors,
    load: loadNow,
  }
}

/** Round trips while eight flows fill the tunnel, half a second after they began until they end. */
async function underLoad({ near }: Pair, { address }: OpenTunnel, seconds: number): Promise<Sample> {
  const [flows, echoes] = await Promise.all([
    tcp(near.host, address, seconds + 1, 'forward', 8),
    pause(HALF_A_SECOND).then(() => ping(near.host, address, seconds)),
  ])
  return { tcpLoaded: flows.gigabits / flows.seconds, rttLoaded: echoes.average, rttLoadedMax: echoes.max }
}

interface Flood {
  readonly offered: number
  readonly arrived: number
  readonly seconds: number
}

/**
 * Sends 64-byte datagrams as fast as iperf3 can and counts what comes out of the device at the far end. iperf3's receiver
 * takes fewer than a good tunnel delivers on a machine whose cores they share, so the far host drops them before they
 * reach it. A device may hand over several as one super-packet with one set of headers: bytes tell how many they were.
 */
async function flood(pair: Pair, tunnel: OpenTunnel, seconds: number): Promise<Flood> {
  await pair.far.host.nft(dropSmallPackets)
  const before = [pair.near, pair.far].map(({ host }) => netCounters(host.pid, tunnel.device))
  const took = await smallPackets(pair.near.host, tunnel.address, seconds)
  const after = [pair.near, pair.far].map(({ host }) => netCounters(host.pid, tunnel.device))
  const [near, far] = before.map((counters, i) => since(counters, after[i] ?? counters))
  if (near === undefined || far === undefined) throw new Error('a host is gone')
  return {
    offered: near.txPackets + near.txDropped,
    arrived: (far.rxBytes - far.rxPackets * tunnel.headers) / SMALL_PACKET,
    seconds: took,
  }
}

/** Runs something and says what CPU time went by. */
async function metered<T>(
  { programs }: OpenTunnel,
  work: () => Promise<T>,
): Promise<{ readonly result: T; readonly cpu: CpuTime }> {
  const pids = programs.map((program) => program.pid)
  const before = cpuTime(pids)
  const result = await work()
  return { result, cpu: since(before, cpuTime(pids)) }
}

function bothCounters({ near, far }: Pair, { device }: OpenTunnel): NetCounters {
  const [one, other] = [near, far].map(({ host }) => netCounters(host.pid, device))
  if (one === undefined || other === undefined) throw new Error('a host is gone')
  return total(one, other)
}

/** What the one who waits wants to know. */
function glance({ tcpForward = NaN, tcpBackward = NaN, cpuTunnel, smallPackets = NaN }: Sample): string {
  const cpu = cpuTunnel === undefined ? '' : `, ${cpuTunnel.toFixed(3)} core-s/Gbit`
  const flows = `${tcpForward.toFixed(2)} and ${tcpBackward.toFixed(2)} Gbit/s`
  return `${flows}${cpu}, ${smallPackets.toFixed(0)} thousand small packets/s`
}

/** What went wrong, on one line. */
function sentence(error: unknown): string {
  const lines = (error instanceof Error ? error.message : String(error))
    .split('\n')
    .map((line) => line.trim())
  return lines.filter(Boolean).join('; ')
}

/** Over one minute. */
function load(): number {
  return loadavg()[0] ?? NaN
}

/** Seconds of echoes before anything is measured. */
const WARM_UP = 0.5
/** Seconds of echoes on an idle tunnel, at most. */
const IDLE = 2
const HALF_A_SECOND = 500

/**
 * The first 64 kB go through: among them is the datagram with which iperf3 opens the test. Not by the length of a
 * packet: a super-packet has another.
 */
const dropSmallPackets = `
table inet flood
delete table inet flood
table inet flood {
  chain arriving {
    type filter hook prerouting priority raw; policy accept;
    udp dport ${IPERF_PORT} quota over 64 kbytes drop
  }
}
`
