/**
 * OpenVPN in user space, point to point: TLS with two certificates made on the spot, each known to the other by its
 * fingerprint; ChaCha20-Poly1305; no offload to the kernel's ovpn module; --fast-io. Everything else is its default.
 */
import { createHash, X509Certificate } from 'node:crypto'
import { run } from '../lab/program.ts'
import { DEVICE, IPV4_UDP_HEADERS, PORT, type End, type OpenTunnel, type Pair } from './pair.ts'

/** Starts both ends. Resolves when the tunnel is up. */
export async function openOpenVpn(program: string, { near, far }: Pair): Promise<OpenTunnel> {
  const [nearIdentity, farIdentity] = await Promise.all([makeIdentity('near'), makeIdentity('far')])
  await using stack = new AsyncDisposableStack()
  const start = async (own: End, other: End, identity: Identity, fingerprint: string, role: string) => {
    const path = `/run/openvpn-${role}.conf`
    await own.host.write(path, config(own, other, identity, fingerprint, role))
    return stack.use(own.host.start([program, '--config', path]))
  }
  const ends = [
    await start(far, near, farIdentity, nearIdentity.fingerprint, 'server'),
    await start(near, far, nearIdentity, farIdentity.fingerprint, 'client'),
  ]
  for (const end of ends) await end.says(/Initialization Sequence Completed/, START_TIME)
  const open = stack.move()
  return {
    device: DEVICE,
    address: far.inside,
    programs: ends,
    headers: IPV4_UDP_HEADERS,
    [Symbol.asyncDispose]: () => open.disposeAsync(),
  }
}

interface Identity {
  /** PEM. */
  readonly key: string
  readonly certificate: string
  /** SHA-256 of the certificate, bytes in hex between colons. */
  readonly fingerprint: string
}

/** A key pair and a certificate that it signed itself. */
async function makeIdentity(name: string): Promise<Identity> {
  const curve = '-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout -'.split(' ')
  const both = await run(['openssl', 'req', '-x509', ...curve, '-days', '2', '-subj', `/CN=${name}`])
  const [key = '', certificate = ''] = ['PRIVATE KEY', 'CERTIFICATE'].map((label) => pem(both, label))
  const hash = createHash('sha256').update(new X509Certificate(certificate).raw).digest('hex')
  return { key, certificate, fingerprint: hash.toUpperCase().replace(/(..)(?!$)/g, '$1:') }
}

function pem(text: string, label: string): string {
  const block = new RegExp(`-----BEGIN ${label}-----[^-]*-----END ${label}-----\\n`).exec(text)
  if (block === null) throw new Error(`openssl gave no ${label.toLowerCase()}`)
  return block[0]
}

function config(own: End, other: End, identity: Identity, fingerprint: string, role: string): string {
  return `
    dev ${DEVICE}
    dev-type tun
    proto udp
    local ${own.outside}
    remote ${other.outside}
    port ${PORT}
    ifconfig ${own.inside} ${other.inside}
    tls-${role}
    ${role === 'server' ? 'dh none' : ''}
    peer-fingerprint ${fingerprint}
    data-ciphers CHACHA20-POLY1305
    disable-dco
    fast-io
    verb 3
<cert>
${identity.certificate}</cert>
<key>
${identity.key}</key>
`
}

/** Milliseconds for two programs to start and to shake hands. */
const START_TIME = 30_000
