/** The door for whoever calls the helper: the command line, the app, the tests. Typed calls over the Unix socket. */
import { createConnection, type Socket } from 'node:net'
import { createMessageConnection, NullLogger, ResponseError } from 'vscode-jsonrpc/node'
import { z } from 'zod'
import {
  PROTOCOL_VERSION,
  type HelperErrorCode,
  type MethodName,
  type ParamsOf,
  type ResultOf,
  type Snapshot,
  type Welcome,
} from './contract/index.ts'
import { HelperError } from './error.ts'
import { CLOSING, closeWith, lineLimits, LineReader, LineWriter } from './lines.ts'
import { methods, snapshotShape } from './schema.ts'

export { HelperError } from './error.ts'
export { SOCKET_PATH } from './host/names.ts'

/** A connection to the helper. */
export interface HelperClient extends AsyncDisposable {
  /** What the helper said first. */
  readonly welcome: Welcome
  /** @throws HelperError with the helper's own sentence, or `gone`. */
  call<M extends MethodName>(method: M, params: ParamsOf<M>): Promise<ResultOf<M>>
  /** Calls `listener` with every new state, until disposed. The state as it is now is the method `state`'s. */
  onState(listener: (snapshot: Snapshot) => void): Disposable
  /** Resolves to one sentence when the connection has ended. */
  readonly closed: Promise<string>
}

/**
 * Connects and says hello.
 * @param path of the socket.
 * @throws HelperError `not-running`, `not-permitted`, `version` or `gone`.
 */
export async function connectHelper(path: string, signal: AbortSignal): Promise<HelperClient> {
  const socket = await connectSocket(path, signal)
  const refuse = (reason: string) => {
    closing.reason ??= reason
    socket.destroy()
  }
  const closing: { reason: string | null } = { reason: null }
  // The helper is root and sends a message at every change of the state: only a message's length is of interest.
  const limits = { ...lineLimits, messagesPerSecond: Infinity, messageBytes: 16 * lineLimits.messageBytes }
  const rpc = createMessageConnection(
    new LineReader(socket, limits, refuse),
    new LineWriter(socket, limits, refuse),
    NullLogger,
  )
  const listeners = new Set<(snapshot: Snapshot) => void>()
  const closed = new Promise<string>((resolve) => {
    socket.once('close', () => {
      rpc.dispose() // ends what still waits for an answer
      resolve(closing.reason ?? 'the helper has gone')
    })
  })
  rpc.onNotification('state', (params: unknown) => {
    const snapshot = snapshotShape.safeParse(params)
    if (!snapshot.success) return refuse('the helper sent a state that is none: is it of another version?')
    for (const listener of listeners) listener(snapshot.data)
  })
  rpc.onNotification(CLOSING, (params: unknown) => {
    const said = closingShape.safeParse(params)
    closing.reason = said.success ? said.data.reason : null
  })
  rpc.listen()

  async function call<M extends MethodName>(method: M, params: ParamsOf<M>): Promise<ResultOf<M>> {
    let answer: unknown
    try {
      answer = await rpc.sendRequest(method, params)
    } catch (error) {
      const said = error instanceof ResponseError ? errorShape.safeParse(error.data) : null
      if (said?.success === true && error instanceof Error)
        throw new HelperError(said.data.code, error.message)
      throw new HelperError('gone', closing.reason ?? 'the helper went away before it answered', {
        cause: error,
      })
    }
    const result = methods[method].result.safeParse(answer)
    if (result.success) return result.data
    throw new HelperError('version', `the helper's answer to ${method} is none: is it of another version?`)
  }

  try {
    const welcome = await call('hello', { protocol: PROTOCOL_VERSION })
    return {
      welcome,
      call,
      onState(listener) {
        listeners.add(listener)
        return { [Symbol.dispose]: () => void listeners.delete(listener) }
      },
      closed,
      async [Symbol.asyncDispose]() {
        socket.end()
        socket.destroySoon()
        await closed
      },
    }
  } catch (error) {
    closeWith(socket, 'hello failed')
    throw error
  }
}

function connectSocket(path: string, signal: AbortSignal): Promise<Socket> {
  return new Promise((resolve, reject) => {
    // Not createConnection's own `signal`: that one would also end a connection that is long open.
    const socket = createConnection({ path })
    const tooLate = () => socket.destroy(new Error('the helper does not accept the connection'))
    signal.addEventListener('abort', tooLate, { once: true })
    socket.once('close', () => signal.removeEventListener('abort', tooLate))
    socket.once('connect', () => {
      signal.removeEventListener('abort', tooLate)
      socket.off('error', refused)
      // Later errors are a `close` too, which is what is listened to.
      socket.on('error', () => {})
      resolve(socket)
    })
    const refused = (cause: NodeJS.ErrnoException) => {
      if (cause.code === 'EACCES' || cause.code === 'EPERM') {
        reject(
          new HelperError(
            'not-permitted',
            `only root may use the helper at ${path}: there is no group for it`,
            {
              cause,
            },
          ),
        )
      } else if (cause.code === 'ENOENT' || cause.code === 'ECONNREFUSED') {
        reject(
          new HelperError('not-running', 'the helper is not running: start it with "sudo culvert-helper"', {
            cause,
          }),
        )
      } else {
        reject(new HelperError('gone', cause.message, { cause }))
      }
    }
    socket.once('error', refused)
  })
}

const closingShape = z.object({ reason: z.string() })

const codes = [
  'not-running',
  'gone',
  'not-permitted',
  'bad-request',
  'version',
  'unknown-profile',
  'name-taken',
  'in-use',
  'not-available',
  'bad-state',
  'failed',
] as const satisfies readonly HelperErrorCode[]
const errorShape = z.object({ code: z.enum(codes) })
