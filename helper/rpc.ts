/**
 * The helper's end of the socket. At every connection, before its first byte is read: who is it (SO_PEERCRED), what may they
 * do (group.ts), are there too many. Then each message is parsed by its method's shape, and each failure goes back as a code
 * and one sentence. Each connection is told of every change of the state, as far as it may see it.
 */
import { chmod, rm } from 'node:fs/promises'
import { createServer, type Server, type Socket } from 'node:net'
import {
  createMessageConnection,
  NullLogger,
  ResponseError,
  type MessageConnection,
} from 'vscode-jsonrpc/node'
import type { HelperErrorCode, MethodName, ResultOf, Snapshot } from './contract/index.ts'
import { HelperError } from './error.ts'
import type { Caller } from './group.ts'
import type { Handlers } from './handlers.ts'
import { closeWith, lineLimits, LineReader, LineWriter } from './lines.ts'
import { explain, isMethod, methods } from './schema.ts'

/** What the server needs of the rest. */
export interface RpcOptions {
  readonly path: string
  /** `everyone`: the socket is 0666 and `admit` decides; `owner`: 0600. */
  readonly reach: 'everyone' | 'owner'
  readonly handlers: Handlers
  /** Who holds the other end of a Unix socket. */
  peerCredentials(fd: number): { readonly uid: number }
  admit(uid: number): Promise<Caller>
  snapshot(caller: Caller): Snapshot
  /** Calls back at every change of the state, until disposed. */
  subscribe(listener: () => void): Disposable
  readonly log: RpcLog
}

/** pino's shape, as far as it is used. */
export interface RpcLog {
  debug(fields: object, phrase: string): void
  warn(fields: object, phrase: string): void
  error(fields: object, phrase: string): void
}

/** A server that listens. Disposing of it closes every connection. */
export class RpcServer implements AsyncDisposable {
  readonly #options: RpcOptions
  readonly #server: Server
  readonly #connections = new Map<
    Socket,
    { readonly caller: Caller; readonly rpc: MessageConnection } | null
  >()
  /** Connections of each uid. */
  readonly #ofUid = new Map<number, number>()
  readonly #subscription: Disposable

  private constructor(options: RpcOptions) {
    this.#options = options
    // Paused: nobody's bytes are read before it is known whose they are.
    this.#server = createServer({ pauseOnConnect: true }, (socket) => this.#accept(socket))
    this.#subscription = options.subscribe(() => this.#tell())
  }

  /** Listens. The socket's directory is there; a socket file that is in the way is removed: whoever calls has made sure that no helper is behind it. */
  static async listen(options: RpcOptions): Promise<RpcServer> {
    const rpc = new RpcServer(options)
    await rm(options.path, { force: true })
    // Narrow first and then wide: between the two nobody may connect who may not later.
    const umask = process.umask(0o177)
    try {
      await new Promise<void>((resolve, reject) => {
        rpc.#server.once('error', reject)
        rpc.#server.listen(options.path, () => {
          rpc.#server.off('error', reject)
          resolve()
        })
      })
    } finally {
      process.umask(umask)
    }
    if (options.reach === 'everyone') await chmod(options.path, 0o666)
    return rpc
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#subscription[Symbol.dispose]()
    const closed = new Promise<void>((resolve) => this.#server.close(() => resolve()))
    for (const socket of this.#connections.keys()) closeWith(socket, 'the helper is stopping')
    await closed
  }

  #accept(socket: Socket): void {
    socket.on('error', (error) => this.#options.log.debug({ why: error.message }, 'connection failed'))
    let uid: number
    try {
      uid = this.#options.peerCredentials(descriptor(socket)).uid
    } catch (error) {
      // Gone already, most likely. Without knowing who it is there is nothing to say.
      this.#options.log.debug({ why: String(error) }, 'connection without credentials')
      socket.destroy()
      return
    }
    const ofUid = this.#ofUid.get(uid) ?? 0
    // Root has its own whatever the others hold: one user may have many uids (subuid(5)).
    if ((this.#connections.size >= MOST_CONNECTIONS && uid !== 0) || ofUid >= MOST_OF_UID) {
      const most = ofUid >= MOST_OF_UID ? `${MOST_OF_UID} of one user` : `${MOST_CONNECTIONS}`
      // Anybody can bring this about as often as they like, so it neither fills the log nor keeps a descriptor.
      this.#options.log.debug({ uid }, 'too many connections')
      closeWith(socket, `there are too many connections to the helper already (at most ${most})`)
      socket.destroySoon()
      return
    }
    this.#connections.set(socket, null)
    this.#ofUid.set(uid, ofUid + 1)
    socket.once('close', () => {
      this.#connections.get(socket)?.rpc.dispose()
      this.#connections.delete(socket)
      const left = (this.#ofUid.get(uid) ?? 1) - 1
      if (left === 0) this.#ofUid.delete(uid)
      else this.#ofUid.set(uid, left)
    })
    this.#options.admit(uid).then(
      (caller) => this.#serve(socket, caller),
      (error: unknown) => {
        this.#options.log.error({ uid, why: String(error) }, 'the group database cannot be read')
        closeWith(socket, 'the helper cannot read the group database')
      },
    )
  }

  #serve(socket: Socket, caller: Caller): void {
    if (socket.destroyed) return
    const refuse = (reason: string) => {
      this.#options.log.warn({ uid: caller.uid, reason }, 'connection closed')
      closeWith(socket, reason)
    }
    const rpc = createMessageConnection(
      new LineReader(socket, lineLimits, refuse),
      new LineWriter(socket, lineLimits, refuse),
      NullLogger,
    )
    rpc.onRequest((method: string, params: unknown) => this.#answer(method, params, caller))
    this.#connections.set(socket, { caller, rpc })
    rpc.listen()
    socket.resume()
  }

  async #answer(method: string, params: unknown, caller: Caller): Promise<unknown> {
    try {
      if (!isMethod(method))
        throw new HelperError('bad-request', `there is no method "${method.slice(0, 64)}"`)
      return await this.#call(method, params, caller)
    } catch (error) {
      if (error instanceof HelperError) throw toResponse(error.code, error.message)
      this.#options.log.error({ method, why: String(error) }, 'a call failed')
      throw toResponse('failed', `the helper could not do that: ${messageOf(error)}`)
    }
  }

  async #call<M extends MethodName>(method: M, raw: unknown, caller: Caller): Promise<ResultOf<M>> {
    const shape = methods[method]
    if (shape.access === 'member' && caller.access !== 'member') {
      throw new HelperError('not-permitted', caller.reason ?? 'only members may do that')
    }
    const parsed = shape.params.safeParse(raw ?? {})
    if (!parsed.success) throw new HelperError('bad-request', `${method}: ${explain(parsed.error)}`)
    return this.#options.handlers[method](parsed.data, caller)
  }

  #tell(): void {
    for (const connection of this.#connections.values()) {
      if (connection === null) continue
      // `write` never rejects: a socket that is gone is told by its `close`.
      connection.rpc.sendNotification('state', this.#options.snapshot(connection.caller)).catch(() => {})
    }
  }
}

/** A failure as JSON-RPC has it: our code is in `data`. */
function toResponse(code: HelperErrorCode, message: string): ResponseError<{ code: HelperErrorCode }> {
  return new ResponseError(SERVER_ERROR, message, { code })
}

/** Node has no name for the descriptor of a connected socket, and SO_PEERCRED needs one; `_handle.fd` is where it is kept. */
function descriptor(socket: Socket): number {
  const { _handle: handle } = socket as unknown as { readonly _handle: { readonly fd: number } | null }
  if (handle === null) throw new Error('the socket is closed')
  return handle.fd
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}

/** The first of the codes that JSON-RPC leaves to servers. */
const SERVER_ERROR = -32000
const MOST_CONNECTIONS = 64
const MOST_OF_UID = 8
