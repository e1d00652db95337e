/**
 * The host, made to be what a plan says. `apply` may be called at any time and as often as one likes:
 *
 *   1. firewall closed      before anything could get past it
 *   2. sysctls
 *   3. link, routes, rules  in; or, when the plan has none, rules, routes, link: out
 *   4. sysctls back
 *   5. firewall opened      when nothing is left that it guards
 *
 * What is put in is written into the journal first; what is taken out is what the journal lists.
 */
import { existsSync } from 'node:fs'
import { cp, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import {
  deleteTable,
  familyOf,
  hasTable,
  ipBatch,
  link,
  renderTable,
  replaceTable,
  type Family,
  type Run,
} from '@culvert/tunnel'
import type { HostPlan, PlannedRoute, Sysctl } from '../plan.ts'
import { firewallTable } from './firewall.ts'
import type { Journal, JournalEntry } from './journal.ts'
import { INTERFACE, NFT_TABLE, ROUTE_TABLE, RULE_PRIORITIES } from './names.ts'
import { applyLink, applyRoutes, downLink, removeRoutes } from './routes.ts'

/** The host as the supervisor sees it. */
export interface Host {
  /** Makes the host what the plan says. @throws TunnelError, or an error of the file system: the plan does not hold. */
  apply(plan: HostPlan): Promise<void>
  /**
   * Undoes what the journal lists and removes whatever else bears our names: what a helper that was killed left behind.
   * Goes on when a step fails; gives one sentence for each that did, and the journal keeps those.
   */
  recover(): Promise<readonly string[]>
}

/** The kernel's settings and facts, /proc; another directory in tests. */
export const PROC = '/proc'

/** The host of this machine, or of this network namespace. */
export function openHost(run: Run, journal: Journal, proc: string): Host {
  /** The table that was put in last, as text; null: none, or not known. */
  let rendered: string | null = null

  async function apply(plan: HostPlan): Promise<void> {
    await close(plan)
    for (const sysctl of plan.sysctls) await set(sysctl)
    if (plan.tun === null && plan.routes.length === 0) await takeRoutesOut()
    else await putRoutesIn(plan)
    for (const entry of journal.entries()) {
      if (entry.tag === 'sysctl' && !plan.sysctls.some(({ key }) => key === entry.key)) await undo(entry)
    }
    if (plan.firewall.tag === 'open') {
      if (journal.entries().some(({ tag }) => tag === 'table')) await deleteTable(run, OUR_TABLE)
      rendered = null
      await journal.forget((entry) => entry.tag !== 'file')
    }
  }

  async function close(plan: HostPlan): Promise<void> {
    const table = firewallTable(plan.firewall)
    if (table === null) return
    const text = renderTable(table)
    if (text === rendered && (await hasTable(run, table))) return
    await journal.record([{ tag: 'table', ...OUR_TABLE }])
    await replaceTable(run, table)
    rendered = text
  }

  async function set({ key, value }: Sysctl): Promise<void> {
    const before = await readSysctl(proc, key)
    if (before === null || before === value) return
    // Written down before already: what it was before us stays what it was then.
    const known = journal.entries().some((entry) => entry.tag === 'sysctl' && entry.key === key)
    if (!known) await journal.record([{ tag: 'sysctl', key, before, ours: value }])
    await writeFile(sysctlPath(proc, key), value)
  }

  async function putRoutesIn({ tun, routes }: HostPlan): Promise<void> {
    const families: readonly Family[] = existsSync(join(proc, 'sys/net/ipv6')) ? [4, 6] : [4]
    const planned = families.map((family) => ({
      family,
      routes: routes.filter(({ destination }) => familyOf(destination) === family),
    }))
    await journal.record([
      { tag: 'link', name: INTERFACE },
      ...planned.flatMap(({ family, routes }) => (routes.length === 0 ? [] : routeEntries(family))),
    ])
    // A tunnel that is being opened anew has no link for a moment: what was to go into it then goes nowhere.
    const hasLink = (await link(run, INTERFACE)) !== null
    if (tun !== null && hasLink) {
      const addresses = tun.addresses.filter((address) => families.includes(familyOf(address)))
      if (addresses.some((address) => familyOf(address) === 6)) await allowIpv6()
      const ipv6 = families.includes(6) ? 'present' : 'absent'
      await applyLink(run, { mtu: tun.mtu, addresses, ipv6 })
    }
    // A table that ends both families takes everything, so that the LAN has to come first.
    const precedence = routes.some(({ to }) => to === 'unreachable') ? 'main' : 'tunnel'
    for (const { family, routes } of planned) {
      const possible = hasLink
        ? routes
        : routes.map((route): PlannedRoute => ({ ...route, to: 'unreachable' }))
      if (routes.length > 0) await applyRoutes(run, family, possible, precedence)
      else if (hasRoutes(family)) await removeRoutes(run, family)
    }
  }

  async function takeRoutesOut(): Promise<void> {
    for (const family of [4, 6] as const) if (hasRoutes(family)) await removeRoutes(run, family)
    if (journal.entries().some(({ tag }) => tag === 'link')) await downLink(run)
    await journal.forget(({ tag }) => tag === 'rule' || tag === 'routes' || tag === 'link')
  }

  function hasRoutes(family: Family): boolean {
    return journal.entries().some((entry) => entry.tag === 'routes' && entry.family === family)
  }

  /** The profile has an IPv6 address, so our own link speaks it, even where new links do not. It goes with the link. */
  async function allowIpv6(): Promise<void> {
    const key = `net.ipv6.conf.${INTERFACE}.disable_ipv6`
    if ((await readSysctl(proc, key)) === '1') await writeFile(sysctlPath(proc, key), '0')
  }

  async function undo(entry: JournalEntry): Promise<void> {
    switch (entry.tag) {
      case 'table':
        return deleteTable(run, entry)
      case 'rule': // goes with its table
      case 'routes':
        return removeRoutes(run, entry.family)
      case 'link':
        if ((await link(run, entry.name)) !== null) await ipBatch(run, [`link delete dev ${entry.name}`])
        return
      case 'sysctl':
        // Somebody has changed it since: then it is theirs.
        if ((await readSysctl(proc, entry.key)) === entry.ours) {
          await writeFile(sysctlPath(proc, entry.key), entry.before)
        }
        return
      case 'file':
        // A copy beside it and a rename: there is no moment without the file.
        await cp(entry.copy, `${entry.path}.culvert`, { verbatimSymlinks: true })
        await rename(`${entry.path}.culvert`, entry.path)
    }
  }

  async function recover(): Promise<readonly string[]> {
    const failures: string[] = []
    const failed = new Set<JournalEntry>()
    for (const entry of journal.entries().toReversed()) {
      try {
        await undo(entry)
      } catch (error) {
        failed.add(entry)
        failures.push(`${entry.tag} could not be undone: ${messageOf(error)}`)
      }
    }
    // By name, in case the journal was damaged or removed.
    for (const sweep of [
      () => removeRoutes(run, 4),
      ...(existsSync(join(proc, 'sys/net/ipv6')) ? [() => removeRoutes(run, 6)] : []),
      () => deleteTable(run, OUR_TABLE),
    ]) {
      try {
        await sweep()
      } catch (error) {
        failures.push(messageOf(error))
      }
    }
    await journal.forget((entry) => !failed.has(entry))
    return failures
  }

  return { apply, recover }
}

function routeEntries(family: Family): readonly JournalEntry[] {
  return [
    { tag: 'routes', family, table: ROUTE_TABLE },
    { tag: 'rule', family, priority: RULE_PRIORITIES.main },
    { tag: 'rule', family, priority: RULE_PRIORITIES.tunnel },
  ]
}

/** A sysctl's value; null where the kernel has none of that name. */
async function readSysctl(proc: string, key: string): Promise<string | null> {
  try {
    return (await readFile(sysctlPath(proc, key), 'utf8')).trim()
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null // node:fs throws nothing else
    throw error
  }
}

function sysctlPath(proc: string, key: string): string {
  return join(proc, 'sys', ...key.split('.'))
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

const OUR_TABLE = { family: 'inet', name: NFT_TABLE } as const
