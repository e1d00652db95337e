/**
 * `culvert-server run`. What is opened is closed in the opposite order, whether the server stops, fails to start or
 * fails in the middle:
 *
 *   lock ▶ registry ▶ firewall ▶ tunnel and its addresses ▶ forwarding ▶ devices ▶ control socket ▶ "ready"
 *
 * The firewall is there before the first packet can pass, and goes after the last one.
 */
import { mkdirSync } from 'node:fs'
import {
  deleteTable,
  ipBatch,
  links,
  openTunnel,
  replaceTable,
  run,
  type Tunnel,
  type TunnelEvent,
} from '@culvert/tunnel'
import { formatEndpoint, TunnelError } from '@culvert/tunnel/pure'
import type { Logger } from 'pino'
import { readConfig, startOnlyChanges, type Config } from './config.ts'
import { listenForControl, type ReloadAnswer } from './control.ts'
import { ServerError } from './error.ts'
import { openForwarding } from './forwarding.ts'
import { Gateway } from './gateway.ts'
import { checkOperatorKey, readSecret } from './keys.ts'
import { takeLock } from './lock.ts'
import { natTable, tableName } from './nat.ts'
import { notifySystemd } from './notify.ts'
import type { Paths } from './paths.ts'
import { overlaps, serverAddresses } from './pool.ts'
import { mayAdministerNetwork } from './privilege.ts'
import { openRegistry } from './registry.ts'
import type { Status } from './status.ts'
import { openSysctls } from './sysctl.ts'
import { version } from './version.ts'

export interface RunOptions {
  readonly paths: Paths
  readonly log: Logger
  /** Whether the level of `log` is the config's to decide. */
  readonly logLevel: 'from-config' | 'fixed'
  /** Aborted: stop. */
  readonly signal: AbortSignal
  /** Calls its argument when config and registry are to be read again. */
  onReload(reload: () => void): void
}

/**
 * Serves until the signal is aborted.
 * @throws ServerError or TunnelError when it cannot start; ServerError `fault` when the data plane stopped itself. Either
 *   way the machine is as it was.
 */
export async function runServer(options: RunOptions): Promise<void> {
  const { paths, log, signal } = options
  const config = await readConfig(paths.config)
  if (options.logLevel === 'from-config') log.level = config.logLevel
  if (!mayAdministerNetwork()) {
    throw new ServerError(
      'no-privilege',
      'culvert-server run changes links and firewall, which only root may: run it with sudo',
    )
  }
  await checkOperatorKey(paths.operatorKey)
  ;(await readSecret(paths.carrierSecret))[Symbol.dispose]()

  await using stack = new AsyncDisposableStack()
  stack.use(takeLock(paths.lock))
  const registry = stack.use(openRegistry(paths.registry))
  await refuseTakenNames(config)
  await replaceTable(run, natTable({ ...config, addresses: serverAddresses(config) }))
  stack.defer(() => deleteTable(run, tableName(config.interfaceName)))
  const fault = Promise.withResolvers<never>()
  fault.promise.catch(() => {}) // it may come before anybody waits for it, below
  const tunnel = stack.use(await open(config, paths, log, fault.reject))
  const { sysctls } = await setUpLink(config)
  stack.use(
    await openForwarding({
      run,
      sysctls,
      journal: paths.journal,
      interfaceName: config.interfaceName,
      table: tableName(config.interfaceName),
      log,
    }),
  )
  const gateway = stack.use(new Gateway(tunnel, registry, log))
  const server = stack.use(new Server(options, config, tunnel, gateway))
  mkdirSync(paths.runtime, { recursive: true, mode: 0o700 })
  stack.use(await listenForControl(paths.control, server, log))
  gateway.reload() // what was added between loading and listening
  options.onReload(() => {
    server.reload().catch((error: unknown) => server.reloadFailed(error))
  })
  log.info(
    {
      port: tunnel.port,
      interface: tunnel.name,
      devices: gateway.devices().length,
      offloads: tunnel.offloads,
    },
    'serving',
  )
  await notifySystemd('READY=1', log)
  await Promise.race([aborted(signal), fault.promise])
  log.info('stopping')
  await notifySystemd('STOPPING=1', log)
}

/** What the control socket and SIGHUP ask of the running server. Disposed before what it works on. */
class Server implements AsyncDisposable {
  readonly #options: RunOptions
  readonly #tunnel: Tunnel
  readonly #gateway: Gateway
  readonly #since = Date.now()
  #config: Config
  /** One reload at a time. */
  #reloading: Promise<unknown> = Promise.resolve()
  #isStopping = false

  constructor(options: RunOptions, config: Config, tunnel: Tunnel, gateway: Gateway) {
    this.#options = options
    this.#config = config
    this.#tunnel = tunnel
    this.#gateway = gateway
  }

  status(): Status {
    const { endpoint } = this.#config
    return {
      version,
      since: this.#since,
      uptime: Math.round((Date.now() - this.#since) / 1000),
      interface: this.#tunnel.name,
      port: this.#tunnel.port,
      endpoint: formatEndpoint(endpoint),
      addresses: [...serverAddresses(this.#config)],
      offloads: [...this.#tunnel.offloads],
      devices: this.#gateway.devices().map(({ device, endpoint, ...state }) => ({
        user: device.user,
        publicKey: device.publicKey,
        addresses: [device.address4, device.address6],
        endpoint: endpoint === null ? null : formatEndpoint(endpoint),
        latestHandshake: state.latestHandshake,
        rxBytes: state.rxBytes,
        txBytes: state.txBytes,
        alive: state.alive,
      })),
      counters: this.#tunnel.counters(),
    }
  }

  refresh(publicKey: Parameters<Gateway['refresh']>[0]) {
    return { change: this.#gateway.refresh(publicKey) }
  }

  /** Reads config and registry again. When the config is wrong, everything stays as it is. */
  reload(): Promise<ReloadAnswer> {
    const next = this.#reloading.then(() => this.#reload())
    this.#reloading = next.catch(() => {})
    return next
  }

  /** Waits for a reload that has begun, and begins no other: it would put the table back that is deleted at stop. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isStopping = true
    await this.#reloading
  }

  reloadFailed(error: unknown): void {
    const reason = error instanceof Error ? error.message : String(error)
    this.#options.log.error({ reason }, 'not reloaded: everything stays as it was')
  }

  async #reload(): Promise<ReloadAnswer> {
    const { paths, log, logLevel } = this.#options
    if (this.#isStopping) throw new ServerError('not-running', 'the server is stopping')
    const wanted = await readConfig(paths.config)
    const atStart = startOnlyChanges(this.#config, wanted)
    const { port, interfaceName, pool4, pool6, mtu, gso, registry } = this.#config
    const config = { ...wanted, port, interfaceName, pool4, pool6, mtu, gso, registry }
    await replaceTable(run, natTable({ ...config, addresses: serverAddresses(config) }))
    this.#config = config
    if (logLevel === 'from-config') log.level = config.logLevel
    const changes = this.#gateway.reload()
    if (atStart.length > 0) log.warn({ keys: atStart }, 'changes of these keys take effect at the next start')
    log.info(changes, 'reloaded')
    return { ...changes, atStart: [...atStart] }
  }
}

async function open(
  config: Config,
  paths: Paths,
  log: Logger,
  fail: (error: ServerError) => void,
): Promise<Tunnel> {
  using privateKey = await readSecret(paths.privateKey)
  return await openTunnel({
    name: config.interfaceName,
    mtu: config.mtu,
    privateKey,
    port: config.port,
    fwmark: 0,
    gso: config.gso,
    onEvent(event: TunnelEvent) {
      switch (event.tag) {
        case 'session':
          return log.debug({ device: event.peer, role: event.role }, 'handshake')
        case 'roamed':
          return log.debug(
            { device: event.peer, endpoint: formatEndpoint(event.path.remote) },
            'device moved',
          )
        case 'gave-up':
          return log.debug({ device: event.peer }, 'device does not answer')
        case 'fault':
          return fail(
            new ServerError(
              'fault',
              `the data plane stopped itself (${event.message}) and passes nothing: start the server again`,
            ),
          )
      }
    },
  })
}

/** Addresses, then up. A router's own link needs no address of its own making (fe80::). */
async function setUpLink({ interfaceName, ...config }: Config) {
  const sysctls = openSysctls()
  const hasIpv6 = sysctls.read('net/ipv6/conf/all/forwarding') !== null
  const disabled = `net/ipv6/conf/${interfaceName}/disable_ipv6` as const
  // A machine whose own links have no IPv6 still carries it inside the tunnel.
  if (hasIpv6 && sysctls.read(disabled) === '1') sysctls.write(disabled, '0')
  const [own4, own6] = serverAddresses(config)
  const dev = `dev ${interfaceName}`
  await ipBatch(run, [
    `link set ${dev} addrgenmode none`,
    `address add ${own4} ${dev}`,
    ...(hasIpv6 ? [`address add ${own6} ${dev} nodad`] : []),
    `link set ${dev} up`,
  ])
  return { sysctls }
}

/**
 * Before anything is changed: an interface of our name may be another server's, and its firewall with it; a pool over an
 * address of this machine would take that network's packets away.
 */
async function refuseTakenNames({ pool4, pool6, interfaceName }: Config): Promise<void> {
  const present = await links(run)
  if (present.some(({ name }) => name === interfaceName)) {
    const sentence = `there is a network interface "${interfaceName}" already: remove it, or set another "interface" in the config`
    throw new TunnelError('name-taken', sentence)
  }
  for (const { name, addresses } of present) {
    for (const address of addresses) {
      const pool = [pool4, pool6].find((pool) => overlaps(pool, address))
      if (pool === undefined) continue
      throw new ServerError(
        'pool-taken',
        `the address pool ${pool} lies over ${address} of the interface ${name}: set another pool in the config`,
      )
    }
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise((resolve) => signal.addEventListener('abort', () => resolve(), { once: true }))
}
