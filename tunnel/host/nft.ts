/**
 * nftables: a table as a value, its text, and its replacement in one transaction. A table of ours is only ever replaced
 * whole or deleted, so that no half of a policy is in force, and no rule of anybody else is touched.
 */
import { TunnelError } from '../error.ts'
import type { Run } from './run.ts'

/** One chain: a base chain when it has a `hook`, else one that rules jump to. */
export interface Chain {
  readonly name: string
  readonly hook?: Hook
  /** Statements in nft's language (nft(8)), in order. Built from parsed values only. */
  readonly rules: readonly string[]
}

export interface Hook {
  readonly type: 'filter' | 'nat' | 'route'
  readonly hook: 'prerouting' | 'input' | 'forward' | 'output' | 'postrouting'
  /** A number, lower is earlier: raw -300, mangle -150, dstnat -100, filter 0, srcnat 100. */
  readonly priority: number
  readonly policy: 'accept' | 'drop'
}

/** A named set of addresses or prefixes. */
export interface NamedSet {
  readonly name: string
  readonly type: 'ipv4_addr' | 'ipv6_addr'
  /** `dynamic`: rules add to it, e.g. one rate limit for each source; give it a size and a timeout. */
  readonly flags: readonly ('interval' | 'timeout' | 'dynamic')[]
  /** The most elements that it may hold. */
  readonly size?: number
  /** Seconds after which an element is forgotten. */
  readonly timeout?: number
  readonly elements: readonly string[]
}

export interface Table {
  readonly family: 'inet' | 'ip' | 'ip6'
  readonly name: string
  /** Says in `nft list ruleset` whose it is and what to do about it. */
  readonly comment: string
  readonly sets?: readonly NamedSet[]
  readonly chains: readonly Chain[]
}

/** A table's name and family, which is all that it takes to delete it. */
export type TableName = Pick<Table, 'family' | 'name'>

/** The table as nft(8) reads it. Pure; golden files hold it. */
export function renderTable(table: Table): string {
  const lines = [`table ${table.family} ${table.name} {`, `  comment ${quote(table.comment)}`]
  for (const set of table.sets ?? []) {
    lines.push(`  set ${set.name} {`, `    type ${set.type}`)
    if (set.flags.length > 0) lines.push(`    flags ${set.flags.join(', ')}`)
    if (set.flags.includes('interval')) lines.push('    auto-merge')
    if (set.size !== undefined) lines.push(`    size ${set.size}`)
    if (set.timeout !== undefined) lines.push(`    timeout ${set.timeout}s`)
    if (set.elements.length > 0) lines.push(`    elements = { ${set.elements.join(', ')} }`)
    lines.push('  }')
  }
  for (const chain of table.chains) {
    lines.push(`  chain ${chain.name} {`)
    if (chain.hook !== undefined) {
      const { type, hook, priority, policy } = chain.hook
      lines.push(`    type ${type} hook ${hook} priority ${priority}; policy ${policy};`)
    }
    for (const rule of chain.rules) lines.push(`    ${rule}`)
    lines.push('  }')
  }
  lines.push('}', '')
  return lines.join('\n')
}

/**
 * Makes the table be exactly this, in one transaction: either the old rules hold or the new ones do. Then looks, since
 * some kernels accept a ruleset and keep none of it.
 * @throws TunnelError `command-failed`, `command-missing` or `no-privilege`; the old rules still hold.
 */
export async function replaceTable(run: Run, table: Table): Promise<void> {
  const { family, name } = table
  const input = `table ${family} ${name}\ndelete table ${family} ${name}\n${renderTable(table)}`
  await run(['nft', '-f', '-'], { input })
  if (!(await hasTable(run, table))) {
    throw new TunnelError(
      'command-failed',
      `the kernel took the nftables table "${name}" and did not keep it`,
    )
  }
}

/** Deletes the table; does nothing when there is none. */
export async function deleteTable(run: Run, { family, name }: TableName): Promise<void> {
  // "add, delete" in one transaction succeeds whether or not it was there.
  await run(['nft', '-f', '-'], { input: `table ${family} ${name}\ndelete table ${family} ${name}\n` })
}

/** Whether the kernel has a table of that name. */
export async function hasTable(run: Run, { family, name }: TableName): Promise<boolean> {
  const lines = (await run(['nft', 'list', 'tables'])).split('\n')
  return lines.some((line) => line.trim() === `table ${family} ${name}`)
}

/** A string literal of nft's language, which knows no escapes: a quote or a line end inside would end it. */
function quote(text: string): string {
  return `"${text.replaceAll(/["\n]/g, "'").slice(0, MAX_COMMENT)}"`
}

/** NFTNL_UDATA_COMMENT_MAXLEN is 128 with the terminating zero. */
const MAX_COMMENT = 127
