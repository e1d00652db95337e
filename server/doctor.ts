/**
 * `culvert-server doctor`: what was found (facts.ts), judged. Pure. A check is `ok`, `broken` with what to do, or a
 * `note`: something that only a person can judge.
 */
import { formatEndpoint, isIp, type Endpoint } from '@culvert/tunnel/pure'
import type { Config } from './config.ts'
import type { Facts } from './facts.ts'
import { natTable } from './nat.ts'
import { serverAddresses } from './pool.ts'

export interface Check {
  readonly name: string
  readonly verdict: 'ok' | 'note' | 'broken'
  /** What was found. */
  readonly finding: string
  /** What to do; null when there is nothing to do. */
  readonly fix: string | null
}

/** Judges the facts. Pure. */
export function diagnose(facts: Facts): readonly Check[] {
  const { config, status } = facts
  const running = status !== null && !('problem' in status) ? status : null
  return [
    'problem' in config
      ? broken('config', config.problem, 'mend the file that the sentence names')
      : ok('config', `is read and understood; devices dial ${formatEndpoint(config.endpoint)}`),
    ...stateChecks(facts),
    facts.privileged
      ? ok('privilege', 'this runs with CAP_NET_ADMIN')
      : broken('privilege', 'this does not run as root', 'run it with sudo; some checks below need it too'),
    ...machineChecks(facts),
    runningCheck(facts),
    ...(running === null ? [] : [...forwardingChecks(facts), tableCheck(facts)]),
    ...('problem' in config ? [] : [portCheck(facts, config), endpointCheck(facts, config.endpoint)]),
    ...advertisementChecks(facts, running === null ? 'stopped' : 'running'),
    ...firewallChecks(facts),
  ]
}

/** The checks as a person reads them: a line each, and a second one for what to do. */
export function formatChecks(checks: readonly Check[]): string {
  const width = Math.max(...checks.map(({ name }) => name.length))
  const lines = checks.flatMap(({ name, verdict, finding, fix }) => [
    `${verdict.padEnd(6)}  ${name.padEnd(width)}  ${finding}`,
    ...(fix === null ? [] : [`${''.padEnd(width + 10)}▸ ${fix}`]),
  ])
  const count = checks.filter(({ verdict }) => verdict === 'broken').length
  return `${[...lines, '', count === 0 ? 'Nothing is broken.' : `${count} broken.`].join('\n')}\n`
}

function stateChecks({ damage, loose, clock }: Facts): readonly Check[] {
  const checks = damage.map((found) => broken('state', found, 'restore the file from a backup'))
  checks.push(
    ...loose.map((path) => broken('state', `${path} may be read by others than root`, `chmod 600 ${path}`)),
  )
  if (checks.length === 0)
    checks.push(ok('state', 'keys and registry are whole and readable by their owner only'))
  const sane = clock.now >= EARLIEST && clock.now >= clock.latest - CLOCK_SLACK
  const when = new Date(clock.now).toISOString()
  checks.push(
    sane
      ? ok('clock', `says ${when}`)
      : broken(
          'clock',
          `says ${when}, which is before what was recorded already`,
          'set it: timedatectl set-ntp true',
        ),
  )
  return checks
}

function machineChecks({ tunDevice, dataplane, missingPrograms }: Facts): readonly Check[] {
  const programs = missingPrograms.map((program) =>
    broken(
      'programs',
      `"${program}" is not installed`,
      `apt install ${program === 'ip' ? 'iproute2' : 'nftables'}`,
    ),
  )
  return [
    tunCheck(tunDevice),
    ...(dataplane === null ? [] : [dataplaneCheck(dataplane)]),
    ...(programs.length === 0 ? [ok('programs', 'ip and nft are installed')] : programs),
  ]
}

function tunCheck(tunDevice: Facts['tunDevice']): Check {
  switch (tunDevice) {
    case 'present':
      return ok('tun', '/dev/net/tun is there and may be opened')
    case 'missing':
      return broken(
        'tun',
        '/dev/net/tun is missing',
        'modprobe tun; in a container, let the host give it the device',
      )
    case 'refused':
      return broken(
        'tun',
        '/dev/net/tun may not be opened',
        'run this as root; in a container, allow the device',
      )
  }
}

function dataplaneCheck(dataplane: NonNullable<Facts['dataplane']>): Check {
  if ('problem' in dataplane)
    return broken('dataplane', dataplane.problem, 'mend this first: nothing can be carried without it')
  return ok('dataplane', `carries packets, by ${dataplane.offloads.join(', ') || 'one system call each'}`)
}

function runningCheck({ status }: Facts): Check {
  if (status === null)
    return note('server', 'is not running', 'systemctl start culvert-server, or culvert-server run')
  if ('problem' in status) return broken('server', status.problem, 'run this as root, or look at its log')
  const { devices, uptime } = status
  return ok(
    'server',
    `runs for ${uptime} s, with ${devices.length} ${devices.length === 1 ? 'device' : 'devices'}`,
  )
}

function forwardingChecks({ forwarding }: Facts): readonly Check[] {
  const rows = [
    ['IPv4', forwarding.ipv4, 'net.ipv4.ip_forward'],
    ['IPv6', forwarding.ipv6, 'net.ipv6.conf.all.forwarding'],
  ] as const
  return rows.map(([family, value, name]) => {
    if (value === null) return note('forwarding', `this kernel has no ${family}`, null)
    if (value === '1') return ok('forwarding', `${family} packets are forwarded`)
    return broken(
      'forwarding',
      `${name} is ${value}: somebody switched it off since the start`,
      `sysctl -w ${name}=1, and look for what sets it in /etc/sysctl.d`,
    )
  })
}

function tableCheck({ config, rules, privileged }: Facts): Check {
  if ('problem' in config || !privileged) return note('firewall', 'the table could not be looked at', null)
  const expected = natTable({ ...config, addresses: serverAddresses(config) })
  const fix = 'systemctl reload culvert-server puts it back; find out what changed it (nft list ruleset)'
  if (rules === null) return broken('firewall', `the table inet ${expected.name} is gone`, fix)
  const different = expected.chains.filter((chain) => rules[chain.name] !== chain.rules.length)
  if (different.length === 0) return ok('firewall', `the table inet ${expected.name} is whole`)
  const names = different.map(({ name }) => name).join(', ')
  return broken('firewall', `the table inet ${expected.name} was changed (${names})`, fix)
}

function portCheck({ port, status }: Facts, config: Config): Check {
  if (status !== null && 'port' in status && status.port === config.port) {
    return ok('port', `UDP ${config.port} is ours`)
  }
  switch (port) {
    case 'free':
      return ok('port', `UDP ${config.port} is free`)
    case 'taken':
      return broken(
        'port',
        `UDP ${config.port} is taken by another program`,
        `stop it (ss -ulnp sport = :${config.port}), or set another "port" in the config`,
      )
    case 'unknown':
      return note('port', `UDP ${config.port} could not be tried`, null)
  }
}

function endpointCheck({ endpointAddresses, ownAddresses }: Facts, endpoint: Endpoint): Check {
  if ('problem' in endpointAddresses) {
    return broken(
      'endpoint',
      endpointAddresses.problem,
      `make the name resolve, or set "endpoint" to an address`,
    )
  }
  const shown = isIp(endpoint.host) ? endpoint.host : `${endpoint.host} (${endpointAddresses.join(', ')})`
  const own = new Set<string>(ownAddresses)
  const foreign = endpointAddresses.filter((address) => !own.has(address))
  if (foreign.length === 0) return ok('endpoint', `${shown} is this machine`)
  return note(
    'endpoint',
    `${shown}: no interface here has ${foreign.join(', ')}`,
    `right if a router or a cloud's NAT forwards UDP ${endpoint.port} to this machine; else set "endpoint"`,
  )
}

function advertisementChecks({ advertised }: Facts, server: 'running' | 'stopped'): readonly Check[] {
  return advertised.map(({ link, acceptRa }) =>
    server === 'running' && acceptRa === '1'
      ? broken(
          'ipv6',
          `${link} has its IPv6 default route by router advertisement, and a forwarding machine ignores them`,
          `sysctl -w net.ipv6.conf.${link}.accept_ra=2, or restart the server, which does it`,
        )
      : ok('ipv6', `${link} keeps its IPv6 default route (accept_ra ${acceptRa ?? 'unknown'})`),
  )
}

/** In nftables a packet passes only when every table lets it: ours cannot open what another closes. */
function firewallChecks({ closed, config }: Facts): readonly Check[] {
  if ('problem' in config) return []
  const { interfaceName, port } = config
  return [
    ...closed.forward.map((chain) =>
      note(
        'firewall',
        `${chain} drops forwarded packets that it does not name`,
        `let ${interfaceName} through: with Docker, iptables -I DOCKER-USER -i ${interfaceName} -j ACCEPT and the same with -o; with ufw, ufw route allow in on ${interfaceName}`,
      ),
    ),
    ...closed.input.map((chain) =>
      note(
        'firewall',
        `${chain} drops incoming packets that it does not name`,
        `let UDP ${port} in: with ufw, ufw allow ${port}/udp`,
      ),
    ),
  ]
}

function ok(name: string, finding: string): Check {
  return { name, verdict: 'ok', finding, fix: null }
}

function note(name: string, finding: string, fix: string | null): Check {
  return { name, verdict: 'note', finding, fix }
}

function broken(name: string, finding: string, fix: string): Check {
  return { name, verdict: 'broken', finding, fix }
}

/** This program was written later than that. */
const EARLIEST = Date.UTC(2025, 0, 1)
/** Milliseconds that a clock may be set back by without harm. */
const CLOCK_SLACK = 60_000
