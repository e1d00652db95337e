/**
 * An ordinary program that keeps talking: `talk.ts ADDRESS SECONDS` asks the UDP echo service (RFC 862) ten times a second and prints
 * `{"sent":…,"lost":…,"which":[…]}` when the last answer has had five seconds.
 */
import { createSocket } from 'node:dgram'
import { fileURLToPath } from 'node:url'
import type { Host } from './host.ts'

/** What became of the questions. */
export interface Talked {
  readonly sent: number
  readonly lost: number
  /** Which were lost, the first ten, in order of asking. */
  readonly which: readonly number[]
}

/** Talks from a host. */
export async function talk(host: Host, address: string, seconds: number): Promise<Talked> {
  const argv = [process.execPath, fileURLToPath(import.meta.url), address, `${seconds}`]
  const said = await host.run(argv, { timeout: (seconds + 60) * 1000 })
  // This program's own words.
  return JSON.parse(said) as Talked
}

async function ask(address: string, seconds: number): Promise<Talked> {
  const socket = createSocket(address.includes(':') ? 'udp6' : 'udp4')
  const waiting = new Set<number>()
  socket.on('message', (message) => waiting.delete(message.readUInt32BE(0)))
  // While an address moves there may be no route for a moment: that question is lost, and the next one asked.
  socket.on('error', () => {})
  const sent = seconds * 10
  for (let i = 0; i < sent; i++) {
    const message = Buffer.alloc(100)
    message.writeUInt32BE(i, 0)
    waiting.add(i)
    socket.send(message, 7, address, () => {})
    await pause(100)
  }
  for (let waited = 0; waiting.size > 0 && waited < 50; waited++) await pause(100)
  socket.close()
  return { sent, lost: waiting.size, which: [...waiting].slice(0, 10) }
}

function pause(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds))
}

if (import.meta.main) {
  const [address = '', seconds = ''] = process.argv.slice(2)
  process.stdout.write(JSON.stringify(await ask(address, Number(seconds))))
}
