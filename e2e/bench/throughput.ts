/**
 * `npm run bench -- throughput`: every tunnel in the same two hosts in the same run, in turns: a round measures each contender once,
 * and the order of a round is the last one's moved on by one, so that nobody always follows the same neighbour. Medians over rounds.
 */
import { readFileSync } from 'node:fs'
import { rm } from 'node:fs/promises'
import { cpus, loadavg, release } from 'node:os'
import { Host, join, labFolder } from '../lab/host.ts'
import { startContenders, type Arena, type Contender } from './contender.ts'
import { flow, roundTrip, roundTripUnderLoad, smallPackets, trouble } from './measure.ts'

export interface Plan {
  readonly rounds: number
  /** Of each measurement. */
  readonly seconds: number
}

/** What was measured, medians over the rounds. Units are in the names of `columns`. */
export interface Row {
  readonly name: string
  readonly version: string
  readonly values: Readonly<Record<Column, number>>
}

export interface Report {
  readonly machine: { readonly cpu: string; readonly cores: number; readonly kernel: string }
  /** Load averages over one minute, before and after. */
  readonly load: readonly [number, number]
  readonly plan: Plan
  /** Round trip of the bare cable, ms. */
  readonly bare: number
  readonly rows: readonly Row[]
  /** Culvert's value through the best peer's; for times and costs, below 1 is better. Empty without peers. */
  readonly ratios: Readonly<Partial<Record<Column, number>>>
  readonly left: readonly string[]
}

/** What there is to measure, and which way is better. */
export const columns = {
  'up, Gbit/s': 'more',
  'down, Gbit/s': 'more',
  'tunnel core-s/Gbit': 'less',
  'machine core-s/Gbit': 'less',
  'RTT idle, ms': 'less',
  'RTT 8 flows, ms': 'less',
  'worst RTT 8 flows, ms': 'less',
  '64 B packets/s': 'more',
  '64 B lost, %': 'less',
  'TCP retransmits': 'less',
  'dropped by interfaces': 'less',
  'bad checksums': 'less',
} as const
export type Column = keyof typeof columns

/** Measures. `say` hears one line for each contender of each round. */
export async function throughput(plan: Plan, say: (line: string) => void): Promise<Report> {
  await using stack = new AsyncDisposableStack()
  const arena: Arena = {
    client: stack.use(await Host.open('client')),
    server: stack.use(await Host.open('server')),
    folder: labFolder(),
  }
  stack.defer(() => rm(arena.folder, { recursive: true, force: true }))
  await join(
    { host: arena.client, name: 'eth0', addresses: ['192.0.2.1/24'] },
    { host: arena.server, name: 'eth0', addresses: ['192.0.2.2/24'] },
  )
  const { contenders, left } = await startContenders(arena)
  await arena.server.start(['iperf3', '-s', '--forceflush']).says(/listening/i, 10_000)
  const before = load()
  const bare = await roundTrip(arena, '192.0.2.2', 1)
  for (const { address } of contenders) await roundTrip(arena, address, 1) // handshake and warm-up
  const samples = new Map<Contender, Record<Column, number>[]>(contenders.map((contender) => [contender, []]))
  for (let round = 0; round < plan.rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const contender = contenders[(round + turn) % contenders.length]
      if (contender === undefined) continue
      const sample = await measure(arena, contender, plan)
      samples.get(contender)?.push(sample)
      const [up, down] = [sample['up, Gbit/s'], sample['down, Gbit/s']].map((gbits) => gbits.toFixed(2))
      say(`round ${round + 1} of ${plan.rounds}: ${contender.name} up ${up}, down ${down} Gbit/s`)
    }
  }
  const rows = contenders.map(({ name, version, ...contender }, i) => ({
    name,
    version,
    values: medians(samples.get(contenders[i] ?? { name, version, ...contender }) ?? []),
  }))
  return {
    machine: { cpu: cpus()[0]?.model ?? 'unknown', cores: cpus().length, kernel: release() },
    load: [before, load()],
    plan,
    bare: bare.average,
    rows,
    ratios: ratiosOf(rows),
    left,
  }
}

/** Culvert's number through that of the best of the others, column by column, where both have one above 0. */
export function ratiosOf(rows: readonly Row[]): Report['ratios'] {
  const [own, ...others] = rows
  if (own === undefined || others.length === 0) return {}
  const ratios: Partial<Record<Column, number>> = {}
  for (const column of columnNames) {
    const values = others.map((row) => row.values[column])
    const best = columns[column] === 'more' ? Math.max(...values) : Math.min(...values)
    if (best > 0) ratios[column] = own.values[column] / best
  }
  return ratios
}

/** The middle of each column; of an even number, the mean of the two in the middle. */
export function medians(
  samples: readonly Readonly<Record<Column, number>>[],
): Readonly<Record<Column, number>> {
  const of = (column: Column) => {
    const sorted = samples.map((sample) => sample[column]).sort((a, b) => a - b)
    const middle = (sorted.length - 1) / 2
    return ((sorted[Math.floor(middle)] ?? NaN) + (sorted[Math.ceil(middle)] ?? NaN)) / 2
  }
  // Every column is in the list, so the record is whole.
  return Object.fromEntries(columnNames.map((column) => [column, of(column)])) as Record<Column, number>
}

async function measure(arena: Arena, contender: Contender, plan: Plan): Promise<Record<Column, number>> {
  const idle = await roundTrip(arena, contender.address, Math.min(plan.seconds, 3))
  const before = await trouble(arena, contender)
  const up = await flow(arena, contender, 'up', plan.seconds)
  const down = await flow(arena, contender, 'down', plan.seconds)
  const after = await trouble(arena, contender)
  const loaded = await roundTripUnderLoad(arena, contender, plan.seconds)
  const small = await smallPackets(arena, contender, plan.seconds)
  return {
    'up, Gbit/s': up.gbits,
    'down, Gbit/s': down.gbits,
    'tunnel core-s/Gbit': (up.tunnelCpu + down.tunnelCpu) / 2,
    'machine core-s/Gbit': (up.machineCpu + down.machineCpu) / 2,
    'RTT idle, ms': idle.average,
    'RTT 8 flows, ms': loaded.average,
    'worst RTT 8 flows, ms': loaded.worst,
    '64 B packets/s': small.received,
    '64 B lost, %': small.lost * 100,
    'TCP retransmits': up.retransmits + down.retransmits,
    'dropped by interfaces': after.dropped - before.dropped,
    'bad checksums': after.badChecksums - before.badChecksums,
  }
}

/** Not os.loadavg(): the number of the kernel, also inside a container that shows another. */
function load(): number {
  return Number(readFileSync('/proc/loadavg', 'utf8').split(' ')[0] ?? loadavg()[0])
}

// The keys of a constant of ours.
export const columnNames = Object.keys(columns) as readonly Column[]
