/** What this process may do. */
import { readFileSync } from 'node:fs'

/** Whether it may change links, routes and firewall: CAP_NET_ADMIN (capabilities(7)) in its network namespace. */
export function mayAdministerNetwork(): boolean {
  const effective = /^CapEff:\t([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return (BigInt(`0x${effective}`) & (1n << CAP_NET_ADMIN)) !== 0n
}

const CAP_NET_ADMIN = 12n
