/**
 * What stands at the end of the road, and what the ISP puts in its place. A program: `website.ts open | blocked`.
 *
 *   open     HTTP on 80: `/` says which address asked; `/bytes/N` streams N bytes of one known sequence, whose hash anybody can work out.
 *            `POST /bytes` says what arrived: its length and its hash. TCP and UDP on 7: echo (RFC 862).
 *   blocked  HTTP on 8403: 403 for everything.
 *
 * One line on stdout for each request: `GET /path from ADDRESS`.
 */
import { createCipheriv, createHash, type Hash } from 'node:crypto'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { createServer as createTcpServer } from 'node:net'
import { createSocket } from 'node:dgram'
import { Readable } from 'node:stream'
import { once } from 'node:events'
import { pipeline } from 'node:stream/promises'

/** Says `listening` when it is. */
const READY = 'listening'
export const siteReady = new RegExp(READY)

/** The sequence that `/bytes/N` sends: no two blocks alike, so a lost, doubled or moved one changes the hash. */
export function* sequence(length: number): Generator<Buffer> {
  const cipher = createCipheriv('aes-128-ctr', Buffer.alloc(16), Buffer.alloc(16))
  const zeros = Buffer.alloc(CHUNK)
  for (let sent = 0; sent < length; sent += CHUNK) {
    yield cipher.update(length - sent < CHUNK ? zeros.subarray(0, length - sent) : zeros)
  }
}

/** SHA-256 of the first `length` bytes of the sequence, in hex. */
export function sequenceHash(length: number): string {
  const hash = createHash('sha256')
  for (const chunk of sequence(length)) hash.update(chunk)
  return hash.digest('hex')
}

async function open(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const you = addressOf(request)
  const length = /^\/bytes\/(\d{1,12})$/.exec(request.url ?? '')?.[1]
  if (length !== undefined) {
    response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': length })
    await pipeline(Readable.from(sequence(Number(length))), response)
  } else if (request.url === '/bytes' && request.method === 'POST') {
    let received = 0
    const hash: Hash = createHash('sha256')
    for await (const chunk of request as AsyncIterable<Buffer>) {
      received += chunk.length
      hash.update(chunk)
    }
    response.end(JSON.stringify({ received, sha256: hash.digest('hex') }))
  } else {
    response.writeHead(200, { 'content-type': 'application/json' }).end(`${JSON.stringify({ you })}\n`)
  }
}

function blocked(_request: IncomingMessage, response: ServerResponse): void {
  response.writeHead(403, { 'content-type': 'text/plain' }).end('This website is blocked.\n')
}

function addressOf(request: IncomingMessage): string {
  return (request.socket.remoteAddress ?? '').replace(/^::ffff:/, '')
}

async function serve(mode: 'open' | 'blocked'): Promise<void> {
  const server = createServer((request, response) => {
    process.stdout.write(`${request.method} ${request.url} from ${addressOf(request)}\n`)
    if (mode === 'blocked') blocked(request, response)
    else open(request, response).catch(() => response.destroy())
  })
  server.listen(mode === 'blocked' ? 8403 : 80, '::')
  await once(server, 'listening')
  if (mode === 'open') {
    const tcp = createTcpServer((socket) => socket.on('error', () => {}).pipe(socket)).listen(7, '::')
    await once(tcp, 'listening')
    const udp = createSocket('udp6')
    udp.on('message', (message, from) => udp.send(message, from.port, from.address))
    udp.bind(7, '::')
    await once(udp, 'listening')
  }
  process.stdout.write(`${READY}\n`)
}

const CHUNK = 1 << 18

if (import.meta.main) await serve(process.argv[2] === 'blocked' ? 'blocked' : 'open')
