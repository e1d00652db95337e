/** `status`: the newest snapshot, for a person or for a program. */
import { formatEndpoint } from '@culvert/tunnel'
import type { HelperClient } from '../client.ts'
import type { FailCause, Snapshot, Stage, TunnelState } from '../contract/index.ts'
import { HelperError } from '../error.ts'
import { causeWords, formatAge, formatBytes, formatTable, printJson } from './words.ts'

/** What `status --json` prints: a contract that scripts rely on. Null: there is none, or it is not the caller's to know. */
export interface StatusJson {
  readonly state: TunnelState['tag']
  /** The profile's name. */
  readonly profile: string | null
  readonly carrier: string | null
  readonly endpoint: string | null
  /** ISO 8601. */
  readonly since: string | null
  /** ISO 8601. */
  readonly latestHandshake: string | null
  readonly rxBytes: number | null
  readonly txBytes: number | null
  readonly mtu: number | null
  readonly blocking: boolean
  readonly cause: FailCause | null
  readonly detail: string | null
  readonly stage: Stage | null
  readonly attempt: number | null
}

interface JsonOption {
  readonly json?: true
}

export async function showStatus(client: HelperClient, { json }: JsonOption): Promise<void> {
  const status = statusOf(await client.call('state', {}))
  if (json === true) return printJson(status)
  console.log(describe(status, Date.now()))
}

/** Says it now and at every change. @throws HelperError when the helper goes. */
export async function watchStatus(client: HelperClient, { json }: JsonOption): Promise<void> {
  const show = (snapshot: Snapshot) => {
    const status = statusOf(snapshot)
    console.log(json === true ? JSON.stringify(status) : `${describe(status, Date.now())}\n`)
  }
  using stack = new DisposableStack()
  stack.use(client.onState(show))
  show(await client.call('state', {}))
  throw new HelperError('gone', await client.closed)
}

/** A snapshot as `status --json` has it. */
export function statusOf(snapshot: Snapshot): StatusJson {
  if (snapshot.tag === 'outline') {
    const { state, blocking, cause } = snapshot
    return { ...NOTHING, state, blocking, cause }
  }
  const { tunnel, profileName, blocking, traffic } = snapshot
  const common: StatusJson = {
    ...NOTHING,
    state: tunnel.tag,
    profile: profileName,
    latestHandshake: isoOf(traffic?.latestHandshake ?? null),
    rxBytes: traffic?.rxBytes ?? null,
    txBytes: traffic?.txBytes ?? null,
    mtu: traffic?.mtu ?? null,
    blocking,
  }
  switch (tunnel.tag) {
    case 'disconnected':
    case 'disconnecting':
      return common
    case 'connecting': {
      const { stage, attempt, cause, detail } = tunnel
      return { ...common, stage, attempt, cause, detail }
    }
    case 'connected': {
      const { carrier, endpoint, since } = tunnel
      return { ...common, carrier, endpoint: formatEndpoint(endpoint), since: isoOf(since) }
    }
    case 'failed':
      return { ...common, cause: tunnel.cause, detail: tunnel.detail }
  }
}

/** The status for a person. Pure. @param now Unix epoch, milliseconds. */
export function describe(status: StatusJson, now: number): string {
  const rows = [
    ['server', status.endpoint === null ? null : `${status.endpoint} (${status.carrier})`],
    ['since', ageOf(status.since, now, '')],
    ['handshake', ageOf(status.latestHandshake, now, ' ago')],
    ['received', status.rxBytes === null ? null : formatBytes(status.rxBytes)],
    ['sent', status.txBytes === null ? null : formatBytes(status.txBytes)],
    ['MTU', status.mtu === null ? null : `${status.mtu}`],
    ['why', status.cause === null ? null : (status.detail ?? causeWords[status.cause])],
    ['outside', status.blocking ? 'traffic outside the tunnel is blocked' : null],
  ].flatMap(([label, value]) =>
    typeof label === 'string' && typeof value === 'string' ? [[`  ${label}`, value]] : [],
  )
  return [headline(status), ...(rows.length === 0 ? [] : [formatTable(rows)])].join('\n')
}

function headline({ state, profile, attempt }: StatusJson): string {
  const name = profile === null ? '' : ` "${profile}"`
  switch (state) {
    case 'disconnected':
      return 'disconnected'
    case 'connecting':
      return `connecting${name === '' ? '' : ` with${name}`}${(attempt ?? 1) > 1 ? `, attempt ${attempt}` : ''}`
    case 'connected':
      return `connected${name === '' ? '' : ` with${name}`}`
    case 'disconnecting':
      return `disconnecting${name}`
    case 'failed':
      return `not connected${name === '' ? '' : ` with${name}`}`
  }
}

function ageOf(iso: string | null, now: number, suffix: string): string | null {
  return iso === null ? null : `${formatAge(now - Date.parse(iso))}${suffix}`
}

function isoOf(epoch: number | null): string | null {
  return epoch === null ? null : new Date(epoch).toISOString()
}

const NOTHING: StatusJson = {
  state: 'disconnected',
  profile: null,
  carrier: null,
  endpoint: null,
  since: null,
  latestHandshake: null,
  rxBytes: null,
  txBytes: null,
  mtu: null,
  blocking: false,
  cause: null,
  detail: null,
  stage: null,
  attempt: null,
}
