/**
 * The firewall's policies as nftables text. Pure: golden tests hold what each policy becomes, and SECURITY.md says why.
 */
import { familyOf, type IpAddress, type Table } from '@culvert/tunnel/pure'
import type { FirewallPolicy } from '../plan.ts'
import { FWMARK, INTERFACE, NFT_TABLE } from './names.ts'

/** The table that carries a policy out; null: there is to be none. */
export function firewallTable(policy: FirewallPolicy): Table | null {
  switch (policy.tag) {
    case 'open':
      return null
    case 'base':
      return {
        family: 'inet',
        name: NFT_TABLE,
        comment: 'Culvert VPN. To remove it and give the network back: culvert rescue',
        chains: [...isolation(policy.addresses), ...marking()],
      }
  }
}

/**
 * The server at the other end is no neighbour: from the tunnel come answers to what was asked, and the errors of ICMP that
 * path MTU discovery lives on. And the tunnel's addresses are reached from this machine and through the tunnel only, or
 * somebody on the local network could find them out and write into connections (CVE-2019-14899).
 */
function isolation(addresses: readonly IpAddress[]): Table['chains'] {
  const answersOnly = [
    `iifname "${INTERFACE}" ct state established,related accept`,
    `iifname "${INTERFACE}" icmp type { destination-unreachable, time-exceeded, parameter-problem } accept`,
    `iifname "${INTERFACE}" icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept`,
    `iifname "${INTERFACE}" drop`,
  ]
  return [
    {
      name: 'foreign',
      hook: { type: 'filter', hook: 'prerouting', priority: BEFORE_CONNTRACK, policy: 'accept' },
      rules: ([4, 6] as const).flatMap((family) => {
        const own = addresses.filter((address) => familyOf(address) === family)
        const daddr = family === 4 ? 'ip daddr' : 'ip6 daddr'
        return own.length === 0
          ? []
          : [`iifname != { "${INTERFACE}", "lo" } ${daddr} { ${own.join(', ')} } drop`]
      }),
    },
    {
      name: 'input',
      hook: { type: 'filter', hook: 'input', priority: FILTER, policy: 'accept' },
      rules: answersOnly,
    },
    {
      name: 'forward',
      hook: { type: 'filter', hook: 'forward', priority: FILTER, policy: 'accept' },
      rules: answersOnly,
    },
  ]
}

/**
 * The mark of our own sockets is kept in the connection and given back to the answers, so that a strict reverse path filter
 * (rp_filter=1 with src_valid_mark=1) looks for the server outside the tunnel, where it is.
 */
function marking(): Table['chains'] {
  const mark = `0x${FWMARK.toString(16)}`
  return [
    {
      name: 'restore',
      hook: { type: 'filter', hook: 'prerouting', priority: MANGLE, policy: 'accept' },
      rules: [`meta l4proto { tcp, udp } ct mark ${mark} meta mark set ct mark`],
    },
    {
      name: 'save',
      hook: { type: 'filter', hook: 'output', priority: MANGLE, policy: 'accept' },
      rules: [`meta l4proto { tcp, udp } meta mark ${mark} ct mark set meta mark`],
    },
  ]
}

const BEFORE_CONNTRACK = -300
const MANGLE = -150
const FILTER = 0
