/** The `culvert-server` command line. Exit status: 0 ok, 1 failed with one sentence on stderr, 2 used wrongly. */
import { resolve } from 'node:path'
import {
  formatEndpoint,
  parseEndpoint,
  parseHostName,
  parseIp,
  isIp,
  TunnelError,
} from '@culvert/tunnel/pure'
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander'
import { pino, type Level } from 'pino'
import QRCode from 'qrcode'
import { DEFAULT_PORT, logLevels } from './config.ts'
import { askStatus } from './control.ts'
import { addDevice, parseUserName } from './device.ts'
import { diagnose, formatChecks } from './doctor.ts'
import { sentenceOf } from './error.ts'
import { gatherFacts } from './facts.ts'
import { initialise } from './init.ts'
import { pathsOf } from './paths.ts'
import { runServer } from './run.ts'
import { formatStatus } from './status.ts'
import { version } from './version.ts'

/** Where the state is, as every subcommand is told. */
interface StateOption {
  readonly state?: string
}

function program(): Command {
  const root = new Command('culvert-server')
    .description('A VPN server that speaks WireGuard.')
    .version(version)
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'culvert-server: ')) })

  command(root, 'init', 'make keys, address pool and a commented config; overwrite nothing')
    .requiredOption('--endpoint <HOST[:PORT]>', 'what clients dial', valid(endpoint))
    .option('--dns <ZONE>', 'the DNS zone that is delegated to this server', valid(parseHostName))
    .option('--web <HOST>', 'the name or address under which this server is a web server', valid(host))
    .action(init)

  command(root, 'run', 'serve until SIGTERM; SIGHUP reads config and registry again')
    .addOption(new Option('--log-level <LEVEL>', 'in place of the config’s log_level').choices(logLevels))
    .action(run)

  const device = root.command('device').description('the devices of users').exitOverride()
  command(device, 'add', 'add a device, and its user if there is none of that name')
    .argument('<USER>', 'whose it is', parseUserName)
    .requiredOption('--wg-quick', 'print a .conf for any WireGuard client; its private key is not kept')
    .option('--qr', 'show the .conf as a QR code too, on stderr')
    .action(deviceAdd)

  command(root, 'status', 'what the running server says of itself')
    .option('--json', 'as JSON, times in milliseconds since 1970')
    .action(status)

  command(root, 'doctor', 'look for what is wrong, and say what to do')
    .option('--json', 'as JSON')
    .action(doctor)
  return root
}

/** A subcommand; each of them takes `--state`. */
function command(parent: Command, name: string, description: string): Command {
  return parent
    .command(name)
    .description(description)
    .exitOverride()
    .option(
      '--state <DIR>',
      'keep config, state and control socket in DIR, not in /etc, /var/lib and /run: several servers can live on one machine',
    )
}

async function init(
  options: StateOption & { endpoint: ReturnType<typeof endpoint>; dns?: string; web?: string },
): Promise<void> {
  const paths = pathsAt(options)
  const { publicKey, pool } = await initialise({
    endpoint: options.endpoint,
    dnsZone: options.dns ?? null,
    webHost: options.web ?? null,
    paths,
  })
  const state = options.state === undefined ? '' : ` --state ${options.state}`
  print(`Made ${paths.config} and the keys in ${paths.state}.
Public key    ${publicKey}
Endpoint      ${formatEndpoint(options.endpoint)} (let UDP ${options.endpoint.port} through the firewall)
Address pool  ${pool.pool4} and ${pool.pool6}
Next          culvert-server run${state}
              culvert-server device add NAME --wg-quick${state}
`)
}

async function run(options: StateOption & { logLevel?: Level }): Promise<void> {
  const log = pino(
    {
      level: options.logLevel ?? 'info',
      base: null,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    pino.destination({ dest: 2, sync: true }),
  )
  const stop = new AbortController()
  process.once('SIGTERM', () => stop.abort()).once('SIGINT', () => stop.abort())
  let reload = (): void => {} // a SIGHUP before there is anything to reload must not end the process
  process.on('SIGHUP', () => reload())
  await runServer({
    paths: pathsAt(options),
    log,
    logLevel: options.logLevel === undefined ? 'from-config' : 'fixed',
    signal: stop.signal,
    onReload: (listener) => (reload = listener),
  })
}

async function deviceAdd(user: string, options: StateOption & { qr?: true }): Promise<void> {
  const { conf, server } = await addDevice(user, pathsAt(options))
  print(conf)
  if (options.qr) process.stderr.write(await QRCode.toString(conf, { type: 'terminal', small: true }))
  if (server === 'stopped') {
    process.stderr.write('culvert-server is not running: the device can connect once it is\n')
  }
}

async function status(options: StateOption & { json?: true }): Promise<void> {
  const found = await askStatus(pathsAt(options).control)
  print(options.json ? `${JSON.stringify(found, null, 2)}\n` : formatStatus(found, Date.now()))
}

async function doctor(options: StateOption & { json?: true }): Promise<void> {
  const checks = diagnose(await gatherFacts(pathsAt(options)))
  const healthy = checks.every(({ verdict }) => verdict !== 'broken')
  print(options.json ? `${JSON.stringify({ healthy, checks }, null, 2)}\n` : formatChecks(checks))
  if (!healthy) process.exitCode = 1
}

function pathsAt({ state }: StateOption) {
  return pathsOf(state === undefined ? null : resolve(state))
}

function endpoint(text: string) {
  return parseEndpoint(text, DEFAULT_PORT)
}

function host(text: string): string {
  return isIp(text) ? parseIp(text) : parseHostName(text)
}

/** One of the tunnel's parsers as an option's: what it refuses is wrong use. */
function valid<T>(parser: (text: string) => T): (text: string) => T {
  return (text) => {
    try {
      return parser(text)
    } catch (error) {
      throw error instanceof TunnelError ? new InvalidArgumentError(error.message) : error
    }
  }
}

function print(text: string): void {
  process.stdout.write(text)
}

/** What goes on stderr, and the exit status. A failure that nobody foresaw shows its stack: it is a bug of ours. */
function fail(error: unknown): void {
  if (error instanceof CommanderError) {
    // Commander has printed its message; it ends with 0 after --help and --version.
    process.exitCode = error.exitCode === 0 ? 0 : 2
    return
  }
  const sentence = sentenceOf(error)
  process.exitCode = 1
  process.stderr.write(
    `culvert-server: ${sentence ?? (error instanceof Error ? error.stack : String(error))}\n`,
  )
}

// Whatever this program makes is its owner's only.
process.umask(0o077)
try {
  await program().parseAsync()
} catch (error) {
  fail(error)
}
