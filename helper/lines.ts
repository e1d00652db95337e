/**
 * JSON-RPC messages on a Unix socket: one JSON object a line. vscode-jsonrpc's own reader takes messages of any length and
 * any number; this one has limits, and says why before it closes.
 */
import type { Socket } from 'node:net'
import {
  AbstractMessageReader,
  AbstractMessageWriter,
  type DataCallback,
  type Disposable as RpcDisposable,
  type Message,
  type MessageReader,
  type MessageWriter,
} from 'vscode-jsonrpc/node'

/** How much one side takes from the other. */
export interface LineLimits {
  /** Bytes of one message. */
  readonly messageBytes: number
  /** Messages in a second, and as many at once after a pause. */
  readonly messagesPerSecond: number
}

/** Limits that nobody who means well comes near. */
export const lineLimits: LineLimits = { messageBytes: 1024 * 1024, messagesPerSecond: 100 }

/** The last line of a connection that is being closed: `{"jsonrpc":"2.0","method":"closing","params":{"reason":"…"}}`. */
export const CLOSING = 'closing'

/** Says why, and closes. What arrives after is not read. */
export function closeWith(socket: Socket, reason: string): void {
  if (socket.destroyed || socket.writableEnded) return
  socket.removeAllListeners('data')
  socket.end(`${JSON.stringify({ jsonrpc: '2.0', method: CLOSING, params: { reason } })}\n`)
  // It may never read, nor close its side.
  setTimeout(() => socket.destroy(), CLOSE_WITHIN).unref()
  socket.resume()
}

/** The messages that arrive at a socket. On the first thing that is wrong, `refuse` gets one sentence, and no more is read. */
export class LineReader extends AbstractMessageReader implements MessageReader {
  readonly #socket: Socket
  readonly #limits: LineLimits
  readonly #refuse: (reason: string) => void
  /** The message that is arriving: the first `#length` bytes. One buffer: kept apart, single bytes would take 500 each. */
  #message = Buffer.alloc(0)
  #length = 0
  #line = 0
  #allowance: number
  #refilled = performance.now()
  #refused = false

  constructor(socket: Socket, limits: LineLimits, refuse: (reason: string) => void) {
    super()
    this.#socket = socket
    this.#limits = limits
    this.#refuse = refuse
    this.#allowance = limits.messagesPerSecond
  }

  listen(callback: DataCallback): RpcDisposable {
    const receive = (chunk: Buffer) => this.#receive(chunk, callback)
    const close = () => this.fireClose()
    this.#socket.on('data', receive)
    this.#socket.on('close', close)
    return {
      dispose: () => {
        this.#socket.off('data', receive)
        this.#socket.off('close', close)
      },
    }
  }

  #receive(chunk: Buffer, callback: DataCallback): void {
    let rest = chunk
    for (let end = rest.indexOf(LINE_END); end >= 0; end = rest.indexOf(LINE_END)) {
      this.#keep(rest.subarray(0, end))
      rest = rest.subarray(end + 1)
      if (this.#length > this.#limits.messageBytes) break
      const text = this.#message.toString('utf8', 0, this.#length)
      this.#message = Buffer.alloc(0)
      this.#length = 0
      this.#line += 1
      const message = this.#admit(text)
      if (message === null) return
      callback(message)
      if (this.#refused) return
    }
    this.#keep(rest)
    if (this.#length > this.#limits.messageBytes) {
      this.#end(`message ${this.#line + 1} is longer than ${this.#limits.messageBytes} bytes`)
    }
  }

  #keep(part: Buffer): void {
    const length = this.#length + part.length
    if (length > this.#message.length) {
      const larger = Buffer.alloc(Math.max(length, 2 * this.#message.length))
      this.#message.copy(larger, 0, 0, this.#length)
      this.#message = larger
    }
    part.copy(this.#message, this.#length)
    this.#length = length
  }

  #admit(text: string): Message | null {
    const now = performance.now()
    const { messagesPerSecond } = this.#limits
    this.#allowance = Math.min(
      messagesPerSecond,
      this.#allowance + ((now - this.#refilled) / 1000) * messagesPerSecond,
    )
    this.#refilled = now
    if (this.#allowance < 1) return this.#end(`more than ${messagesPerSecond} messages in a second`)
    this.#allowance -= 1
    let read: unknown
    try {
      read = JSON.parse(text)
    } catch {
      return this.#end(`message ${this.#line} is not JSON: expected one JSON object a line`)
    }
    if (!isMessage(read)) {
      return this.#end(`message ${this.#line} is not JSON-RPC 2.0: expected {"jsonrpc":"2.0","method":…}`)
    }
    return read
  }

  #end(reason: string): null {
    this.#refused = true
    this.#refuse(reason)
    return null
  }
}

/** Writes messages to a socket, as long as the other side reads them. */
export class LineWriter extends AbstractMessageWriter implements MessageWriter {
  readonly #socket: Socket
  readonly #limits: LineLimits
  readonly #refuse: (reason: string) => void

  constructor(socket: Socket, limits: LineLimits, refuse: (reason: string) => void) {
    super()
    this.#socket = socket
    this.#limits = limits
    this.#refuse = refuse
    socket.on('close', () => this.fireClose())
  }

  write(message: Message): Promise<void> {
    if (this.#socket.destroyed || this.#socket.writableEnded) return Promise.resolve()
    // Judged by what waited before: a list of profiles is as long as it is.
    if (this.#socket.writableLength > this.#limits.messageBytes)
      this.#refuse('what was sent is not being read')
    else this.#socket.write(`${JSON.stringify(message)}\n`)
    return Promise.resolve()
  }

  end(): void {
    this.#socket.end()
  }
}

function isMessage(value: unknown): value is Message {
  return typeof value === 'object' && value !== null && 'jsonrpc' in value && value.jsonrpc === '2.0'
}

const LINE_END = 0x0a
/** Milliseconds. */
const CLOSE_WITHIN = 1_000
