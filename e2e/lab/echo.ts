/**
 * An ordinary program that talks: `echo.ts tcp|udp ADDRESS COUNT` sends COUNT messages of many sizes to the echo service (RFC 862) and
 * exits 0 when each came back as it was, 1 when one did not.
 */
import { createHash, randomBytes } from 'node:crypto'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { connect } from 'node:net'

/** Larger than any MTU, so that UDP is fragmented inside the tunnel and TCP is segmented. */
const LARGEST = 4000

const [protocol, address = '', count = '1'] = process.argv.slice(2)
const messages = Array.from({ length: Number(count) }, (_, i) => randomBytes(1 + ((i * 97) % LARGEST)))
const digest = (message: Uint8Array) => createHash('sha256').update(message).digest('hex')

process.exit((protocol === 'tcp' ? await overTcp() : await overUdp()) ? 0 : 1)

async function overTcp(): Promise<boolean> {
  const socket = connect(7, address)
  await once(socket, 'connect')
  const received: Buffer[] = []
  socket.on('data', (chunk: Buffer) => received.push(chunk))
  for (const message of messages) socket.write(message)
  socket.end()
  await once(socket, 'close')
  return digest(Buffer.concat(received)) === digest(Buffer.concat(messages))
}

/** UDP may lose a message, and the ICMP errors that find the path's MTU with it: each is asked ten times before it counts as lost. */
async function overUdp(): Promise<boolean> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  for (const message of messages) {
    let back: Buffer | null = null
    for (let attempt = 0; attempt < 10 && back === null; attempt++) {
      socket.send(message, 7, address)
      const answer = once(socket, 'message', { signal: AbortSignal.timeout(1000) })
      back = await answer.then(([received]) => received as Buffer).catch(() => null)
    }
    if (back === null || digest(back) !== digest(message)) return false
  }
  return true
}
