/**
 * The control socket: HTTP with JSON over a Unix socket of mode 0600, so that whoever may open it is root. No secret
 * passes it: keys are in the registry, and a request only names the device that changed there.
 *
 *   GET  /v1/status                       ▶ Status
 *   POST /v1/reload                       ▶ {added, changed, removed, atStart}
 *   POST /v1/devices/refresh {publicKey}  ▶ {change}
 *
 * A refusal is `{error: "one sentence"}` with a 4xx or 5xx status.
 */
import { once } from 'node:events'
import { chmodSync, rmSync } from 'node:fs'
import { createServer, request, type IncomingMessage } from 'node:http'
import { text } from 'node:stream/consumers'
import { parsePublicKey, TunnelError, type PublicKey } from '@culvert/tunnel/pure'
import type { Logger } from 'pino'
import { z } from 'zod'
import { errnoOf, sentenceOf, ServerError } from './error.ts'
import { statusShape, type Status } from './status.ts'

const reloadShape = z.object({
  added: z.number(),
  changed: z.number(),
  removed: z.number(),
  /** Keys of the config that changed and wait for the next start. */
  atStart: z.array(z.string()),
})
export type ReloadAnswer = z.infer<typeof reloadShape>

const refreshShape = z.object({ change: z.enum(['added', 'changed', 'removed', 'same']) })
export type RefreshAnswer = z.infer<typeof refreshShape>

/** What the running server does when asked. */
export interface Controlled {
  status(): Status
  reload(): Promise<ReloadAnswer>
  refresh(publicKey: PublicKey): RefreshAnswer
}

/**
 * Listens until disposed. The caller holds the lock of the state, so a socket that is there already is a dead one's.
 * @throws ServerError `bad-state` when the socket cannot be made.
 */
export async function listenForControl(
  path: string,
  controlled: Controlled,
  log: Logger,
): Promise<AsyncDisposable> {
  if (Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new ServerError(
      'bad-state',
      `${path} is too long for a Unix socket (${MAX_SOCKET_PATH} bytes): choose a shorter --state DIR`,
    )
  }
  rmSync(path, { force: true })
  const server = createServer({ requestTimeout: TIMEOUT, headersTimeout: TIMEOUT })
  server.on('request', (message, response) => {
    answer(message, controlled, log).then(
      ({ status, body }) =>
        response.writeHead(status, { 'content-type': 'application/json' }).end(`${JSON.stringify(body)}\n`),
      () => response.destroy(), // the caller went away in the middle of its request
    )
  })
  server.listen(path)
  try {
    await once(server, 'listening')
  } catch (cause) {
    throw new ServerError('bad-state', `the control socket ${path} could not be made: ${String(cause)}`, {
      cause,
    })
  }
  chmodSync(path, 0o600)
  return {
    async [Symbol.asyncDispose]() {
      // Closing a Unix socket's server removes the socket.
      const closed = once(server, 'close')
      server.close()
      server.closeAllConnections()
      await closed
    },
  }
}

/** Asks the running server for its status. @throws ServerError `not-running`, `no-privilege`, `refused`. */
export async function askStatus(path: string): Promise<Status> {
  return ask(path, statusShape, 'GET', '/v1/status')
}

/** Asks it to take one device over from the registry. @throws as `askStatus`. */
export async function askRefresh(path: string, publicKey: PublicKey): Promise<RefreshAnswer> {
  return ask(path, refreshShape, 'POST', '/v1/devices/refresh', { publicKey })
}

/** Asks it to read config and registry again. @throws as `askStatus`. */
export async function askReload(path: string): Promise<ReloadAnswer> {
  return ask(path, reloadShape, 'POST', '/v1/reload')
}

interface Answer {
  readonly status: number
  readonly body: object
}

async function answer(message: IncomingMessage, controlled: Controlled, log: Logger): Promise<Answer> {
  const body = await readBody(message)
  if (body === null) return refusal(413, `a request has at most ${MAX_BODY} bytes`)
  try {
    switch (`${message.method} ${message.url}`) {
      case 'GET /v1/status':
        return { status: 200, body: controlled.status() }
      case 'POST /v1/reload':
        return { status: 200, body: await controlled.reload() }
      case 'POST /v1/devices/refresh':
        return { status: 200, body: controlled.refresh(publicKeyIn(body)) }
    }
    return refusal(404, `there is no ${message.method} ${message.url}`)
  } catch (error) {
    const sentence = sentenceOf(error)
    if (sentence !== null)
      return refusal(error instanceof TunnelError && error.code === 'bad-format' ? 400 : 409, sentence)
    log.error({ error }, 'a control request failed')
    return refusal(500, 'the server failed to do this; its log says more')
  }
}

function refusal(status: number, error: string): Answer {
  return { status, body: { error } }
}

async function readBody(message: IncomingMessage): Promise<string | null> {
  const chunks: Buffer[] = []
  let length = 0
  for await (const chunk of message) {
    // A request without an encoding gives buffers.
    chunks.push(chunk as Buffer)
    length += chunks.at(-1)?.length ?? 0
    if (length > MAX_BODY) return null
  }
  return Buffer.concat(chunks).toString()
}

function publicKeyIn(body: string): PublicKey {
  let value: unknown
  try {
    value = JSON.parse(body)
  } catch (cause) {
    throw new TunnelError('bad-format', 'the request is not JSON', { cause })
  }
  const { data } = z.object({ publicKey: z.string() }).safeParse(value)
  if (data === undefined) throw new TunnelError('bad-format', 'the request must be {"publicKey": "…"}')
  return parsePublicKey(data.publicKey)
}

async function ask<T>(
  path: string,
  shape: z.ZodType<T>,
  method: 'GET' | 'POST',
  url: string,
  body?: object,
): Promise<T> {
  const outgoing = request({ socketPath: path, method, path: url, timeout: TIMEOUT })
  outgoing.on('timeout', () => outgoing.destroy(new Error('no answer within 10 s')))
  outgoing.end(body === undefined ? '' : JSON.stringify(body))
  try {
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage] // of node:http
    const value: unknown = JSON.parse(await text(response))
    if (response.statusCode === 200) return shape.parse(value)
    throw new ServerError('refused', z.object({ error: z.string() }).parse(value).error)
  } catch (cause) {
    if (cause instanceof ServerError) throw cause
    throw unanswered(path, cause)
  }
}

function unanswered(path: string, cause: unknown): ServerError {
  const errno = errnoOf(cause)
  if (errno === 'ENOENT' || errno === 'ECONNREFUSED') {
    return new ServerError('not-running', `the server is not running: nobody answers at ${path}`, {
      cause,
    })
  }
  if (errno === 'EACCES') {
    return new ServerError('no-privilege', `only root may ask the server at ${path}: run this with sudo`, {
      cause,
    })
  }
  const why = wordsOf(cause)
  return new ServerError('refused', `the server at ${path} gave no proper answer (${why}): look at its log`, {
    cause,
  })
}

function wordsOf(cause: unknown): string {
  if (cause instanceof z.ZodError) return 'it is of another version, or no culvert-server'
  return cause instanceof Error ? cause.message : String(cause)
}

/** sockaddr_un.sun_path, without its end. */
const MAX_SOCKET_PATH = 107
const MAX_BODY = 64 * 1024
/** Milliseconds. */
const TIMEOUT = 10_000
