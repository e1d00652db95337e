/** `culvert-helper`: the privileged daemon. Its command line, its log, its signals; daemon.ts has the rest. */
import { readFileSync } from 'node:fs'
import { openTunnel, parsePort, peerCredentials, run, TunnelError } from '@culvert/tunnel'
import { Command, CommanderError } from 'commander'
import { pino } from 'pino'
import { startDaemon } from './daemon.ts'
import { createLink } from './dial.ts'
import { HelperError } from './error.ts'
import { PROC } from './host/index.ts'
import { GROUP, SOCKET_PATH, STATE_DIRECTORY } from './host/names.ts'
import { hostsAddresses, nameServers } from './host/nameservers.ts'
import { markedSockets, pathMtu } from './outside.ts'
import { resolveName } from './resolver.ts'
import { VERSION } from './version.ts'

async function main(argv: readonly string[]): Promise<number> {
  const command = new Command('culvert-helper')
    .description('The daemon that carries the tunnel and sets the host up for it. It runs as root.')
    .version(VERSION)
    .option('--socket <path>', 'where to listen', SOCKET_PATH)
    .option('--state <dir>', 'where profiles, settings and the journal are kept', STATE_DIRECTORY)
    .option('--group <name>', 'whose members may use it', GROUP)
    .option('--verbose', 'log what happens once a handshake or connection as well')
    .allowExcessArguments(false)
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'culvert-helper: ')) })
    .exitOverride()
  try {
    command.parse(argv, { from: 'user' })
  } catch (error) {
    if (!(error instanceof CommanderError)) throw error
    return error.exitCode === 0 ? 0 : 2
  }
  const { socket, state, group, verbose } = command.opts<{
    readonly socket: string
    readonly state: string
    readonly group: string
    readonly verbose?: true
  }>()
  if (!hasNetworkAdministration()) {
    console.error(
      'culvert-helper: it changes routes and firewall rules and has to run as root: sudo culvert-helper',
    )
    return 1
  }
  const log = pino(
    { level: verbose === true ? 'debug' : 'info', base: null, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  )
  const stopped = signalled()
  try {
    await using stack = new AsyncDisposableStack()
    const daemon = await startDaemon({
      socket,
      state,
      group,
      proc: PROC,
      run,
      link: createLink({
        openTunnel,
        resolve: (name, signal) =>
          resolveName(
            name,
            {
              sockets: markedSockets,
              hosts: (name) => hostsAddresses('/', name),
              servers: () => nameServers('/'),
              port: DNS_PORT,
              patience: NAME_SERVER_PATIENCE,
            },
            signal,
          ),
        pathMtu: (address) => pathMtu(run, address),
        nameServers: () => nameServers('/'),
        patience: HANDSHAKE_PATIENCE,
        warn: (phrase, fields) => log.warn(fields, phrase),
      }),
      peerCredentials,
      log,
    })
    stack.use(daemon)
    log.info({ signal: await stopped }, 'the helper is stopping')
  } catch (error) {
    if (!(error instanceof HelperError || error instanceof TunnelError || isSystemError(error))) throw error
    console.error(`culvert-helper: ${error.message}`)
    return 1
  }
  return 0
}

/** An error of the file system or of a socket names the call and the path, and needs no stack. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error
}

/** Resolves to the name of the signal that asks us to stop. A second one does not end us while the host is given back. */
function signalled(): Promise<NodeJS.Signals> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP'] as const) process.on(signal, resolve)
  })
}

/** CAP_NET_ADMIN, bit 12 of the effective set (capabilities(7)): root has it, and so may a unit's user. */
function hasNetworkAdministration(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync(`${PROC}/self/status`, 'utf8'))?.[1] ?? '0'
  return ((BigInt(`0x${effective}`) >> 12n) & 1n) === 1n
}

const DNS_PORT = parsePort(53)
/** Milliseconds until the next name server is asked. */
const NAME_SERVER_PATIENCE = 2_000
/** Milliseconds for an attempt: two initiations, 5 s apart (REKEY_TIMEOUT), and the answer to the second. */
const HANDSHAKE_PATIENCE = 8_000

// Last: what main uses has to be there.
process.exitCode = await main(process.argv.slice(2))
