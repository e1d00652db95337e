/**
 * The tunnel's link, its route table, and the policy rules that lead to it:
 *
 *   27640  lookup main suppress_prefixlength 0     the LAN and every other route but the default one, as before
 *   27641  not fwmark 0x63756c76 lookup 1668639862 everything that is not our own socket's, into the tunnel's table
 *
 * The first is there only when the table takes whatever is asked of it. One with a few prefixes comes before `main` instead,
 * and what it does not know falls through: or a wide route of the LAN's would win over a narrower one of the tunnel's.
 *
 * Routes are there before the rules that lead to them, and go after them. What is there already is looked at, not
 * remembered, so that it may be done again at any time.
 */
import {
  familyOf,
  ipBatch,
  link,
  routes,
  rules,
  type Family,
  type InterfaceAddress,
  type Route,
  type Rule,
  type Run,
} from '@culvert/tunnel'
import type { PlannedRoute } from '../plan.ts'
import { FWMARK, INTERFACE, ROUTE_TABLE, RULE_PRIORITIES, UNREACHABLE_METRIC } from './names.ts'

/** Gives the tunnel's link its MTU and addresses, and brings it up. It has to be there. */
export async function applyLink(
  run: Run,
  tun: {
    readonly mtu: number
    readonly addresses: readonly InterfaceAddress[]
    readonly ipv6: 'present' | 'absent'
  },
): Promise<void> {
  const found = await link(run, INTERFACE)
  const wanted = new Set(tun.addresses)
  const lines: string[] = []
  for (const address of found?.addresses.toReversed() ?? []) {
    if (!wanted.has(address)) lines.push(`address del ${address} dev ${INTERFACE}`)
  }
  for (const address of wanted) {
    // nodad: there is nobody else on the link, and a tentative address cannot be used for a second.
    const nodad = familyOf(address) === 6 ? ' nodad' : ''
    if (found?.addresses.includes(address) !== true)
      lines.push(`address add ${address} dev ${INTERFACE}${nodad}`)
  }
  if (found?.mtu !== tun.mtu) lines.push(`link set dev ${INTERFACE} mtu ${tun.mtu}`)
  if (found?.up !== true) {
    // Or the kernel would draw a link-local address and send router solicitations into the tunnel.
    if (tun.ipv6 === 'present') lines.unshift(`link set dev ${INTERFACE} addrgenmode none`)
    lines.push(`link set dev ${INTERFACE} up`)
  }
  await ipBatch(run, lines)
}

/** Takes the tunnel's link down, and its addresses off, if it is there: nothing comes out of it any more. */
export async function downLink(run: Run): Promise<void> {
  const found = await link(run, INTERFACE)
  if (found === null || (!found.up && found.addresses.length === 0)) return
  await ipBatch(run, [
    `link set dev ${INTERFACE} down`,
    // IPv6 addresses go with the link, IPv4 ones stay. The last first: the first of a network would take the others along.
    ...found.addresses
      .toReversed()
      .filter((address) => familyOf(address) === 4)
      .map((address) => `address del ${address} dev ${INTERFACE}`),
  ])
}

/** What is asked first: `main`, but for its default route, or the tunnel's table. */
export type Precedence = 'main' | 'tunnel'

/** Makes the table of a family be exactly these routes, and the rules lead to it. */
export async function applyRoutes(
  run: Run,
  family: Family,
  planned: readonly PlannedRoute[],
  precedence: Precedence,
): Promise<void> {
  const present = new Set((await routes(run, family, ROUTE_TABLE)).map(routeLine))
  const wanted = new Set(planned.map(plannedLine))
  await ipBatch(
    run,
    [
      ...[...wanted].filter((line) => !present.has(line)).map((line) => `route add ${line}`),
      ...[...present].filter((line) => !wanted.has(line)).map((line) => `route del ${line}`),
    ],
    family,
  )
  const known = await rules(run, family)
  const [main, tunnel] = OUR_RULES
  const lasting = precedence === 'main' ? [main, tunnel] : [tunnel]
  await ipBatch(
    run,
    [
      ...lasting.filter(({ matches }) => !known.some(matches)).map(({ line }) => `rule add ${line}`),
      ...(precedence === 'main' ? [] : known.filter(main.matches).map(() => `rule del ${main.line}`)),
    ],
    family,
  )
}

/** Takes our rules and our route table away; does nothing where there is none. */
export async function removeRoutes(run: Run, family: Family): Promise<void> {
  const known = await rules(run, family)
  await ipBatch(
    run,
    // In reverse: the rule into the tunnel goes first. A rule can be there more than once.
    OUR_RULES.toReversed().flatMap(({ matches, line }) =>
      known.filter(matches).map(() => `rule del ${line}`),
    ),
    family,
  )
  const present = await routes(run, family, ROUTE_TABLE)
  await ipBatch(
    run,
    present.map((route) => `route del ${routeLine(route)}`),
    family,
  )
}

interface OurRule {
  readonly line: string
  /** Whether a rule of the kernel's is this one: by all that it says, since others may use the same priority. */
  matches(rule: Rule): boolean
}

/** A route of the kernel's in the words of `plannedLine`. */
function routeLine(route: Route): string {
  return route.kind === 'unreachable'
    ? `unreachable ${route.destination} table ${ROUTE_TABLE} metric ${route.metric ?? 0}`
    : `${route.destination} dev ${route.device ?? INTERFACE} table ${ROUTE_TABLE}`
}

function plannedLine({ destination, to }: PlannedRoute): string {
  return to === 'unreachable'
    ? `unreachable ${destination} table ${ROUTE_TABLE} metric ${UNREACHABLE_METRIC}`
    : `${destination} dev ${INTERFACE} table ${ROUTE_TABLE}`
}

const OUR_RULES: readonly [main: OurRule, tunnel: OurRule] = [
  {
    line: `priority ${RULE_PRIORITIES.main} lookup main suppress_prefixlength 0`,
    matches: (rule) =>
      rule.priority === RULE_PRIORITIES.main && rule.table === 'main' && rule.suppressPrefixLength === 0,
  },
  {
    line: `priority ${RULE_PRIORITIES.tunnel} not fwmark ${FWMARK} lookup ${ROUTE_TABLE}`,
    matches: (rule) =>
      rule.priority === RULE_PRIORITIES.tunnel &&
      rule.table === `${ROUTE_TABLE}` &&
      rule.fwmark === FWMARK &&
      rule.inverted,
  },
]
