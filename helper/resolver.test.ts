import assert from 'node:assert/strict'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createConnection, createServer, type AddressInfo } from 'node:net'
import { describe, it } from 'node:test'
import { parseIp, parsePort, TunnelError, type IpAddress } from '@culvert/tunnel'
import dnsPacket, { type Answer, type DecodedPacket } from 'dns-packet'
import { HelperError } from './error.ts'
import { resolveName, type OutsideSockets, type ResolverOptions } from './resolver.ts'

const name = 'vpn.example.net'
const [v4, v6] = [parseIp('203.0.113.9'), parseIp('2001:db8::9')]
const loopback = parseIp('127.0.0.1')
const plain: OutsideSockets = {
  udp: (family) => createSocket(family === 4 ? 'udp4' : 'udp6'),
  tcp: (host, port) => createConnection({ host, port }),
}

/** What a name server of a test does with a question: messages to send back, the first as it is over TCP too. */
type Behaviour = (query: DecodedPacket, transport: 'udp' | 'tcp') => readonly Buffer[]

/** A name server on loopback, UDP and TCP on one port. */
async function nameServer(behaviour: Behaviour) {
  const stack = new AsyncDisposableStack()
  const tcp = createServer((socket) => {
    socket.on('error', () => {})
    socket.on('data', (data) => {
      const query = dnsPacket.decode(Buffer.from(data as Buffer).subarray(2))
      for (const answer of behaviour(query, 'tcp')) {
        const length = Buffer.alloc(2)
        length.writeUInt16BE(answer.length)
        // In two parts, as a network may.
        socket.write(Buffer.concat([length, answer.subarray(0, 5)]))
        socket.write(answer.subarray(5))
      }
    })
  })
  await new Promise<void>((resolve) => tcp.listen(0, loopback, resolve))
  stack.defer(() => void tcp.close())
  const { port } = tcp.address() as AddressInfo // of a TCP server
  const udp: UdpSocket = createSocket('udp4')
  await new Promise<void>((resolve) => udp.bind(port, loopback, resolve))
  stack.defer(() => void udp.close())
  udp.on('message', (message, from) => {
    for (const answer of behaviour(dnsPacket.decode(message), 'udp'))
      udp.send(answer, from.port, from.address)
  })
  return { port: parsePort(port), [Symbol.asyncDispose]: () => stack.disposeAsync() }
}

function answer(
  query: DecodedPacket,
  answers: Answer[],
  fields: { flags?: number; id?: number; name?: string } = {},
) {
  return dnsPacket.encode({
    type: 'response',
    id: fields.id ?? query.id ?? 0,
    flags: fields.flags ?? 0,
    questions: (query.questions ?? []).map((question) => ({
      ...question,
      name: fields.name ?? question.name,
    })),
    answers,
  })
}

/** The usual records, for a question of either type. */
function records(query: DecodedPacket, owner = name): Answer[] {
  return query.questions?.[0]?.type === 'A'
    ? [{ type: 'A', name: owner, ttl: 60, data: v4 }]
    : [{ type: 'AAAA', name: owner, ttl: 60, data: v6 }]
}

async function resolve(behaviour: Behaviour, options: Partial<ResolverOptions> = {}): Promise<unknown> {
  await using server = await nameServer(behaviour)
  const whole: ResolverOptions = {
    sockets: plain,
    hosts: () => Promise.resolve([]),
    servers: () => Promise.resolve([loopback]),
    port: server.port,
    patience: 150,
    ...options,
  }
  try {
    return await resolveName(name, whole, new AbortController().signal)
  } catch (error) {
    return error instanceof HelperError ? error.message : error
  }
}

describe('resolveName', () => {
  it('finds the addresses of both families, IPv4 first', async () => {
    assert.deepEqual(await resolve((query) => [answer(query, records(query))]), [v4, v6])
  })

  it('believes /etc/hosts before anybody', async () => {
    const hosts = (): Promise<readonly IpAddress[]> => Promise.resolve([v6])
    assert.deepEqual(await resolve(() => assert.fail('asked'), { hosts }), [v6])
  })

  it('follows aliases, whatever their case and order', async () => {
    const behaviour: Behaviour = (query) => [
      answer(query, [
        ...records(query, 'c.example'),
        { type: 'CNAME', name: 'B.example', data: 'c.example' },
        { type: 'CNAME', name, data: 'b.Example' },
      ]),
    ]
    assert.deepEqual(await resolve(behaviour), [v4, v6])
  })

  it('takes no address that is another name’s', async () => {
    assert.equal(
      await resolve((query) => [answer(query, records(query, 'evil.example'))]),
      `the name servers know no address of "${name}"`,
    )
  })

  it('passes over what does not answer its question, and waits for what does', async () => {
    const wrong: Answer[] = [{ type: 'A', name, ttl: 60, data: '192.0.2.66' }]
    const behaviour: Behaviour = (query) => [
      Buffer.from('garbage'),
      answer(query, wrong, { id: ((query.id ?? 0) + 1) & 0xffff }),
      answer(query, wrong, { name: 'evil.example' }),
      answer(query, records(query)),
    ]
    assert.deepEqual(await resolve(behaviour), [v4, v6])
  })

  it('asks again over TCP when an answer was cut', async () => {
    const behaviour: Behaviour = (query, transport) => [
      transport === 'udp'
        ? answer(query, [], { flags: dnsPacket.TRUNCATED_RESPONSE })
        : answer(query, records(query)),
    ]
    assert.deepEqual(await resolve(behaviour), [v4, v6])
  })

  it('asks again what was lost on the way', async () => {
    const seen = new Set<string>()
    const behaviour: Behaviour = (query) => {
      const type = query.questions?.[0]?.type ?? ''
      if (seen.has(type)) return [answer(query, records(query))]
      seen.add(type)
      return []
    }
    assert.deepEqual(await resolve(behaviour), [v4, v6])
  })

  it('goes to the next server when one refuses', async () => {
    const refused = 5
    const silent = parseIp('127.0.0.2')
    const servers = () => Promise.resolve([silent, loopback])
    let asked = 0
    const behaviour: Behaviour = (query) => [
      asked++ < 2 ? answer(query, [], { flags: refused }) : answer(query, records(query)),
    ]
    assert.deepEqual(await resolve(behaviour, { servers }), [v4, v6])
  })

  it('goes to the next server when the machine does not speak the family of one', async () => {
    const servers = () => Promise.resolve([parseIp('::1'), loopback])
    const sockets: OutsideSockets = {
      ...plain,
      udp: (family) => {
        if (family === 6) throw new TunnelError('fault', 'address family not supported by protocol')
        return plain.udp(family)
      },
    }
    assert.deepEqual(await resolve((query) => [answer(query, records(query))], { servers, sockets }), [
      v4,
      v6,
    ])
  })

  it('says that nobody answered, and who was asked', async () => {
    assert.equal(await resolve(() => []), `no name server answered for "${name}": asked 127.0.0.1`)
  })

  it('says that there is nobody to ask, and what to do', async () => {
    const servers = () => Promise.resolve([])
    assert.match(String(await resolve(() => [], { servers })), /no name server is known.*IP address$/)
  })

  it('uses another id and port each time', async () => {
    const seen: number[] = []
    const ports: number[] = []
    const sockets: OutsideSockets = {
      ...plain,
      udp(family) {
        const socket = plain.udp(family)
        socket.on('listening', () => ports.push(socket.address().port))
        return socket
      },
    }
    const behaviour: Behaviour = (query) => {
      seen.push(query.id ?? -1)
      return []
    }
    await resolve(behaviour, { sockets })
    // Two types, two rounds.
    assert.deepEqual([seen.length, new Set(seen).size, new Set(ports).size], [4, 4, 4])
  })

  it('ends at once when nobody wants to know any more', async () => {
    await using server = await nameServer(() => [])
    const abort = new AbortController()
    const options = {
      sockets: plain,
      hosts: () => Promise.resolve([]),
      servers: () => Promise.resolve([loopback]),
      port: server.port,
      patience: 60_000,
    }
    setImmediate(() => abort.abort())
    await assert.rejects(resolveName(name, options, abort.signal), { name: 'AbortError' })
  })
})
