/**
 * The .conf of wg-quick(8), both directions. Pure. Everything that the text asks for is either in the result or among
 * `refused`, with its line: nothing is dropped in silence, and nothing in it is ever run.
 */
import {
  formatEndpoint,
  parseCidr,
  parseEndpoint,
  parseHostName,
  parseInterfaceAddress,
  parseIp,
  parsePort,
  isIp,
  type Cidr,
  type Endpoint,
  type InterfaceAddress,
  type IpAddress,
  type Port,
} from './address.ts'
import { TunnelError } from './error.ts'
import { parsePublicKey, Secret, type PublicKey } from './key.ts'

/** A .conf as a value. */
export interface WgQuickConf {
  readonly privateKey: Secret
  readonly addresses: readonly InterfaceAddress[]
  readonly dns: readonly IpAddress[]
  /** Search domains, which wg-quick takes from the same line as the resolvers. */
  readonly searchDomains: readonly string[]
  /** Bytes; null: to be found. */
  readonly mtu: number | null
  readonly listenPort: Port | null
  readonly peers: readonly WgQuickPeer[]
}

export interface WgQuickPeer {
  readonly publicKey: PublicKey
  readonly presharedKey: Secret | null
  readonly endpoint: Endpoint | null
  readonly allowedIps: readonly Cidr[]
  /** Seconds; 0: none. */
  readonly persistentKeepalive: number
}

/** A line that asks for something that Culvert does not do. */
export interface Refused {
  readonly line: number
  readonly key: string
  /** One sentence: why. */
  readonly reason: string
}

export interface ParsedConf {
  readonly conf: WgQuickConf
  readonly refused: readonly Refused[]
}

/**
 * Reads a .conf.
 * @param name stands in errors before the line, as a file's name would.
 * @throws TunnelError `bad-format`: one sentence with name, line, key and what was expected.
 */
export function parseWgQuick(source: string, name: string): ParsedConf {
  if (source.length > MAX_LENGTH)
    throw new TunnelError('bad-format', `${name} is too large to be a WireGuard .conf file`)
  const sections = readSections(source, name)
  const refused: Refused[] = []
  const interfaces = sections.filter((section) => section.name === 'interface')
  const peers = sections.filter((section) => section.name === 'peer')
  const own = interfaces[0]
  if (own === undefined) throw new TunnelError('bad-format', `${name} has no [Interface] section`)
  if (interfaces[1] !== undefined) {
    throw new TunnelError(
      'bad-format',
      `${name} line ${interfaces[1].line}: there is a second [Interface] section`,
    )
  }
  if (peers.length === 0)
    throw new TunnelError('bad-format', `${name} has no [Peer] section, so there is nobody to connect to`)
  const conf = {
    ...readInterface(own, name, refused),
    peers: peers.map((peer) => readPeer(peer, name, refused)),
  }
  const seen = new Set<string>()
  for (const [i, peer] of conf.peers.entries()) {
    if (seen.has(peer.publicKey)) {
      throw new TunnelError(
        'bad-format',
        `${name} line ${peers[i]?.line}: two [Peer] sections have the same PublicKey`,
      )
    }
    seen.add(peer.publicKey)
  }
  return { conf, refused }
}

/** Writes a .conf: for a file of mode 0600 or a screen that is shown once, since the private key stands in it. */
export function formatWgQuick(conf: WgQuickConf): string {
  const lines = ['[Interface]', `PrivateKey = ${conf.privateKey.base64()}`]
  if (conf.addresses.length > 0) lines.push(`Address = ${conf.addresses.join(', ')}`)
  const dns = [...conf.dns, ...conf.searchDomains]
  if (dns.length > 0) lines.push(`DNS = ${dns.join(', ')}`)
  if (conf.mtu !== null) lines.push(`MTU = ${conf.mtu}`)
  if (conf.listenPort !== null) lines.push(`ListenPort = ${conf.listenPort}`)
  for (const peer of conf.peers) {
    lines.push('', '[Peer]', `PublicKey = ${peer.publicKey}`)
    if (peer.presharedKey !== null) lines.push(`PresharedKey = ${peer.presharedKey.base64()}`)
    if (peer.allowedIps.length > 0) lines.push(`AllowedIPs = ${peer.allowedIps.join(', ')}`)
    if (peer.endpoint !== null) lines.push(`Endpoint = ${formatEndpoint(peer.endpoint)}`)
    if (peer.persistentKeepalive > 0) lines.push(`PersistentKeepalive = ${peer.persistentKeepalive}`)
  }
  return `${lines.join('\n')}\n`
}

interface Line {
  readonly line: number
  readonly key: string
  readonly value: string
}

interface Section {
  readonly name: 'interface' | 'peer'
  readonly line: number
  readonly lines: readonly Line[]
}

function readSections(source: string, name: string): readonly Section[] {
  const sections: { name: 'interface' | 'peer'; line: number; lines: Line[] }[] = []
  for (const [i, raw] of source.split(/\r\n|\n|\r/).entries()) {
    const line = i + 1
    const content = (i === 0 ? raw.replace(/^\uFEFF/, '') : raw).replace(/#.*$/, '').trim()
    if (content === '') continue
    // Keys and values stand in what we say of them, and must not speak to the terminal.
    if (/[^\P{Cc}\t]/u.test(content))
      throw new TunnelError('bad-format', `${name} line ${line}: there is a control character`)
    const header = /^\[(.*)\]$/.exec(content)?.[1]?.trim().toLowerCase()
    if (header === 'interface' || header === 'peer') {
      sections.push({ name: header, line, lines: [] })
      continue
    }
    const section = sections.at(-1)
    const equals = content.indexOf('=')
    if (header !== undefined || equals < 1 || section === undefined) {
      const expected = section === undefined ? '[Interface] or [Peer]' : '[Interface], [Peer] or KEY = VALUE'
      throw new TunnelError('bad-format', `${name} line ${line}: expected ${expected}`)
    }
    section.lines.push({
      line,
      key: content.slice(0, equals).trim(),
      value: content.slice(equals + 1).trim(),
    })
  }
  return sections
}

function readInterface(section: Section, name: string, refused: Refused[]): Omit<WgQuickConf, 'peers'> {
  let privateKey: Secret | null = null
  let mtu: number | null = null
  let listenPort: Port | null = null
  const addresses: InterfaceAddress[] = []
  const dns: IpAddress[] = []
  const searchDomains: string[] = []
  for (const entry of section.lines) {
    at(name, entry, () => {
      switch (entry.key.toLowerCase()) {
        case 'privatekey':
          privateKey = Secret.parse(entry.value)
          return
        case 'address':
          addresses.push(...list(entry.value).map(parseInterfaceAddress))
          return
        case 'dns':
          for (const item of list(entry.value)) {
            if (isIp(item)) dns.push(parseIp(item))
            else searchDomains.push(parseHostName(item))
          }
          return
        case 'mtu':
          mtu = integer(entry.value, MIN_MTU, MAX_MTU)
          return
        case 'listenport':
          listenPort = entry.value === '0' ? null : parsePort(entry.value)
          return
        default:
          refused.push(refusal(entry))
      }
    })
  }
  if (privateKey === null) {
    throw new TunnelError(
      'bad-format',
      `${name} line ${section.line}: the [Interface] section has no PrivateKey`,
    )
  }
  if (addresses.length === 0) {
    throw new TunnelError(
      'bad-format',
      `${name} line ${section.line}: the [Interface] section has no Address`,
    )
  }
  return { privateKey, addresses, dns, searchDomains, mtu, listenPort }
}

function readPeer(section: Section, name: string, refused: Refused[]): WgQuickPeer {
  let publicKey: PublicKey | null = null
  let presharedKey: Secret | null = null
  let endpoint: Endpoint | null = null
  let persistentKeepalive = 0
  const allowedIps = new Set<Cidr>()
  for (const entry of section.lines) {
    at(name, entry, () => {
      switch (entry.key.toLowerCase()) {
        case 'publickey':
          publicKey = parsePublicKey(entry.value)
          return
        case 'presharedkey':
          presharedKey = Secret.parse(entry.value)
          return
        case 'endpoint':
          endpoint = parseEndpoint(entry.value)
          return
        case 'allowedips':
          for (const item of list(entry.value)) allowedIps.add(parseCidr(item))
          return
        case 'persistentkeepalive':
          persistentKeepalive = entry.value === 'off' ? 0 : integer(entry.value, 0, 65535)
          return
        default:
          refused.push(refusal(entry))
      }
    })
  }
  if (publicKey === null) {
    throw new TunnelError('bad-format', `${name} line ${section.line}: the [Peer] section has no PublicKey`)
  }
  return { publicKey, presharedKey, endpoint, allowedIps: [...allowedIps], persistentKeepalive }
}

/** Puts name, line and key before what a parser of one value says. */
function at(name: string, entry: Line, read: () => void): void {
  try {
    read()
  } catch (cause) {
    if (!(cause instanceof TunnelError)) throw cause
    throw new TunnelError('bad-format', `${name} line ${entry.line}: ${entry.key}: ${cause.message}`, {
      cause,
    })
  }
}

function refusal({ line, key }: Line): Refused {
  const hook = /^(?:pre|post)(?:up|down)$/i.test(key)
  const known = KNOWN_REFUSED[key.toLowerCase()]
  const reason = hook
    ? 'it runs a command as root, and Culvert never runs a command from a profile'
    : (known ?? 'Culvert does not know this key')
  return { line, key, reason }
}

function list(value: string): readonly string[] {
  return value
    .split(',')
    .map((item) => item.trim())
    .filter((item) => item !== '')
}

function integer(value: string, least: number, most: number): number {
  const found = /^\d{1,9}$/.test(value) ? Number(value) : NaN
  if (!(found >= least && found <= most)) {
    throw new TunnelError('bad-format', `"${value.slice(0, 40)}" is not a number from ${least} to ${most}`)
  }
  return found
}

const KNOWN_REFUSED: Readonly<Record<string, string>> = {
  table: 'Culvert has its own routing table',
  fwmark: 'Culvert has its own mark',
  saveconfig: 'Culvert keeps the profile itself',
}

/** IPv6 needs 1280 (RFC 8200); an IPv4-only tunnel may have less. */
const MIN_MTU = 576
const MAX_MTU = 9000
/** A .conf of a thousand peers is below this. */
const MAX_LENGTH = 256 * 1024
