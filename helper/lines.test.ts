import assert from 'node:assert/strict'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createConnection, createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import type { Message } from 'vscode-jsonrpc/node'
import { LineReader, LineWriter } from './lines.ts'

const directory = await mkdtemp(join(tmpdir(), 'culvert-lines-'))
after(() => rm(directory, { recursive: true }))
const limits = { messageBytes: 1024 * 1024, messagesPerSecond: Infinity }
const message = (text: string) => ({ jsonrpc: '2.0', method: 'x', text })

/** Two ends of a Unix socket. */
async function pair() {
  const path = join(directory, 'socket')
  const server = createServer().listen(path)
  await once(server, 'listening')
  const near = createConnection({ path })
  // The event's one argument.
  const [far] = (await once(server, 'connection')) as [Socket]
  server.close()
  const refusals: string[] = []
  const refuse = (reason: string) => {
    refusals.push(reason)
    near.destroy()
  }
  return {
    near,
    far,
    refusals,
    refuse,
    [Symbol.dispose]() {
      near.destroy()
      far.destroy()
    },
  }
}

describe('LineReader', () => {
  it('puts messages together, however they were cut', async () => {
    using ends = await pair()
    const seen: Message[] = []
    new LineReader(ends.near, limits, ends.refuse).listen((message) => seen.push(message))
    const sent = ['a', 'ü'.repeat(40_000), ''].map(message)
    const bytes = Buffer.from(sent.map((one) => `${JSON.stringify(one)}\n`).join(''))
    for (let at = 0, step = 1; at < bytes.length; at += step, step = (step * 7) % 5003) {
      ends.near.emit('data', bytes.subarray(at, at + step))
    }
    assert.deepEqual([seen, ends.refusals], [sent, []])
  })

  it('holds a message of single bytes in no more memory than one of large pieces', async () => {
    using ends = await pair()
    new LineReader(ends.near, limits, ends.refuse).listen(() => {})
    const before = process.memoryUsage()
    // As the socket gives them: each with memory of its own.
    for (let i = 0; i < 300_000; i++) ends.near.emit('data', Buffer.from(new ArrayBuffer(1)))
    const { rss } = process.memoryUsage()
    const grown = (rss - before.rss) / 1e6
    assert.ok(grown < 60, `300 kB took ${grown.toFixed()} MB`)
  })
})

describe('LineWriter', () => {
  it('writes a message of any length to somebody who reads', async () => {
    using ends = await pair()
    const long = message('x'.repeat(5 * limits.messageBytes))
    const line = Promise.withResolvers<string>()
    let text = ''
    ends.far.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (text.endsWith('\n')) line.resolve(text)
    })
    ends.near.once('close', () => line.resolve('closed'))
    await new LineWriter(ends.near, limits, ends.refuse).write(long)
    assert.deepEqual([(await line.promise).length, ends.refusals], [`${JSON.stringify(long)}\n`.length, []])
  })

  it('ends the connection of somebody who does not', async () => {
    using ends = await pair()
    const writer = new LineWriter(ends.near, limits, ends.refuse)
    for (let i = 0; i < 20; i++) await writer.write(message('x'.repeat(200_000)))
    assert.deepEqual(ends.refusals, ['what was sent is not being read'])
  })
})
