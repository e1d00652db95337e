/**
 * config.toml: read, checked and written. An error names the file and the line or the key, and what was expected there.
 */
import { readFile } from 'node:fs/promises'
import {
  familyOf,
  formatEndpoint,
  isDefaultRoute,
  parseCidr,
  parseEndpoint,
  parseHostName,
  parseIp,
  parsePort,
  prefixLengthOf,
  TunnelError,
  type Cidr,
  type Endpoint,
  type IpAddress,
  type Port,
} from '@culvert/tunnel/pure'
import { parse, TomlError } from 'smol-toml'
import { z } from 'zod'
import { errnoOf, ServerError } from './error.ts'
import type { Pool } from './pool.ts'

export interface Config extends Pool {
  /** What clients are told to dial. */
  readonly endpoint: Endpoint
  /** The UDP port that we listen on; another one than the endpoint's behind a port forwarding. */
  readonly port: Port
  readonly interfaceName: string
  /** The resolvers that clients are told to use, through the tunnel. */
  readonly dns: readonly IpAddress[]
  /** Of the interface and of the .conf files, in bytes. */
  readonly mtu: number
  readonly gso: 'auto' | 'off'
  /** Private networks that clients may reach. */
  readonly allowPrivate: readonly Cidr[]
  /** Whether clients may reach each other. */
  readonly allowClients: boolean
  readonly registry: 'sqlite'
  readonly logLevel: LogLevel
  readonly carriers: {
    /** The DNS zone delegated to this server. */
    readonly dnsZone: string | null
    /** The name or address under which this server is a web server. */
    readonly webHost: string | null
  }
}

export type LogLevel = (typeof logLevels)[number]
export const logLevels = ['error', 'warn', 'info', 'debug'] as const

/** What `init` decides; the rest has defaults. */
export interface Choices extends Pool {
  readonly endpoint: Endpoint
  readonly dnsZone: string | null
  readonly webHost: string | null
}

/** Reads and checks a config file. @throws ServerError `not-initialised` or `bad-config`. */
export async function readConfig(path: string): Promise<Config> {
  let source: string
  try {
    source = await readFile(path, 'utf8')
  } catch (cause) {
    if (errnoOf(cause) === 'ENOENT') {
      throw new ServerError(
        'not-initialised',
        `${path} does not exist: run "culvert-server init --endpoint HOST" first`,
        { cause },
      )
    }
    const why = errnoOf(cause) === 'EACCES' ? 'only root may read it' : String(cause)
    throw new ServerError('bad-config', `${path} cannot be read: ${why}`, { cause })
  }
  return parseConfig(source, path)
}

/**
 * Reads the text of a config file.
 * @param name stands in errors, as the file's path.
 * @throws ServerError `bad-config`: one sentence.
 */
export function parseConfig(source: string, name: string): Config {
  let table: unknown
  try {
    table = parse(source)
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause
    const why = cause.message.split('\n')[0]?.replace(/^Invalid TOML document: /, '')
    throw new ServerError('bad-config', `${name} line ${cause.line} is not TOML: ${why}`, { cause })
  }
  const { data, error } = shape.safeParse(table)
  if (error !== undefined)
    throw new ServerError('bad-config', `${name}: ${explain(error.issues)}`, { cause: error })
  return {
    endpoint: data.endpoint,
    port: data.port,
    interfaceName: data.interface,
    pool4: data.pool4,
    pool6: data.pool6,
    dns: data.dns,
    mtu: data.mtu,
    gso: data.gso,
    allowPrivate: data.allow_private,
    allowClients: data.allow_clients,
    registry: data.registry,
    logLevel: data.log_level,
    carriers: { dnsZone: data.carriers.dns_zone ?? null, webHost: data.carriers.web_host ?? null },
  }
}

/** The text of a new config file: every key is there, with what it means. */
export function formatConfig({ endpoint, pool4, pool6, dnsZone, webHost }: Choices): string {
  const carrier = (key: string, value: string | null, example: string) =>
    value === null ? `# ${key} = "${example}"` : `${key} = "${value}"`
  return `# The configuration of culvert-server. After a change: systemctl reload culvert-server, or SIGHUP.
# Keys marked "at start" are read only when the server starts.

# What clients dial: a name or an address of this machine, or of the router that forwards the port to it.
endpoint = "${formatEndpoint(endpoint)}"

# The UDP port that the server listens on (at start). Another one than the endpoint's only behind a port forwarding.
port = ${endpoint.port}

# The tunnel's network interface (at start).
interface = "${DEFAULTS.interface}"

# The addresses that devices get (at start). The first one is the server's. A device keeps its address for as long as
# it exists, so do not change these once there are devices. IPv6: a random unique local prefix (RFC 4193).
pool4 = "${pool4}"
pool6 = "${pool6}"

# The DNS resolvers that clients use, through the tunnel. They stand in new .conf files.
dns = [${DEFAULTS.dns.map((address) => `"${address}"`).join(', ')}]

# Bytes of the largest packet inside the tunnel, 1280 to 9000 (at start). 1420 fits into 1500 with room to spare.
mtu = ${DEFAULTS.mtu}

# "off" turns segmentation offload off, for a network card or a kernel that gets it wrong (at start).
gso = "${DEFAULTS.gso}"

# Clients reach the internet and nothing else: not this server, not the networks that it stands in. Networks named here
# are open to them all the same, for example ["192.168.1.0/24"]. This server's own services stay closed in them; an address
# that stands here by itself opens those that listen on it.
allow_private = []

# true: clients may reach each other.
allow_clients = ${DEFAULTS.allow_clients}

# Where users and devices are kept (at start). "sqlite": in registry.db in the state folder.
registry = "${DEFAULTS.registry}"

# "error", "warn", "info" or "debug".
log_level = "${DEFAULTS.log_level}"

# For carriers other than plain UDP.
[carriers]
# The DNS zone that is delegated to this server.
${carrier('dns_zone', dnsZone, 't.example.org')}
# The name or address under which this server is a web server.
${carrier('web_host', webHost, 'www.example.org')}
`
}

/** Keys that differ between two configs and that only a new start would bring into force. */
export function startOnlyChanges(running: Config, wanted: Config): readonly string[] {
  const keys = {
    port: running.port !== wanted.port,
    interface: running.interfaceName !== wanted.interfaceName,
    pool4: running.pool4 !== wanted.pool4,
    pool6: running.pool6 !== wanted.pool6,
    mtu: running.mtu !== wanted.mtu,
    gso: running.gso !== wanted.gso,
    registry: running.registry !== wanted.registry,
  }
  return Object.entries(keys).flatMap(([key, differs]) => (differs ? [key] : []))
}

/** The port of the endpoint and of the server, unless said otherwise. */
export const DEFAULT_PORT = parsePort(51820)

/** A string that one of the tunnel's parsers reads; its sentence becomes the issue. */
function read<T>(parser: (text: string) => T) {
  return z.string().transform((text, context): T => {
    try {
      return parser(text)
    } catch (error) {
      if (!(error instanceof TunnelError)) throw error
      context.addIssue({ code: 'custom', message: error.message })
      return z.NEVER
    }
  })
}

/** The longest IPv4 prefix leaves a few devices, the longest IPv6 prefix at least as many numbers as any IPv4 one. */
function poolOf(family: 4 | 6, shortest: number, longest: number) {
  return read(parseCidr).refine(
    (cidr) =>
      familyOf(cidr) === family && prefixLengthOf(cidr) >= shortest && prefixLengthOf(cidr) <= longest,
    `expected an IPv${family} prefix of length ${shortest} to ${longest}`,
  )
}

function explain(issues: readonly z.core.$ZodIssue[]): string {
  const issue = issues[0]
  if (issue === undefined) return 'something is wrong'
  const key = issue.path.map((part) => (typeof part === 'number' ? `${part + 1}` : String(part))).join('.')
  switch (issue.code) {
    case 'unrecognized_keys': {
      const name = [...issue.path, issue.keys[0]].join('.')
      return `unknown key "${name}"; this version knows ${knownKeys(issue.path)}`
    }
    case 'invalid_type':
      if (issue.message.endsWith('received undefined')) return `the key "${key}" is missing`
      return `key "${key}": expected ${WORDS[issue.expected] ?? issue.expected}`
    case 'invalid_value':
      return `key "${key}": expected ${issue.values.map((value) => `"${String(value)}"`).join(' or ')}`
    case 'too_big':
    case 'too_small':
    case 'invalid_format':
    case 'not_multiple_of':
    case 'invalid_union':
    case 'invalid_key':
    case 'invalid_element':
    case 'custom':
      return `key "${key}": ${issue.message}`
  }
}

function knownKeys(path: readonly PropertyKey[]): string {
  return Object.keys(path.length === 0 ? shape.shape : carriers.shape).join(', ')
}

const WORDS: Readonly<Record<string, string>> = {
  string: 'a string in quotes',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list in brackets',
  object: 'a table',
}

const DEFAULTS = {
  interface: 'culvert-srv',
  dns: ['9.9.9.9', '1.1.1.1', '2620:fe::fe'].map(parseIp),
  mtu: 1420,
  gso: 'auto',
  allow_clients: false,
  registry: 'sqlite',
  log_level: 'info',
} as const

const carriers = z.strictObject({
  dns_zone: read(parseHostName).optional(),
  web_host: read((text) =>
    text.includes(':') ? parseIp(text) : parseEndpoint(text, DEFAULT_PORT).host,
  ).optional(),
})

const shape = z.strictObject({
  endpoint: read((text) => parseEndpoint(text, DEFAULT_PORT)),
  port: z
    .number()
    .transform((value, context): Port => {
      if (Number.isInteger(value) && value >= 1 && value <= 65535) return parsePort(value)
      context.addIssue({ code: 'custom', message: 'expected a port from 1 to 65535' })
      return z.NEVER
    })
    .default(DEFAULT_PORT),
  // IFNAMSIZ is 16 with its end; nft's and systemd's names allow less than the kernel's.
  interface: z
    .string()
    .regex(/^[A-Za-z][A-Za-z0-9-]{0,14}$/, 'expected 1 to 15 letters, digits or hyphens')
    .default(DEFAULTS.interface),
  pool4: poolOf(4, 8, 29),
  pool6: poolOf(6, 16, 96),
  dns: z.array(read(parseIp)).default([...DEFAULTS.dns]),
  // IPv6 needs 1280 (RFC 8200, 5).
  mtu: z.int().min(1280, 'expected 1280 to 9000').max(9000, 'expected 1280 to 9000').default(DEFAULTS.mtu),
  gso: z.enum(['auto', 'off']).default(DEFAULTS.gso),
  allow_private: z
    .array(read(parseCidr).refine((cidr) => !isDefaultRoute(cidr), 'expected a network, not everything'))
    .default([]),
  allow_clients: z.boolean().default(DEFAULTS.allow_clients),
  registry: z
    .string()
    .refine((value) => !/^postgres(?:ql)?:/.test(value), 'PostgreSQL is not supported yet: use "sqlite"')
    .pipe(z.literal('sqlite'))
    .default(DEFAULTS.registry),
  log_level: z.enum(logLevels).default(DEFAULTS.log_level),
  carriers: carriers.default({}),
})
