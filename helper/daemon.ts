/**
 * The helper, put together: the host made clean, the store read, the supervisor started, the socket opened, in this order,
 * and closed in reverse. What it drives is given, so that a test can run all of it without root.
 */
import { chmod, mkdir, readFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Run } from '@culvert/tunnel'
import type { Link } from './dial.ts'
import { admit, groupExists, type Caller } from './group.ts'
import { createHandlers, snapshotFor } from './handlers.ts'
import { openHost, PROC } from './host/index.ts'
import { Journal } from './host/journal.ts'
import { JOURNAL_FILE, PID_FILE } from './host/names.ts'
import { claim } from './pid-file.ts'
import { RpcServer, type RpcLog } from './rpc.ts'
import { Store } from './store.ts'
import { backOff, Supervisor, type SupervisorLog } from './supervisor.ts'
import { VERSION } from './version.ts'

export interface DaemonOptions {
  /** Of the socket; the file with the process id lies beside it. */
  readonly socket: string
  readonly state: string
  readonly group: string
  /** The kernel's settings, /proc. */
  readonly proc: string
  readonly run: Run
  readonly link: Link
  peerCredentials(fd: number): { readonly uid: number }
  readonly log: SupervisorLog & RpcLog
}

/** Starts the helper; it runs until it is disposed of, which gives the host back. @throws HelperError, one sentence. */
export async function startDaemon(options: DaemonOptions): Promise<AsyncDisposable> {
  const { socket, state, group, proc, run, link, log } = options
  await using stack = new AsyncDisposableStack()
  // Only a directory of our own making is opened up, whatever the umask.
  if ((await mkdir(dirname(socket), { recursive: true })) !== undefined) await chmod(dirname(socket), 0o755)
  await mkdir(state, { recursive: true, mode: 0o700 })
  // Before the host is touched: a second helper would undo what the first one did.
  stack.use(await claim(join(dirname(socket), PID_FILE)))

  const bootId = (await readFile(join(PROC, 'sys/kernel/random/boot_id'), 'utf8')).trim()
  const journal = await Journal.open(join(state, JOURNAL_FILE), bootId, (line) =>
    log.warn({ line }, 'the journal is damaged; what bears our names is removed all the same'),
  )
  const host = openHost(run, journal, proc)
  for (const why of await host.recover()) log.error({ why }, 'the host could not be made clean')

  const store = await Store.open(state, (why) => log.error({ why }, 'a profile is damaged and left alone'))
  const supervisor = new Supervisor({
    host,
    link,
    store,
    now: Date.now,
    backOff: (attempt) => backOff(attempt, Math.random()),
    log,
  })
  stack.use(supervisor)

  const hasGroup = await groupExists(run, group)
  if (!hasGroup) log.warn({ group }, 'there is no such group, so the socket is for root alone')
  stack.use(
    await RpcServer.listen({
      path: socket,
      reach: hasGroup ? 'everyone' : 'owner',
      handlers: createHandlers({ store, supervisor, bootId, version: VERSION, now: Date.now }),
      peerCredentials: (fd) => options.peerCredentials(fd),
      admit: (uid): Promise<Caller> => admit(run, group, uid),
      snapshot: (caller) => snapshotFor(caller, supervisor.status()),
      subscribe: (listener) => supervisor.subscribe(listener),
      log,
    }),
  )

  // A crash or a restart does not end what the user asked for; a reboot does, unless the setting says otherwise.
  const target = store.target()
  const wanted = target.bootId === bootId ? target.profile : store.settings().autoConnect
  if (wanted !== null && store.profile(wanted) !== null) supervisor.post({ tag: 'connect', profile: wanted })
  log.info({ version: VERSION, socket, state }, 'the helper is ready')
  return stack.move()
}
