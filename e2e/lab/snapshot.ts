/**
 * A host's network state as text, to be compared byte for byte: what `disconnect`, `rescue` and every kind of end have to restore.
 */
import type { Host } from './host.ts'

/** Links, addresses, routes, rules, sysctls, firewall and resolver of a host, each under its own name. */
export type Snapshot = Readonly<Record<string, string>>

export async function snapshot(host: Host): Promise<Snapshot> {
  const entries = await Promise.all(
    Object.entries(questions).map(async ([name, argv]) => {
      // sysctl fails for the few values that cannot be read, and reads the rest.
      const { stdout } = await host.exec(argv)
      return [name, name === 'sysctls' ? steady(stdout) : stdout] as const
    }),
  )
  return Object.fromEntries(entries)
}

/** A snapshot without the lifetimes that router advertisements refresh. */
export function timeless(snapshot: Snapshot): Snapshot {
  const lifetimes = /(expires|valid_lft|preferred_lft) \d+sec/g
  return Object.fromEntries(
    Object.entries(snapshot).map(([name, text]) => [name, text.replaceAll(lifetimes, '$1')]),
  )
}

const questions: Readonly<Record<string, readonly string[]>> = {
  links: ['ip', '-details', 'link', 'show'],
  addresses: ['ip', 'address', 'show'],
  'IPv4 routes': ['ip', '-4', 'route', 'show', 'table', 'all'],
  'IPv6 routes': ['ip', '-6', 'route', 'show', 'table', 'all'],
  'IPv4 rules': ['ip', '-4', 'rule', 'show'],
  'IPv6 rules': ['ip', '-6', 'rule', 'show'],
  sysctls: ['sysctl', '--all', '--pattern', '^net\\.'],
  nftables: ['nft', 'list', 'ruleset'],
  resolver: ['cat', '/etc/resolv.conf'],
}

/** Without what counts, expires or is drawn anew by itself. */
function steady(sysctls: string): string {
  const moving = /^net\.(?:netfilter\.nf_conntrack_count|ipv4\.tcp_fastopen_key|core\.netdev_rss_key)\b/
  return sysctls
    .split('\n')
    .filter((line) => !moving.test(line))
    .sort()
    .join('\n')
}
