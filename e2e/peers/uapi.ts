/**
 * WireGuard's configuration protocol (wireguard.com/xplatform): text over a Unix socket, the same for wireguard-go and boringtun. Together
 * with a small reader of .conf files it stands in for `wg` and `wg-quick`. Written apart from tunnel/, which it judges.
 */
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { connect } from 'node:net'

/** A .conf as pairs, in order, and which peer they belong to. Keys are in lower case. */
export interface Conf {
  readonly own: ReadonlyMap<string, string>
  readonly peers: readonly ReadonlyMap<string, string>[]
}

/** Reads a .conf. Knows no syntax but `Key = Value`, sections and comments. */
export function readConf(source: string): Conf {
  const own = new Map<string, string>()
  const peers: Map<string, string>[] = []
  let section = own
  for (const line of source.split('\n').map((line) => line.replace(/#.*/, '').trim())) {
    if (/^\[peer\]$/i.test(line)) peers.push((section = new Map()))
    const [key, ...value] = line.split('=')
    if (key === undefined || value.length === 0) continue
    const name = key.trim().toLowerCase()
    const before = section.get(name)
    section.set(name, (before === undefined ? '' : `${before},`) + value.join('=').trim())
  }
  return { own, peers }
}

/** The words of a `set` for that .conf. Endpoints have to be addresses: nobody here resolves. */
export function setCommand(conf: Conf): string {
  const lines = ['set=1', `private_key=${hex(conf.own.get('privatekey'))}`]
  const port = conf.own.get('listenport')
  if (port !== undefined) lines.push(`listen_port=${port}`)
  lines.push('replace_peers=true')
  for (const peer of conf.peers) {
    lines.push(`public_key=${hex(peer.get('publickey'))}`)
    const [psk, endpoint, keepalive] = ['presharedkey', 'endpoint', 'persistentkeepalive'].map((key) =>
      peer.get(key),
    )
    if (psk !== undefined) lines.push(`preshared_key=${hex(psk)}`)
    if (endpoint !== undefined) lines.push(`endpoint=${endpoint}`)
    if (keepalive !== undefined) lines.push(`persistent_keepalive_interval=${keepalive}`)
    for (const prefix of list(peer.get('allowedips'))) lines.push(`allowed_ip=${prefix}`)
  }
  return `${lines.join('\n')}\n\n`
}

/** The elements of a comma-separated value. */
export function list(value: string | undefined): readonly string[] {
  return (value ?? '')
    .split(',')
    .map((part) => part.trim())
    .filter(Boolean)
}

/** Sends a command to a device's socket; gives the pairs of the answer. @throws Error when errno isn't 0. */
export async function uapi(socket: string, command: string): Promise<readonly (readonly [string, string])[]> {
  const connection = connect(socket)
  // Written and closed: boringtun answers only a whole request.
  connection.write(command)
  const answer = new Promise<string>((resolve, reject) => {
    let said = ''
    connection.setEncoding('utf8').on('data', (chunk: string) => {
      said += chunk
      if (said.endsWith('\n\n')) resolve(said)
    })
    connection.on('error', reject).on('end', () => resolve(said))
  })
  const pairs = (await answer).split('\n').filter(Boolean)
  connection.destroy()
  const errno = pairs.find((pair) => pair.startsWith('errno='))
  if (errno !== 'errno=0') throw new Error(`${socket} refused: ${errno ?? 'no answer'}`)
  return pairs.map((pair) => [pair.slice(0, pair.indexOf('=')), pair.slice(pair.indexOf('=') + 1)] as const)
}

/** A fresh key pair in base64, made by node:crypto. */
export function makeKeys(): { privateKey: string; publicKey: string } {
  const { privateKey, publicKey } = generateKeyPairSync('x25519')
  const base64 = (part: string | undefined) => Buffer.from(part ?? '', 'base64url').toString('base64')
  return {
    privateKey: base64(privateKey.export({ format: 'jwk' }).d),
    publicKey: base64(publicKey.export({ format: 'jwk' }).x),
  }
}

/** A fresh preshared key in base64. */
export function makePresharedKey(): string {
  return randomBytes(32).toString('base64')
}

function hex(base64: string | undefined): string {
  const bytes = Buffer.from(base64 ?? '', 'base64')
  if (bytes.length !== 32) throw new Error('a key in the .conf is not 32 bytes of base64')
  return bytes.toString('hex')
}
