/**
 * The network's own name servers, as whoever manages the uplink wrote them down. /etc/resolv.conf comes last: it may name a
 * local program, or, once the tunnel sets it, the tunnel's resolver. A loopback address is never taken: what listens there
 * would ask on through the tunnel.
 */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { contains, isIp, parseCidr, parseIp, type IpAddress } from '@culvert/tunnel'

/** The name servers of the uplink, in the order in which to ask them; none when nobody knows any. */
export async function nameServers(root: string): Promise<readonly IpAddress[]> {
  for (const path of RECORDS) {
    const servers = parseResolvConf(await textOf(join(root, path)))
    if (servers.length > 0) return servers
  }
  return []
}

/** The addresses that /etc/hosts gives a name, in its order. */
export async function hostsAddresses(root: string, name: string): Promise<readonly IpAddress[]> {
  return parseHosts(await textOf(join(root, '/etc/hosts')), name)
}

/** The `nameserver` lines of a resolv.conf(5) that can be asked from outside. Pure. */
export function parseResolvConf(text: string): readonly IpAddress[] {
  const servers = text
    .split('\n')
    .map((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1])
    // An address with a zone (fe80::1%eth0) is no IpAddress and falls out: its zone would have to travel with it.
    .flatMap((word) => (word !== undefined && isIp(word) ? [parseIp(word)] : []))
    .filter((server) => !NOT_OUTSIDE.some((prefix) => contains(prefix, server)))
  return [...new Set(servers)]
}

/** What a hosts(5) says of a name. Pure. */
export function parseHosts(text: string, name: string): readonly IpAddress[] {
  const wanted = name.toLowerCase()
  return text.split('\n').flatMap((line) => {
    const [address = '', ...names] = line.replace(/#.*$/, '').trim().split(/\s+/)
    return names.some((other) => other.toLowerCase() === wanted) && isIp(address) ? [parseIp(address)] : []
  })
}

async function textOf(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    return '' // not there, or not ours to read: the next record may do
  }
}

/** systemd-resolved's servers of the links, NetworkManager's, resolvconf's and dhcpcd's, and what everybody reads. */
const RECORDS = [
  '/run/systemd/resolve/resolv.conf',
  '/run/NetworkManager/no-stub-resolv.conf',
  '/run/NetworkManager/resolv.conf',
  '/run/resolvconf/resolv.conf',
  '/etc/resolv.conf',
] as const

/** Loopback, "any", and link-local, which means nothing without its link. */
const NOT_OUTSIDE = ['127.0.0.0/8', '0.0.0.0/8', '::1/128', '::/128', 'fe80::/10'].map(parseCidr)
