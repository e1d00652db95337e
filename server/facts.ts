/** What `culvert-server doctor` looks at. Looking changes nothing that lasts. */
import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { accessSync, constants, existsSync, statSync } from 'node:fs'
import { links, openTunnel, run, type Run } from '@culvert/tunnel'
import { addressOf, isIp, TunnelError, type IpAddress } from '@culvert/tunnel/pure'
import { readConfig, type Config } from './config.ts'
import { askStatus } from './control.ts'
import { errnoOf, sentenceOf, ServerError } from './error.ts'
import { linksByAdvertisement } from './forwarding.ts'
import { checkOperatorKey, generateWireGuardKey, readSecret } from './keys.ts'
import { tableName } from './nat.ts'
import type { Paths } from './paths.ts'
import { mayAdministerNetwork } from './privilege.ts'
import { openRegistry } from './registry.ts'
import { listRuleset, type ListedChain } from './ruleset.ts'
import type { Status } from './status.ts'
import { openSysctls } from './sysctl.ts'

/** Where something could not be found out, a `problem` is the sentence that says why. */
export interface Facts {
  readonly config: Config | Problem
  readonly privileged: boolean
  readonly tunDevice: 'present' | 'missing' | 'refused'
  /** Whether a TUN and a UDP socket can be carried between here, and by what means; null: a server does it now. */
  readonly dataplane: { readonly offloads: readonly string[] } | Problem | null
  /** Programs that are not installed. */
  readonly missingPrograms: readonly string[]
  /** Null: no server runs. */
  readonly status: Status | Problem | null
  /** Null: this kernel has no such setting. */
  readonly forwarding: { readonly ipv4: string | null; readonly ipv6: string | null }
  /** Rules in each chain of our table; null: there is no table, or it cannot be seen. */
  readonly rules: Readonly<Record<string, number>> | null
  readonly port: 'free' | 'taken' | 'unknown'
  /** The endpoint's addresses, or why there are none; and this machine's. */
  readonly endpointAddresses: readonly string[] | Problem
  readonly ownAddresses: readonly IpAddress[]
  /** State files that others than their owner may read. */
  readonly loose: readonly string[]
  /** What is wrong with the state files. */
  readonly damage: readonly string[]
  /** Milliseconds since 1970: now, and the latest moment that the registry speaks of. */
  readonly clock: { readonly now: number; readonly latest: number }
  /** `accept_ra` of each link whose IPv6 default route came by router advertisement. */
  readonly advertised: readonly { readonly link: string; readonly acceptRa: string | null }[]
  /** Chains of others that drop what they do not name, and that packets of ours pass. */
  readonly closed: { readonly forward: readonly string[]; readonly input: readonly string[] }
}

export interface Problem {
  readonly problem: string
}

/** Looks at the machine, the state and the running server. */
export async function gatherFacts(paths: Paths): Promise<Facts> {
  const config = await readConfig(paths.config).catch(problem)
  const status = await askStatus(paths.control).catch((error: unknown) =>
    error instanceof ServerError && error.code === 'not-running' ? null : problem(error),
  )
  const missingPrograms = await missing(['ip', 'nft'])
  const has = (program: string) => !missingPrograms.includes(program)
  const sysctls = openSysctls()
  const ruleset = has('nft') ? await rulesetOf(run) : []
  const advertised = has('ip') ? await linksByAdvertisement(run) : []
  const { damage, latest } = await inspectState(paths)
  const name = 'problem' in config ? null : tableName(config.interfaceName).name
  return {
    config,
    privileged: mayAdministerNetwork(),
    tunDevice: tunDevice(),
    dataplane: status === null ? await tryDataplane() : null,
    missingPrograms,
    status,
    forwarding: {
      ipv4: sysctls.read('net/ipv4/ip_forward'),
      ipv6: sysctls.read('net/ipv6/conf/all/forwarding'),
    },
    rules: name === null ? null : rulesIn(ruleset, name),
    port: 'problem' in config ? 'unknown' : await probePort(config.port),
    endpointAddresses: 'problem' in config ? [] : await resolve(config.endpoint.host),
    ownAddresses: has('ip') ? (await links(run)).flatMap(({ addresses }) => addresses.map(addressOf)) : [],
    loose: secretFiles(paths).filter((path) => existsSync(path) && (statSync(path).mode & 0o077) !== 0),
    damage,
    clock: { now: Date.now(), latest },
    advertised: advertised.map((link) => ({
      link,
      acceptRa: sysctls.read(`net/ipv6/conf/${link}/accept_ra`),
    })),
    closed: { forward: closedChains(ruleset, 'forward', name), input: closedChains(ruleset, 'input', name) },
  }
}

async function rulesetOf(run: Run): Promise<readonly ListedChain[]> {
  try {
    return await listRuleset(run)
  } catch (error) {
    if (error instanceof TunnelError) return [] // only root may look
    throw error
  }
}

function rulesIn(ruleset: readonly ListedChain[], table: string): Facts['rules'] {
  const chains = ruleset.filter((chain) => chain.table === table)
  return chains.length === 0 ? null : Object.fromEntries(chains.map(({ name, rules }) => [name, rules]))
}

function closedChains(ruleset: readonly ListedChain[], hook: string, ours: string | null): readonly string[] {
  return ruleset
    .filter((chain) => chain.hook === hook && chain.policy === 'drop' && chain.table !== ours)
    .map(({ family, table, name }) => `the chain ${family} ${table} ${name}`)
}

function tunDevice(): Facts['tunDevice'] {
  try {
    accessSync('/dev/net/tun', constants.R_OK | constants.W_OK)
    return 'present'
  } catch (error) {
    return errnoOf(error) === 'ENOENT' ? 'missing' : 'refused'
  }
}

/** Opens a tunnel as `run` would, under another name and on any port, and closes it. */
async function tryDataplane(): Promise<NonNullable<Facts['dataplane']>> {
  using privateKey = generateWireGuardKey()
  const name = 'culvert-doctor'
  const options = {
    name,
    mtu: 1420,
    privateKey,
    port: 0,
    fwmark: 0,
    gso: 'auto',
  } as const
  try {
    await using tunnel = await openTunnel({ ...options, onEvent() {} })
    return { offloads: tunnel.offloads }
  } catch (error) {
    return problem(error)
  }
}

async function missing(programs: readonly string[]): Promise<readonly string[]> {
  const found: string[] = []
  for (const program of programs) {
    try {
      await run([program, program === 'ip' ? '-Version' : '--version'])
    } catch (error) {
      if (!(error instanceof TunnelError && error.code === 'command-missing')) throw error
      found.push(program)
    }
  }
  return found
}

/** Whether another program holds the port, for IPv6 and IPv4 at once as the tunnel does. */
async function probePort(port: number): Promise<Facts['port']> {
  const socket = createSocket({ type: existsSync('/proc/net/if_inet6') ? 'udp6' : 'udp4' })
  const bound = Promise.withResolvers<Facts['port']>()
  socket.on('error', (error) => bound.resolve(errnoOf(error) === 'EADDRINUSE' ? 'taken' : 'unknown'))
  socket.bind({ port, exclusive: true }, () => bound.resolve('free'))
  const outcome = await bound.promise
  socket.close()
  return outcome
}

async function resolve(host: string): Promise<readonly string[] | Problem> {
  if (isIp(host)) return [host]
  try {
    return (await lookup(host, { all: true })).map(({ address }) => address)
  } catch (error) {
    return { problem: `the endpoint's name ${host} does not resolve (${errnoOf(error) ?? String(error)})` }
  }
}

async function inspectState(paths: Paths): Promise<{ damage: readonly string[]; latest: number }> {
  const damage: string[] = []
  let latest = 0
  const attempt = async (body: () => Promise<void> | void) => {
    try {
      await body()
    } catch (error) {
      damage.push(problem(error).problem)
    }
  }
  await attempt(async () => (await readSecret(paths.privateKey))[Symbol.dispose]())
  await attempt(async () => (await readSecret(paths.carrierSecret))[Symbol.dispose]())
  await attempt(() => checkOperatorKey(paths.operatorKey))
  await attempt(() => {
    using registry = openRegistry(paths.registry)
    const found = registry.damage()
    if (found !== null) damage.push(`${paths.registry} is damaged: ${found}`)
    for (const { created, latestHandshake } of registry.devices()) {
      latest = Math.max(latest, created, latestHandshake ?? 0)
    }
  })
  return { damage, latest }
}

function secretFiles(paths: Paths): readonly string[] {
  return [paths.privateKey, paths.operatorKey, paths.carrierSecret, paths.registry]
}

/** What is wrong, for a person; a failure that is a bug of ours goes on up. */
function problem(error: unknown): Problem {
  const sentence = sentenceOf(error)
  if (sentence === null) throw error
  return { problem: sentence }
}
