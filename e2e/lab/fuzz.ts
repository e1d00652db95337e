/**
 * Throws datagrams at a server: `fuzz.ts ADDRESS PORT COUNT SEED [FILE]`. Of every type and length, from nothing to what fragments: noise, noise with
 * a message's header, messages of the right length, and real ones from FILE (hex, one a line) as they were, cut, grown or with bits
 * turned. The same seed throws the same.
 */
import { createCipheriv } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'

const [address = '', port = '', count = '', seed = '', file] = process.argv.slice(2)
const real = (file === undefined ? '' : readFileSync(file, 'utf8'))
  .split('\n')
  .filter(Boolean)
  .map((line) => Buffer.from(line, 'hex'))

const noise = createCipheriv('aes-128-ctr', Buffer.alloc(16, Number(seed)), Buffer.alloc(16))
const bytes = (length: number) => noise.update(Buffer.alloc(length))
const below = (limit: number) => bytes(4).readUInt32LE(0) % limit

const exact = [148, 92, 64, 32]
const shapes: readonly (() => Buffer)[] = [
  () => bytes(below(1600)),
  () => bytes(below(64)),
  () => bytes(below(60_000)),
  () => typed(bytes(4 + below(1500)), below(6)),
  () => typed(bytes(exact[below(exact.length)] ?? 0), 1 + below(4)),
  () => typed(bytes((exact[below(exact.length)] ?? 0) + below(5) - 2), 1 + below(4)),
  () => taken((message) => message),
  () => taken((message) => message.subarray(0, below(message.length + 1))),
  () => taken((message) => Buffer.concat([message, bytes(1 + below(100))])),
  () => taken(turned),
]

const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
for (let i = 0; i < Number(count); i++) {
  const message = shapes[i % shapes.length]?.() ?? Buffer.alloc(0)
  socket.send(message, Number(port), address)
  // Not faster than the receiving socket takes them: what the kernel drops tests nothing.
  if (i % 32 === 31) await new Promise((resolve) => setTimeout(resolve, 2))
}
socket.close()
await once(socket, 'close')

function typed(message: Buffer, type: number): Buffer {
  message.writeUInt32LE(type, 0)
  return message
}

function turned(message: Buffer): Buffer {
  const copy = Buffer.from(message)
  for (let i = 0; i <= below(3); i++)
    copy.writeUInt8(copy.readUInt8(below(copy.length)) ^ (1 << below(8)), below(copy.length))
  return copy
}

function taken(change: (message: Buffer) => Buffer): Buffer {
  const message = real[below(Math.max(real.length, 1))]
  return message === undefined ? bytes(148) : change(message)
}
