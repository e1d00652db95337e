/**
 * Links, addresses, routes and rules, through iproute2: changes as one `ip -batch`, facts as `ip -json`.
 * Whoever calls keeps the journal; nothing here remembers.
 */
import {
  parseCidr,
  parseInterfaceAddress,
  parseIp,
  type Cidr,
  type Family,
  type InterfaceAddress,
  type IpAddress,
} from '../address.ts'
import { TunnelError } from '../error.ts'
import type { Run } from './run.ts'

/** A link as the kernel has it. */
export interface Link {
  readonly name: string
  readonly index: number
  readonly mtu: number
  readonly up: boolean
  readonly addresses: readonly InterfaceAddress[]
}

/** A route. `device` and `gateway` are null where it has none (`unreachable`). */
export interface Route {
  readonly destination: Cidr
  readonly kind: 'unicast' | 'unreachable'
  readonly device: string | null
  readonly gateway: IpAddress | null
  readonly metric: number | null
}

/** What the kernel would do with a packet to an address: ip-route(8) `get`. */
export interface RouteLookup {
  readonly device: string
  readonly gateway: IpAddress | null
  readonly source: IpAddress | null
  /** The MTU that the route itself names, in bytes; null: its link's. */
  readonly mtu: number | null
}

/** A policy rule, as far as we use them. */
export interface Rule {
  readonly priority: number
  /** As ip(8) prints it: a number, or a name such as `main`. */
  readonly table: string
  /** The mark that it asks for, or for the lack of (`inverted`); null: none. */
  readonly fwmark: number | null
  readonly inverted: boolean
  /** Routes with a prefix this short or shorter are passed over; null: none are. */
  readonly suppressPrefixLength: number | null
}

/**
 * Runs lines of ip(8)'s batch language in order; the first that fails ends it and names itself. The family is for lines that
 * name no address, like a rule's.
 */
export async function ipBatch(run: Run, lines: readonly string[], family?: Family): Promise<void> {
  if (lines.length === 0) return
  const argv: readonly [string, ...string[]] =
    family === undefined ? ['ip', '-batch', '-'] : ['ip', `-${family}`, '-batch', '-']
  await run(argv, { input: `${lines.join('\n')}\n` })
}

/** Every link with its addresses. */
export async function links(run: Run): Promise<readonly Link[]> {
  const rows = json(await run(['ip', '-json', 'address', 'show']), 'ip address')
  return rows.map((row) => ({
    name: text(row['ifname']),
    index: number(row['ifindex']),
    mtu: number(row['mtu']),
    up: Array.isArray(row['flags']) && row['flags'].includes('UP'),
    addresses: objects(row['addr_info']).map((info) =>
      parseInterfaceAddress(`${text(info['local'])}/${number(info['prefixlen'])}`),
    ),
  }))
}

/** The link of that name, or null. */
export async function link(run: Run, name: string): Promise<Link | null> {
  return (await links(run)).find((found) => found.name === name) ?? null
}

/** The routes of one table; none when the table does not exist. */
export async function routes(run: Run, family: Family, table: number | 'main'): Promise<readonly Route[]> {
  let output: string
  try {
    output = await run(['ip', `-${family}`, '-json', 'route', 'show', 'table', `${table}`])
  } catch (error) {
    // "FIB table does not exist": what ip says of a table that no route was ever put into.
    if (error instanceof TunnelError && /table does not exist/i.test(error.message)) return []
    throw error
  }
  return json(output, 'ip route').map((row) => ({
    destination: row['dst'] === 'default' ? defaultRoutes[family] : parseCidr(text(row['dst'])),
    kind: row['type'] === 'unreachable' ? 'unreachable' : 'unicast',
    device: row['dev'] === undefined ? null : text(row['dev']),
    gateway: row['gateway'] === undefined ? null : parseIp(text(row['gateway'])),
    metric: row['metric'] === undefined ? null : number(row['metric']),
  }))
}

/** The priorities of the policy rules of a family, in order. */
export async function rulePriorities(run: Run, family: Family): Promise<readonly number[]> {
  return (await rules(run, family)).map((rule) => rule.priority)
}

/** The policy rules of a family, in order. */
export async function rules(run: Run, family: Family): Promise<readonly Rule[]> {
  const rows = json(await run(['ip', `-${family}`, '-json', 'rule', 'show']), 'ip rule')
  return rows.map((row) => ({
    priority: number(row['priority']),
    table: text(row['table']),
    fwmark: row['fwmark'] === undefined ? null : Number(row['fwmark']),
    // ip prints the key alone, with no value.
    inverted: 'not' in row,
    suppressPrefixLength: row['suppress_prefixlen'] === undefined ? null : number(row['suppress_prefixlen']),
  }))
}

/** Asks the kernel where a packet with that mark would go; null: nowhere. Sends nothing. */
export async function lookup(run: Run, address: IpAddress, mark: number): Promise<RouteLookup | null> {
  const argv = ['ip', '-json', 'route', 'get', address] as const
  let output: string
  try {
    output = await run(mark === 0 ? [...argv] : [...argv, 'mark', `${mark}`])
  } catch (error) {
    if (error instanceof TunnelError && error.code === 'command-failed') return null
    throw error
  }
  const row = json(output, 'ip route get')[0]
  if (row === undefined || row['dev'] === undefined) return null
  return {
    device: text(row['dev']),
    gateway: row['gateway'] === undefined ? null : parseIp(text(row['gateway'])),
    source: row['prefsrc'] === undefined ? null : parseIp(text(row['prefsrc'])),
    mtu: objects(row['metrics']).map((metrics) => number(metrics['mtu']))[0] || null,
  }
}

/** `0.0.0.0/0` and `::/0`. */
export const defaultRoutes: Readonly<Record<Family, Cidr>> = {
  4: parseCidr('0.0.0.0/0'),
  6: parseCidr('::/0'),
}

type Row = Readonly<Record<string, unknown>>

function json(output: string, what: string): readonly Row[] {
  try {
    return objects(output.trim() === '' ? [] : JSON.parse(output))
  } catch (cause) {
    throw new TunnelError('command-failed', `"${what}" printed something that is not JSON`, { cause })
  }
}

function objects(value: unknown): readonly Row[] {
  if (!Array.isArray(value)) return []
  // ip prints an empty object for what its filter left out.
  return value.filter(
    (row): row is Row => typeof row === 'object' && row !== null && Object.keys(row).length > 0,
  )
}

function text(value: unknown): string {
  return typeof value === 'string' ? value : ''
}

function number(value: unknown): number {
  return typeof value === 'number' ? value : 0
}
