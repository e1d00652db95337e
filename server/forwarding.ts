/**
 * IP forwarding: switched on at start, and back at stop if nobody else can be meant by it.
 *
 *   start   accept_ra = 2 on links whose default route came by router advertisement, then IPv4 and IPv6 forwarding.
 *           A router does not listen to advertisements (accept_ra = 1), and the kernel drops such routes the moment that
 *           IPv6 forwarding goes on: without the first step a rented server loses IPv6.
 *   stop    a setting goes back if we changed it, it still has our value, and no other user of forwarding is seen.
 *
 * What was changed is in a journal before it is changed, so that a server that was killed still knows at its next stop.
 */
import { readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import type { Run, TableName } from '@culvert/tunnel'
import { TunnelError } from '@culvert/tunnel/pure'
import type { Logger } from 'pino'
import { z } from 'zod'
import { errnoOf, ServerError } from './error.ts'
import { listRuleset, type ListedChain } from './ruleset.ts'
import { dotted, type SysctlKey, type Sysctls } from './sysctl.ts'

/** A setting that we changed. */
export interface Change {
  readonly key: SysctlKey
  readonly before: string
  readonly after: string
}

export interface ForwardingOptions {
  readonly run: Run
  readonly sysctls: Sysctls
  /** The journal's path. */
  readonly journal: string
  readonly interfaceName: string
  readonly table: TableName
  readonly log: Logger
}

/**
 * Switches forwarding on; disposing switches it back where that is ours to do, and so does a failure in the middle.
 * @throws ServerError `no-privilege` when the kernel refuses, `bad-state` when the journal is damaged.
 */
export async function openForwarding(options: ForwardingOptions): Promise<AsyncDisposable> {
  const { run, sysctls, journal, log } = options
  const earlier = readJournal(journal)
  const wanted = forwardingPlan(await linksByAdvertisement(run), (key) => sysctls.read(key))
  const changes = merge(earlier, wanted, (key) => sysctls.read(key))
  writeJournal(journal, changes)
  const forwarding: AsyncDisposable = {
    async [Symbol.asyncDispose]() {
      const others = await otherForwarders(options)
      const { restore, kept } = restoration(changes, (key) => sysctls.read(key), others)
      for (const { key, before } of restore) {
        sysctls.write(key, before)
        log.info({ setting: dotted(key), value: before }, 'kernel setting restored')
      }
      for (const { key, reason } of kept) {
        log.warn({ setting: dotted(key), reason }, 'kernel setting stays as it is')
      }
      rmSync(journal, { force: true })
    },
  }
  await using undo = new AsyncDisposableStack()
  undo.use(forwarding)
  for (const { key, after } of wanted) {
    sysctls.write(key, after)
    log.info({ setting: dotted(key), value: after }, 'kernel setting changed')
  }
  undo.move()
  return forwarding
}

/** What has to change, in this order. Pure. `before` is what is there now. */
export function forwardingPlan(
  linksByAdvertisement: readonly string[],
  current: (key: SysctlKey) => string | null,
): readonly Change[] {
  const changes: Change[] = []
  for (const link of linksByAdvertisement) {
    const key: SysctlKey = `net/ipv6/conf/${link}/accept_ra`
    // 0: not the kernel, but networkd or NetworkManager reads the advertisements, and goes on doing so.
    if (current(key) === '1') changes.push({ key, before: '1', after: '2' })
  }
  for (const key of [FORWARD_4, FORWARD_6]) {
    const before = current(key)
    if (before === null || before === '1') continue
    changes.push({ key, before, after: '1' })
    // The kernel sets this one with IPv4 forwarding, to 0 when it goes on and to 1 when it goes off: on a hardened
    // machine it was 0 before.
    const redirects = key === FORWARD_4 ? current(REDIRECTS_4) : null
    if (redirects !== null) changes.push({ key: REDIRECTS_4, before: redirects, after: '0' })
  }
  return changes
}

export interface Restoration {
  readonly restore: readonly Change[]
  readonly kept: readonly { readonly key: SysctlKey; readonly reason: string }[]
}

/**
 * What goes back at stop, forwarding first, and what stays and why. Pure.
 * @param others what else on this machine may need forwarding, each as a phrase.
 */
export function restoration(
  changes: readonly Change[],
  current: (key: SysctlKey) => string | null,
  others: readonly string[],
): Restoration {
  const restore: Change[] = []
  const kept: { key: SysctlKey; reason: string }[] = []
  const order = [...changes].sort((a, b) => Number(isAcceptRa(a.key)) - Number(isAcceptRa(b.key)))
  for (const change of order) {
    const { key, before, after } = change
    const now = current(key)
    if (now === null) continue // the link is gone, and its settings with it
    if (now === before && now !== after) continue // somebody was there before us
    const stays = (other: SysctlKey) => kept.some((change) => change.key === other)
    if (key === REDIRECTS_4 && stays(FORWARD_4)) continue
    if (now !== after) kept.push({ key, reason: `somebody set it to ${now} since` })
    else if (isAcceptRa(key) && stays(FORWARD_6)) kept.push({ key, reason: 'IPv6 forwarding stays on' })
    else if (others.length > 0 && !isAcceptRa(key))
      kept.push({ key, reason: `needed by ${others.join(', ')}` })
    else restore.push(change)
  }
  return { restore, kept }
}

/** A link, of what `ip -json -details link` prints. */
const linkShape = z.object({
  ifname: z.string().optional(),
  flags: z.array(z.string()).optional(),
  linkinfo: z.object({ info_kind: z.string().optional() }).optional(),
})

/**
 * Who else may need forwarding, from what `ip` and `nft` printed. Pure. Bridges and tunnels that are up, and forward
 * chains with a rule or a policy in them: Docker, libvirt, another VPN, a firewall of a router. Also whoever translates
 * addresses, which is all that systemd-networkd does for a container.
 * @param links of `ip -json -details link show`.
 */
export function forwardersIn(
  links: string,
  ruleset: readonly ListedChain[],
  ours: { readonly interfaceName: string; readonly table: TableName },
): readonly string[] {
  const users: string[] = []
  for (const { ifname, flags, linkinfo } of z.array(linkShape).parse(JSON.parse(links))) {
    const kind = linkinfo?.info_kind
    if (ifname === undefined || ifname === ours.interfaceName || kind === undefined) continue
    if (FORWARDING_KINDS.has(kind) && flags?.includes('UP') === true) users.push(`the ${kind} link ${ifname}`)
  }
  for (const { family, table, name, hook, policy, rules } of ruleset) {
    if (family === ours.table.family && table === ours.table.name) continue
    // Debian's own /etc/nftables.conf has an empty chain that accepts: nobody's.
    const says = rules > 0 || (hook === 'forward' && policy !== 'accept')
    if (says && (hook === 'forward' || hook === 'postrouting'))
      users.push(`the chain ${family} ${table} ${name}`)
  }
  return users
}

async function otherForwarders({ run, interfaceName, table }: ForwardingOptions): Promise<readonly string[]> {
  try {
    const links = await run(['ip', '-json', '-details', 'link', 'show'])
    return [...forwardersIn(links, await listRuleset(run), { interfaceName, table }), ...legacyTables()]
  } catch (error) {
    // Not knowing is no reason to switch it off under somebody.
    return [`somebody perhaps (${error instanceof Error ? error.message : String(error)})`]
  }
}

/** Tables of the old iptables, which nft does not show. */
function legacyTables(): readonly string[] {
  return ['ip_tables_names', 'ip6_tables_names'].flatMap((file) => {
    try {
      return /^filter$/m.test(readFileSync(`/proc/net/${file}`, 'utf8'))
        ? ['the tables of iptables-legacy']
        : []
    } catch {
      return []
    }
  })
}

const routeShape = z.object({
  dev: z.string().optional(),
  protocol: z.string().optional(),
  nexthops: z.array(z.object({ dev: z.string().optional() })).optional(),
})

/** The links whose IPv6 default route came by router advertisement. */
export async function linksByAdvertisement(run: Run): Promise<readonly string[]> {
  let output: string
  try {
    output = await run(['ip', '-6', '-json', 'route', 'show', 'default'])
  } catch (error) {
    // A kernel without IPv6.
    if (error instanceof TunnelError && error.code === 'command-failed') return []
    throw error
  }
  const routes = z.array(routeShape).parse(JSON.parse(output.trim() === '' ? '[]' : output))
  const links = routes
    .filter(({ protocol }) => protocol === 'ra')
    .flatMap(({ dev, nexthops }) => [dev, ...(nexthops ?? []).map((hop) => hop.dev)])
    .filter((dev) => dev !== undefined)
  return [...new Set(links)]
}

const journalShape = z.object({
  version: z.literal(1),
  boot: z.string(),
  changes: z.array(
    z.object({ key: z.templateLiteral(['net/', z.string()]), before: z.string(), after: z.string() }),
  ),
})

/** The changes of an earlier server that did not get to undo them; none after a reboot, which undid them. */
function readJournal(path: string): readonly Change[] {
  let text: string
  try {
    text = readFileSync(path, 'utf8')
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') return []
    throw cause
  }
  try {
    const { boot, changes } = journalShape.parse(JSON.parse(text))
    return boot === bootId() ? changes : []
  } catch (cause) {
    const sentence = `${path} is damaged: set net.ipv4.ip_forward and net.ipv6.conf.all.forwarding as you want them without a server, and delete it`
    throw new ServerError('bad-state', sentence, { cause })
  }
}

/** An earlier entry stands as long as its value does; else what is there now is what there was before. */
function merge(
  earlier: readonly Change[],
  wanted: readonly Change[],
  current: (key: SysctlKey) => string | null,
): readonly Change[] {
  const standing = earlier.filter(({ key, after }) => current(key) === after)
  return [...standing, ...wanted.filter(({ key }) => !standing.some((change) => change.key === key))]
}

function writeJournal(path: string, changes: readonly Change[]): void {
  const text = `${JSON.stringify({ version: 1, boot: bootId(), changes })}\n`
  writeFileSync(`${path}.new`, text, { mode: 0o600, flush: true })
  renameSync(`${path}.new`, path)
}

function bootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

function isAcceptRa(key: SysctlKey): boolean {
  return key.endsWith('/accept_ra')
}

const FORWARD_4: SysctlKey = 'net/ipv4/ip_forward'
const REDIRECTS_4: SysctlKey = 'net/ipv4/conf/all/accept_redirects'
const FORWARD_6: SysctlKey = 'net/ipv6/conf/all/forwarding'

/** Kinds of link (ip-link(8)) behind which others' packets come and go. A veth counts through its bridge. */
const FORWARDING_KINDS: ReadonlySet<string> = new Set(
  'bridge tun wireguard amneziawg vxlan geneve gre gretap ip6gre ipip ip6tnl sit vti vti6 xfrm ppp ovpn'.split(
    ' ',
  ),
)
