/** The measurements, each one run of one thing. Bits are of the inner TCP stream, as iperf3's receiver counts them. */
import { readFileSync } from 'node:fs'
import type { Arena, Contender } from './contender.ts'

/** One TCP flow. */
export interface Flow {
  /** Gbit/s received. */
  readonly gbits: number
  /** Core-seconds for each Gbit: of the tunnel's two processes, and of the whole machine, iperf3 and interrupts included. */
  readonly tunnelCpu: number
  readonly machineCpu: number
  readonly retransmits: number
}

/** Round-trip times in milliseconds. */
export interface RoundTrip {
  readonly average: number
  readonly worst: number
  /** Of the echoes. */
  readonly lost: number
}

/** Datagrams of 64 bytes, as fast as they go. */
export interface Packets {
  readonly received: number
  /** Of those sent, 0 to 1. */
  readonly lost: number
}

/** One TCP flow for `seconds`, up (client to server) or down. */
export async function flow(arena: Arena, to: Contender, way: 'up' | 'down', seconds: number): Promise<Flow> {
  const before = cpu(to)
  const argv = [
    'iperf3',
    '-J',
    '-C',
    'cubic',
    '-c',
    to.address,
    '-t',
    `${seconds}`,
    ...(way === 'down' ? ['-R'] : []),
  ]
  const { end } = parse(await arena.client.run(argv, { timeout: (seconds + 30) * 1000 }))
  const after = cpu(to)
  const gbit = (end.sum_received?.bytes ?? 0) * 8e-9
  return {
    gbits: gbit / (end.sum_received?.seconds ?? seconds),
    tunnelCpu: (after.tunnel - before.tunnel) / gbit,
    machineCpu: (after.machine - before.machine) / gbit,
    retransmits: end.sum_sent?.retransmits ?? 0,
  }
}

/** Round trips of an address, 20 ms apart. */
export async function roundTrip(arena: Arena, address: string, seconds: number): Promise<RoundTrip> {
  const argv = ['ping', '-q', '-n', '-i', '0.02', '-w', `${seconds}`, address]
  const { stdout } = await arena.client.exec(argv, { timeout: (seconds + 30) * 1000 })
  const [, average, worst] = /= [\d.]+\/([\d.]+)\/([\d.]+)\//.exec(stdout) ?? []
  const lost = /([\d.]+)% packet loss/.exec(stdout)?.[1]
  return { average: Number(average), worst: Number(worst), lost: Number(lost) / 100 }
}

/** Round trips while eight TCP flows fill the tunnel. */
export async function roundTripUnderLoad(arena: Arena, to: Contender, seconds: number): Promise<RoundTrip> {
  // A second more at each end, so that the echoes see nothing but load.
  const argv = ['iperf3', '-J', '-C', 'cubic', '-P', '8', '-c', to.address, '-t', `${seconds + 2}`]
  const load = arena.client.run(argv, { timeout: (seconds + 30) * 1000 })
  await new Promise((resolve) => setTimeout(resolve, 1000))
  const measured = await roundTrip(arena, to.address, seconds)
  await load
  return measured
}

/** 64-byte UDP datagrams from client to server, unthrottled. */
export async function smallPackets(arena: Arena, to: Contender, seconds: number): Promise<Packets> {
  const argv = ['iperf3', '-J', '-u', '-l', '64', '-b', '0', '-c', to.address, '-t', `${seconds}`]
  const { end } = parse(await arena.client.run(argv, { timeout: (seconds + 30) * 1000 }))
  const { packets = 0, lost_packets: lost = 0, seconds: took = seconds } = end.sum ?? {}
  return { received: (packets - lost) / took, lost: lost / Math.max(packets, 1) }
}

/** Counters that would explain a bad number: what interfaces dropped, and checksums that were wrong. */
export interface Trouble {
  readonly dropped: number
  readonly badChecksums: number
}

export async function trouble(arena: Arena, contender: Contender): Promise<Trouble> {
  let [dropped, badChecksums] = [0, 0]
  for (const host of [arena.client, arena.server]) {
    const folder = `/sys/class/net/${contender.device}/statistics`
    const drops = await host.run(['cat', `${folder}/rx_dropped`, `${folder}/tx_dropped`])
    dropped += drops.split('\n').reduce((sum, line) => sum + Number(line), 0)
    const counters =
      readFileSync(`/proc/${host.pid}/net/snmp`, 'utf8') +
      readFileSync(`/proc/${host.pid}/net/netstat`, 'utf8')
    badChecksums += checksumErrors(counters)
  }
  return { dropped, badChecksums }
}

/** The sum of every `*CsumErrors` in /proc/net/snmp and netstat, whose lines come in pairs: names, values. */
export function checksumErrors(counters: string): number {
  const lines = counters.split('\n')
  let sum = 0
  for (let i = 0; i + 1 < lines.length; i += 2) {
    const [names, values] = [lines[i]?.split(' ') ?? [], lines[i + 1]?.split(' ') ?? []]
    for (const [j, name] of names.entries()) if (name.endsWith('CsumErrors')) sum += Number(values[j])
  }
  return sum
}

/** Seconds of CPU used so far: by the contender's processes with all their threads, and by everything. */
function cpu(contender: Contender): { tunnel: number; machine: number } {
  let ticks = 0
  for (const { pid } of contender.programs) {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
    // Behind the name, which may hold anything: state is field 3; utime and stime are 14 and 15 (proc(5)).
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ')
    ticks += Number(fields[11]) + Number(fields[12])
  }
  const [, ...all] = readFileSync('/proc/stat', 'utf8').split('\n')[0]?.split(/\s+/) ?? []
  // user nice system (idle iowait) irq softirq
  const busy = [0, 1, 2, 5, 6].reduce((sum, i) => sum + Number(all[i]), 0)
  return { tunnel: ticks / TICKS, machine: busy / TICKS }
}

interface Sum {
  readonly bytes?: number
  readonly seconds?: number
  readonly retransmits?: number
  readonly packets?: number
  readonly lost_packets?: number
}

/** What we read of iperf3's answer. @throws Error with iperf3's own sentence. */
function parse(json: string): { end: { sum?: Sum; sum_sent?: Sum; sum_received?: Sum } } {
  // iperf3's own format, of which every field that we read is optional here.
  const answer = JSON.parse(json) as {
    end?: { sum?: Sum; sum_sent?: Sum; sum_received?: Sum }
    error?: string
  }
  if (answer.error !== undefined) throw new Error(`iperf3: ${answer.error}`)
  return { end: answer.end ?? {} }
}

/** USER_HZ, the same on every Linux. */
const TICKS = 100
