/**
 * Finds the addresses of a server's name outside the tunnel: a small resolver on sockets that bear our mark, since the
 * system's own would ask through the tunnel, or in front of everybody. /etc/hosts first, as getaddrinfo(3) would; then the
 * uplink's name servers, A and AAAA at once, two rounds over all of them.
 *
 * An answer is believed when it comes from where the question went, bears its random id, and repeats it (RFC 5452). One that
 * was cut (TC) is asked again over TCP (RFC 7766). Everything else that arrives is passed over.
 */
import { randomInt } from 'node:crypto'
import type { Socket as UdpSocket } from 'node:dgram'
import type { Socket as TcpSocket } from 'node:net'
import { familyOf, isIp, parseIp, TunnelError, type Family, type IpAddress, type Port } from '@culvert/tunnel'
import dnsPacket, { type Answer, type DecodedPacket } from 'dns-packet'
import { HelperError } from './error.ts'

/** How sockets outside the tunnel are had: marked ones in the daemon, plain ones in tests. */
export interface OutsideSockets {
  /** A UDP socket of a family on a port that the kernel draws. */
  udp(family: Family): UdpSocket
  /** A TCP connection being opened; `connect`, `error` and the rest follow as usual. */
  tcp(address: IpAddress, port: number): TcpSocket
}

/** Whom to ask. */
export interface ResolverOptions {
  readonly sockets: OutsideSockets
  /** What /etc/hosts says of a name. */
  hosts(name: string): Promise<readonly IpAddress[]>
  /** The uplink's name servers. */
  servers(): Promise<readonly IpAddress[]>
  /** Theirs; 53 but in tests. */
  readonly port: Port
  /** Milliseconds until the next server is asked. */
  readonly patience: number
}

/**
 * The addresses of a name, IPv4 first; at least one.
 * @throws HelperError `failed`, one sentence: nobody to ask, nobody answered, or there is no such name.
 */
export async function resolveName(
  name: string,
  options: ResolverOptions,
  signal: AbortSignal,
): Promise<readonly IpAddress[]> {
  if (isIp(name)) return [parseIp(name)]
  const local = await options.hosts(name)
  if (local.length > 0) return local
  const servers = await options.servers()
  if (servers.length === 0) {
    throw new HelperError(
      'failed',
      `nobody outside the tunnel can be asked where "${name}" is: no name server is known but local ones; give the profile the server's IP address`,
    )
  }
  const outcomes = await Promise.all(
    (['A', 'AAAA'] as const).map((type) => askAll(servers, { name, type }, options, signal)),
  )
  const addresses = outcomes.flatMap((outcome) => (outcome.tag === 'answer' ? outcome.addresses : []))
  if (addresses.length > 0) return [...new Set(addresses)]
  if (outcomes.some(({ tag }) => tag === 'answer')) {
    throw new HelperError('failed', `the name servers know no address of "${name}"`)
  }
  throw new HelperError('failed', `no name server answered for "${name}": asked ${servers.join(', ')}`)
}

interface Question {
  readonly name: string
  readonly type: 'A' | 'AAAA'
}

type Outcome =
  /** None of that type when empty: the name does not exist, or has none. */
  | { readonly tag: 'answer'; readonly addresses: readonly IpAddress[] }
  /** It refuses, fails, or says nothing. */
  | { readonly tag: 'useless' }

async function askAll(
  servers: readonly IpAddress[],
  question: Question,
  options: ResolverOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  for (const server of [...servers, ...servers]) {
    const outcome = await ask(server, question, options, signal)
    if (outcome.tag === 'answer') return outcome
  }
  return { tag: 'useless' }
}

async function ask(
  server: IpAddress,
  question: Question,
  options: ResolverOptions,
  signal: AbortSignal,
): Promise<Outcome> {
  signal.throwIfAborted()
  const patience = () => AbortSignal.any([signal, AbortSignal.timeout(options.patience)])
  try {
    const answer = await askUdp(server, question, options, patience())
    signal.throwIfAborted()
    if (answer === null) return { tag: 'useless' }
    if (!answer.flag_tc) return outcomeOf(answer, question)
    const whole = await askTcp(server, question, options, patience())
    signal.throwIfAborted()
    return whole === null ? { tag: 'useless' } : outcomeOf(whole, question)
  } catch (error) {
    // No socket: the kernel does not speak that family, say. Another server may be of the other one.
    if (error instanceof TunnelError) return { tag: 'useless' }
    throw error
  }
}

/** One datagram there, one back; null when none came in time. */
function askUdp(
  server: IpAddress,
  question: Question,
  { sockets, port }: ResolverOptions,
  patience: AbortSignal,
): Promise<DecodedPacket | null> {
  const id = randomInt(65_536)
  const socket = sockets.udp(familyOf(server))
  return new Promise((resolve) => {
    let isOpen = true
    const settle = (answer: DecodedPacket | null) => {
      patience.removeEventListener('abort', giveUp)
      // What was being sent when it closed fails once more.
      if (isOpen) socket.close()
      isOpen = false
      resolve(answer)
    }
    const giveUp = () => settle(null)
    patience.addEventListener('abort', giveUp, { once: true })
    socket.on('message', (message, from) => {
      if (from.port !== port || !isIp(from.address) || parseIp(from.address) !== server) return
      const answer = decode(message, id, question)
      if (answer !== null) settle(answer)
    })
    // No route: nobody will answer.
    socket.on('error', giveUp)
    socket.send(encode(id, question), port, server, (error) => {
      if (error !== null) giveUp()
    })
  })
}

/** The same over TCP: two bytes of length before each message (RFC 1035, 4.2.2). */
function askTcp(
  server: IpAddress,
  question: Question,
  { sockets, port }: ResolverOptions,
  patience: AbortSignal,
): Promise<DecodedPacket | null> {
  const id = randomInt(65_536)
  const socket = sockets.tcp(server, port)
  return new Promise((resolve) => {
    let received = Buffer.alloc(0)
    const settle = (answer: DecodedPacket | null) => {
      patience.removeEventListener('abort', giveUp)
      socket.destroy()
      resolve(answer)
    }
    const giveUp = () => settle(null)
    patience.addEventListener('abort', giveUp, { once: true })
    socket.on('error', giveUp)
    socket.on('close', giveUp)
    socket.on('data', (chunk: Buffer) => {
      received = Buffer.concat([received, chunk])
      const length = received.length < 2 ? Infinity : received.readUInt16BE(0)
      if (received.length >= 2 + length) settle(decode(received.subarray(2, 2 + length), id, question))
    })
    const message = encode(id, question)
    const head = Buffer.alloc(2)
    head.writeUInt16BE(message.length)
    socket.write(Buffer.concat([head, message]))
  })
}

function encode(id: number, { name, type }: Question): Buffer {
  return dnsPacket.encode({
    type: 'query',
    id,
    flags: dnsPacket.RECURSION_DESIRED,
    questions: [{ name, type, class: 'IN' }],
  })
}

/** A message that answers the question, or null: from the network comes anything. */
function decode(message: Buffer, id: number, { name, type }: Question): DecodedPacket | null {
  let packet: DecodedPacket
  try {
    packet = dnsPacket.decode(message)
  } catch {
    return null
  }
  const [asked, ...more] = packet.questions ?? []
  const same =
    packet.flag_qr &&
    packet.id === id &&
    asked?.type === type &&
    asked.name.toLowerCase() === name &&
    more.length === 0
  return same ? packet : null
}

/** The addresses that an answer gives the name, along its aliases. */
function outcomeOf(packet: DecodedPacket, { name, type }: Question): Outcome {
  // NXDOMAIN is an answer; SERVFAIL, REFUSED and the rest are another server's chance. The types miss `rcode`.
  const rcode = 'rcode' in packet ? packet.rcode : undefined
  if (rcode !== 'NOERROR' && rcode !== 'NXDOMAIN') return { tag: 'useless' }
  const answers: readonly Answer[] = packet.answers ?? []
  const names = new Set([name])
  for (let hop = 0; hop < MOST_ALIASES; hop++) {
    for (const answer of answers) {
      if (answer.type === 'CNAME' && names.has(answer.name.toLowerCase()))
        names.add(answer.data.toLowerCase())
    }
  }
  const addresses = answers.flatMap((answer) =>
    answer.type === type && names.has(answer.name.toLowerCase()) && isIp(answer.data)
      ? [parseIp(answer.data)]
      : [],
  )
  return { tag: 'answer', addresses }
}

/** Real chains have two or three. */
const MOST_ALIASES = 8
