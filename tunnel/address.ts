/**
 * Addresses as values: parsed once at the edge, canonical inside, so that `===` is equality and a Map key works.
 * Pure: no `node:` import, safe in a renderer.
 */
import { TunnelError } from './error.ts'

/** An IPv4 address in dotted form or an IPv6 address in the form of RFC 5952, without a zone. */
export type IpAddress = string & { readonly brand: 'IpAddress' }
/** A prefix `address/length` whose host bits are zero, in canonical form: `10.0.0.0/8`, `2001:db8::/32`. */
export type Cidr = string & { readonly brand: 'Cidr' }
/** An address that an interface has, with its prefix length and its host bits kept: `10.64.0.2/32`. */
export type InterfaceAddress = string & { readonly brand: 'InterfaceAddress' }
/** A transport port, 1 to 65535; 0 stands for "the kernel chooses" where a docstring says so. */
export type Port = number & { readonly brand: 'Port' }

/** Where a server is said to be: a name or an address, and a port. */
export interface Endpoint {
  readonly host: string
  readonly port: Port
}

/** Where a server is: an address and a port. */
export interface SocketAddress {
  readonly address: IpAddress
  readonly port: Port
}

export type Family = 4 | 6

/** Reads an IPv4 or IPv6 address. @throws TunnelError `bad-format` naming `text`. */
export function parseIp(text: string): IpAddress {
  const bytes = ipBytes(text)
  if (bytes === null) throw bad(text, 'an IPv4 or IPv6 address')
  return formatIp(bytes)
}

/** The family of a canonical address or prefix. */
export function familyOf(address: IpAddress | Cidr | InterfaceAddress): Family {
  return address.includes(':') ? 6 : 4
}

/** The 4 or 16 bytes of an address in network order, or null when `text` is not an address. */
export function ipBytes(text: string): Uint8Array | null {
  return text.includes(':') ? ipv6Bytes(text) : ipv4Bytes(text)
}

/** The canonical form of 4 or 16 bytes in network order (RFC 5952: longest run of zero groups, lower case). */
export function formatIp(bytes: Uint8Array): IpAddress {
  if (bytes.length === 4) return bytes.join('.') as IpAddress
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i] ?? 0) << 8) | (bytes[2 * i + 1] ?? 0))
  let start = -1
  let length = 1 // a single zero group is written out
  for (let i = 0; i < 8; i++) {
    let end = i
    while (end < 8 && groups[end] === 0) end++
    if (end - i > length) [start, length] = [i, end - i]
    if (end > i) i = end
  }
  const hex = groups.map((group) => group.toString(16))
  if (start < 0) return hex.join(':') as IpAddress
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}` as IpAddress
}

/**
 * Reads `address/length`, or a bare address as a host prefix. Host bits are cleared, as `wg` does.
 * @throws TunnelError `bad-format` naming `text`.
 */
export function parseCidr(text: string): Cidr {
  const { bytes, length } = prefix(text)
  for (let bit = length; bit < bytes.length * 8; bit++) {
    bytes[bit >> 3] = (bytes[bit >> 3] ?? 0) & ~(0x80 >> (bit & 7))
  }
  return `${formatIp(bytes)}/${length}` as Cidr
}

/** Reads an interface's `address/length`, or a bare address as /32 or /128. @throws TunnelError `bad-format`. */
export function parseInterfaceAddress(text: string): InterfaceAddress {
  const { bytes, length } = prefix(text)
  return `${formatIp(bytes)}/${length}` as InterfaceAddress
}

/** The address of `address/length` without its length. */
export function addressOf(cidr: Cidr | InterfaceAddress): IpAddress {
  return cidr.slice(0, cidr.indexOf('/')) as IpAddress
}

/** The length of `address/length` in bits. */
export function prefixLengthOf(cidr: Cidr | InterfaceAddress): number {
  return Number(cidr.slice(cidr.indexOf('/') + 1))
}

/** The network that an interface address lies in. */
export function networkOf(address: InterfaceAddress): Cidr {
  return parseCidr(address)
}

/** Whether every address of `inner` (an address or a prefix) lies in `outer`. */
export function contains(outer: Cidr, inner: IpAddress | Cidr): boolean {
  if (familyOf(outer) !== familyOf(inner)) return false
  const length = prefixLengthOf(outer)
  if (inner.includes('/') && prefixLengthOf(inner as Cidr) < length) return false
  const address = inner.includes('/') ? addressOf(inner as Cidr) : inner
  return parseCidr(`${address}/${length}`) === outer
}

/** Whether a prefix is the default route of its family. */
export function isDefaultRoute(cidr: Cidr): boolean {
  return prefixLengthOf(cidr) === 0
}

/** Reads a port, 1 to 65535. @throws TunnelError `bad-format`. */
export function parsePort(text: string | number): Port {
  const port = typeof text === 'number' ? text : /^\d{1,5}$/.test(text) ? Number(text) : NaN
  if (!Number.isInteger(port) || port < 1 || port > 65535) throw bad(String(text), 'a port from 1 to 65535')
  return port as Port
}

/**
 * Reads `host:port`, `1.2.3.4:port` or `[v6]:port`. With `defaultPort` the port may be left out.
 * @throws TunnelError `bad-format` naming `text`.
 */
export function parseEndpoint(text: string, defaultPort?: Port): Endpoint {
  const match = /^(?:\[([^\]]*)\]|([^:[\]]+))(?::(\d+))?$/.exec(text)
  const bare = match === null && defaultPort !== undefined && ipv6Bytes(text) !== null ? text : null
  const host = bare ?? match?.[1] ?? match?.[2]
  if (host === undefined) throw bad(text, 'HOST:PORT, or [IPV6]:PORT')
  const port = bare === null ? match?.[3] : undefined
  if (port === undefined && defaultPort === undefined) {
    throw bad(text, 'HOST:PORT; the port is missing')
  }
  if (bare === null && match?.[1] !== undefined && ipv6Bytes(host) === null) {
    throw bad(text, 'an IPv6 address in the brackets')
  }
  return {
    host: isIp(host) ? parseIp(host) : parseHostName(host),
    port: port === undefined ? (defaultPort ?? parsePort('')) : parsePort(port),
  }
}

/** Whether `text` is an IPv4 or IPv6 address. */
export function isIp(text: string): boolean {
  return ipBytes(text) !== null
}

/** `host:port`, with brackets around an IPv6 address. */
export function formatEndpoint(endpoint: Endpoint | SocketAddress): string {
  const host = 'host' in endpoint ? endpoint.host : endpoint.address
  return host.includes(':') ? `[${host}]:${endpoint.port}` : `${host}:${endpoint.port}`
}

/** Reads a DNS host name: labels of letters, digits and hyphens (RFC 1123), lower-cased, at most 253 octets. */
export function parseHostName(text: string): string {
  const name = text.toLowerCase().replace(/\.$/, '')
  const label = /^[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?$/
  const allDigits = /^[0-9.]+$/.test(name) // 10.0.0 or 256.1.1.1: a broken address, never a name
  if (
    name.length === 0 ||
    name.length > 253 ||
    allDigits ||
    !name.split('.').every((part) => label.test(part))
  ) {
    throw bad(text, 'a host name or an IP address')
  }
  return name
}

function prefix(text: string): { bytes: Uint8Array; length: number } {
  const slash = text.indexOf('/')
  const bytes = ipBytes(slash < 0 ? text : text.slice(0, slash))
  if (bytes === null) throw bad(text, 'an address with a prefix length, like 10.0.0.0/8 or fd00::/48')
  const bits = bytes.length * 8
  if (slash < 0) return { bytes, length: bits }
  const digits = text.slice(slash + 1)
  if (!/^\d{1,3}$/.test(digits) || Number(digits) > bits) throw bad(text, `a prefix length from 0 to ${bits}`)
  return { bytes, length: Number(digits) }
}

function ipv4Bytes(text: string): Uint8Array | null {
  const parts = text.split('.')
  if (parts.length !== 4) return null
  const bytes = new Uint8Array(4)
  for (const [i, part] of parts.entries()) {
    // No leading zero: some programs read 010 as octal.
    if (!/^(?:0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return null
    bytes[i] = Number(part)
  }
  return bytes
}

function ipv6Bytes(text: string): Uint8Array | null {
  const halves = text.split('::')
  if (halves.length > 2) return null
  const head = groupBytes(halves[0] ?? '')
  const tail = halves.length === 2 ? groupBytes(halves[1] ?? '') : []
  if (head === null || tail === null) return null
  const given = head.length + tail.length
  if (halves.length === 2 ? given > 14 : given !== 16) return null
  const bytes = new Uint8Array(16)
  bytes.set(head, 0)
  bytes.set(tail, 16 - tail.length)
  return bytes
}

/** The bytes of `a:b:c` or `a:b:1.2.3.4`; an empty string has none. */
function groupBytes(text: string): number[] | null {
  if (text === '') return []
  const bytes: number[] = []
  const groups = text.split(':')
  for (const [i, group] of groups.entries()) {
    if (i === groups.length - 1 && group.includes('.')) {
      const v4 = ipv4Bytes(group)
      if (v4 === null) return null
      bytes.push(...v4)
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return null
      const value = Number.parseInt(group, 16)
      bytes.push(value >> 8, value & 0xff)
    }
  }
  return bytes
}

function bad(text: string, expected: string): TunnelError {
  const shown = text.length > 80 ? `${text.slice(0, 80)}…` : text
  return new TunnelError('bad-format', `"${shown}" is not ${expected}`)
}
