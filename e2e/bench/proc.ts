/**
 * What the kernel counts, read from /proc: the CPU time of programs and of the machine, and the counters of a network
 * namespace, which /proc/PID/net shows from outside. All are totals: whoever measures takes the difference of two.
 */
import { readFileSync } from 'node:fs'

/** CPU time so far, in core-seconds. */
export interface CpuTime {
  /** Of the programs, all their threads. What the kernel does for them in softirq is theirs where it runs in their time. */
  readonly programs: number
  /** Of the whole machine: everything but idle, waiting for a disk, and what the hypervisor took. */
  readonly machine: number
}

/** CPU time of the programs with these pids, and of the machine. @throws Error when one has ended. */
export function cpuTime(pids: readonly number[]): CpuTime {
  const programs = pids.map((pid) => parsePidStat(readFileSync(`/proc/${pid}/stat`, 'utf8')))
  return {
    programs: programs.reduce((sum, time) => sum + time, 0),
    machine: parseStat(readFileSync('/proc/stat', 'utf8')),
  }
}

/** Counters of a network namespace that tell whether a measurement was sound. */
export interface NetCounters {
  /** Of the device. */
  readonly rxBytes: number
  readonly rxPackets: number
  readonly txPackets: number
  /** Packets that the device had no room for, or that its reader never took. */
  readonly txDropped: number
  readonly rxDropped: number
  /** Checksum errors of IP, ICMP, TCP and UDP: a tunnel that writes bad packets looks like a lossy network. */
  readonly checksumErrors: number
  readonly retransmits: number
}

/** Counters of the network namespace of process `pid`, and of a device in it. @throws Error when there is no such device. */
export function netCounters(pid: number, device: string): NetCounters {
  const [devices, snmp, netstat] = ['dev', 'snmp', 'netstat'].map((file) =>
    readFileSync(`/proc/${pid}/net/${file}`, 'utf8'),
  )
  return parseNetCounters(devices ?? '', `${snmp ?? ''}${netstat ?? ''}`, device)
}

/** /proc/PID/stat (proc(5)): user and system time of all threads, in seconds. @throws Error on anything else. */
export function parsePidStat(text: string): number {
  // The second field is the program's name, in which there may be blanks and parentheses.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ')
  const [user, system] = [Number(fields[11]), Number(fields[12])]
  const seconds = (user + system) / TICKS
  if (Number.isNaN(seconds)) throw new Error('this is not a /proc/PID/stat')
  return seconds
}

/** The first line of /proc/stat: the machine's busy time, in core-seconds. @throws Error on anything else. */
export function parseStat(text: string): number {
  const [name, ...fields] = text.split('\n', 1)[0]?.split(/\s+/) ?? []
  // guest and guest_nice, which follow, are in user and nice already.
  const [user, nice, system, , , irq, softirq] = fields.map(Number)
  const ticks = [user, nice, system, irq, softirq].reduce<number>((sum, time) => sum + (time ?? NaN), 0)
  if (name !== 'cpu' || Number.isNaN(ticks)) throw new Error('this is not a /proc/stat')
  return ticks / TICKS
}

/** @param protocols /proc/net/snmp and /proc/net/netstat: a line of names, then one of numbers, for each protocol. */
export function parseNetCounters(devices: string, protocols: string, device: string): NetCounters {
  const line = devices.split('\n').find((line) => line.trim().startsWith(`${device}:`))
  if (line === undefined) throw new Error(`there is no device ${device}`)
  const fields = line
    .slice(line.indexOf(':') + 1)
    .trim()
    .split(/\s+/)
    .map(Number)
  const [rxBytes = 0, rxPackets = 0, , rxDropped = 0, , , , , , txPackets = 0, , txDropped = 0] = fields
  const counts = parseProtocols(protocols)
  const sum = (...names: readonly string[]) => names.reduce((sum, name) => sum + (counts.get(name) ?? 0), 0)
  return {
    rxBytes,
    rxPackets,
    txPackets,
    txDropped,
    rxDropped,
    checksumErrors: sum('IpExt.InCsumErrors', 'Icmp.InCsumErrors', 'Tcp.InCsumErrors', 'Udp.InCsumErrors'),
    retransmits: sum('Tcp.RetransSegs'),
  }
}

/** What was counted between two readings. */
export function since<T extends Readonly<Record<keyof T, number>>>(before: T, after: T): T {
  return combine(before, after, (before, after) => after - before)
}

/** Two readings added up. */
export function total<T extends Readonly<Record<keyof T, number>>>(one: T, other: T): T {
  return combine(one, other, (one, other) => one + other)
}

function combine<T extends Readonly<Record<keyof T, number>>>(
  one: T,
  other: T,
  operator: (one: number, other: number) => number,
): T {
  const names = Object.keys(one) as (keyof T)[] // of a plain record
  // Every field of T is a number, and each is there.
  return Object.fromEntries(names.map((name) => [name, operator(one[name], other[name])])) as unknown as T
}

function parseProtocols(text: string): ReadonlyMap<string, number> {
  const lines = text.split('\n').map((line) => line.split(/:? /))
  const counts = new Map<string, number>()
  for (const [i, [protocol, ...values]] of lines.entries()) {
    const [above, ...names] = lines[i - 1] ?? []
    if (protocol === undefined || protocol !== above || Number.isNaN(Number(values[0]))) continue
    for (const [j, value] of values.entries()) counts.set(`${protocol}.${names[j]}`, Number(value))
  }
  return counts
}

/** USER_HZ, in which /proc counts time: 100 on every architecture of ours, whatever the kernel's own HZ. */
const TICKS = 100
