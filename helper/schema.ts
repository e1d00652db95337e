/**
 * The door with the shapes of everything that crosses the helper's socket or lies in its files: `contract/` as something
 * to check with. Text becomes a typed value here, once, or an error that names the field.
 */
import {
  familyOf,
  isDefaultRoute,
  parseCidr,
  parseHostName,
  parseInterfaceAddress,
  parseIp,
  parsePort,
  parsePublicKey,
  Secret,
  TunnelError,
} from '@culvert/tunnel/pure'
import type { Endpoint, SocketAddress } from '@culvert/tunnel/pure'
import { z } from 'zod'
import type {
  CarrierId,
  FailCause,
  MethodName,
  Methods,
  ParamsOf,
  Profile,
  ProfileDraft,
  ProfileId,
  ResultOf,
  Settings,
  SettingsChange,
  Snapshot,
  TunnelState,
} from './contract/index.ts'

// Before the first shape: zod would otherwise compile checkers with `new Function`, which a page's CSP and a daemon's
// sandbox rightly forbid.
z.config({ jitless: true })

/** One method as shapes. */
export interface MethodShape<M extends MethodName> {
  readonly access: Methods[M]['access']
  readonly params: z.ZodType<ParamsOf<M>>
  readonly result: z.ZodType<ResultOf<M>>
}

/** One sentence for the first thing that is wrong: the field, and what was expected. */
export function explain(error: z.ZodError): string {
  const issue = error.issues[0]
  if (issue === undefined) return 'it is not what was expected'
  const path = issue.path
    .map((part) => (typeof part === 'number' ? `[${part}]` : `.${String(part)}`))
    .join('')
  const field = path.replace(/^\./, '')
  return field === '' ? issue.message : `${field}: ${issue.message}`
}

/** A profile's name: what a person can read, type and put on a command line. */
export const profileNameShape = z
  .string()
  .min(1, 'a name has at least one character')
  .max(64, 'a name has at most 64 characters')
  .regex(/^[^\p{C}\p{Zl}\p{Zp}]+$/u, 'a name has no control characters')
  .refine((name) => name.trim() === name, 'a name neither begins nor ends with a space')
  .refine((name) => !name.startsWith('-'), 'a name does not begin with "-"')

/** A profile's id, as the helper draws them. */
export const profileIdShape = z
  .string()
  .regex(/^[0-9a-f]{16}$/, 'expected the id of a profile: 16 hexadecimal digits')
  .transform((id) => id as ProfileId) // the brand's own parser

const cidr = parsed(parseCidr)
const interfaceAddress = parsed(parseInterfaceAddress)
const ip = parsed(parseIp)
const publicKey = parsed(parsePublicKey)
/** Checked, and left as text: it becomes a Secret where it is kept, and has no other way to travel. */
const secretText = parsed((text) => {
  using secret = Secret.parse(text)
  return secret.base64()
})
const port = z.number().transform((value, context) => attempt(context, () => parsePort(value)))
const uid = z.int().min(0)
/** Bytes (RFC 8200, 5). */
const IPV6_LEAST_MTU = 1280
const epoch = z.number().min(0)
const count = z.number().min(0)

const endpoint: z.ZodType<Endpoint> = z.strictObject({
  host: parsed((text) =>
    text.includes(':') || /^[0-9.]+$/.test(text) ? parseIp(text) : parseHostName(text),
  ),
  port,
})

const peerFields = {
  publicKey,
  endpoint: endpoint.nullable(),
  allowedIps: z.array(cidr).max(10_000),
  persistentKeepalive: z.int().min(0).max(65_535),
}

const profileFields = {
  name: profileNameShape,
  shared: z.boolean(),
  addresses: z
    .array(interfaceAddress)
    .min(1, 'a profile has at least one address')
    .max(64)
    .refine((all) => !all.some((one) => isDefaultRoute(parseCidr(one))), 'an address needs a prefix length'),
  dns: z.array(ip).max(64),
  searchDomains: z.array(parsed(parseHostName)).max(64),
  mtu: z.int().min(576).max(9000).nullable(),
  listenPort: port.nullable(),
}

/** A profile as it is shown. */
export const profileShape: z.ZodType<Profile> = z.strictObject({
  id: profileIdShape,
  owner: uid,
  ...profileFields,
  peers: z.array(z.strictObject(peerFields)),
  lastUsed: epoch.nullable(),
})

/** A profile as it is handed in. */
export const profileDraftShape: z.ZodType<ProfileDraft> = z
  .strictObject({
    ...profileFields,
    privateKey: secretText,
    peers: z
      .array(z.strictObject({ ...peerFields, presharedKey: secretText.nullable() }))
      .min(1, 'a profile has at least one peer')
      .max(1000)
      .refine(
        (peers) => new Set(peers.map((peer) => peer.publicKey)).size === peers.length,
        'two peers have the same key',
      ),
  })
  .refine(
    ({ mtu, addresses, peers }) =>
      mtu === null ||
      mtu >= IPV6_LEAST_MTU ||
      ![...addresses, ...peers.flatMap(({ allowedIps }) => allowedIps)].some((one) => familyOf(one) === 6),
    {
      path: ['mtu'],
      message: `a profile with IPv6 addresses needs at least ${IPV6_LEAST_MTU}, or the kernel takes IPv6 off the link`,
    },
  )

/** A profile as it lies on disk, but for its version. */
export const storedProfileShape = z.strictObject({
  id: profileIdShape,
  owner: uid,
  ...profileFields,
  privateKey: secretText,
  peers: z.array(z.strictObject({ ...peerFields, presharedKey: secretText.nullable() })).min(1),
  lastUsed: epoch.nullable(),
})

const carrierIds = ['udp', 'veil', 'websocket', 'dns'] as const satisfies readonly CarrierId[]

const settingFields = {
  killSwitch: z.enum(['off', 'session', 'lockdown']),
  allowLan: z.boolean(),
  autoConnect: profileIdShape.nullable(),
  carrier: z.enum(['fast', 'quiet', ...carrierIds]),
}

/** Every setting. */
export const settingsShape: z.ZodType<Settings> = z.strictObject(settingFields)

/** Some settings. */
export const settingsChangeShape: z.ZodType<SettingsChange> = z.strictObject({
  killSwitch: settingFields.killSwitch.exactOptional(),
  allowLan: settingFields.allowLan.exactOptional(),
  autoConnect: settingFields.autoConnect.exactOptional(),
  carrier: settingFields.carrier.exactOptional(),
})

const cause: z.ZodType<FailCause> = z.enum([
  'no-endpoint',
  'endpoint-unresolved',
  'offline',
  'no-answer',
  'tunnel-failed',
  'host-failed',
])

const socketAddress: z.ZodType<SocketAddress> = z.strictObject({ address: ip, port })

const tunnelState: z.ZodType<TunnelState> = z.discriminatedUnion('tag', [
  z.strictObject({ tag: z.literal('disconnected') }),
  z.strictObject({
    tag: z.literal('connecting'),
    profile: profileIdShape,
    stage: z.enum(['resolve', 'handshake']),
    attempt: z.int().min(1),
    resuming: z.boolean(),
    cause: cause.nullable(),
    detail: z.string().nullable(),
  }),
  z.strictObject({
    tag: z.literal('connected'),
    profile: profileIdShape,
    carrier: z.enum(carrierIds),
    endpoint: socketAddress,
    since: epoch,
  }),
  z.strictObject({ tag: z.literal('disconnecting'), next: profileIdShape.nullable() }),
  z.strictObject({
    tag: z.literal('failed'),
    profile: profileIdShape.nullable(),
    cause,
    detail: z.string().nullable(),
    blocking: z.boolean(),
  }),
])

/** The state as it goes up: the topic `state`, and the method of that name. */
export const snapshotShape: z.ZodType<Snapshot> = z.discriminatedUnion('tag', [
  z.strictObject({
    tag: z.literal('outline'),
    state: z.enum(['disconnected', 'connecting', 'connected', 'disconnecting', 'failed']),
    blocking: z.boolean(),
    cause: cause.nullable(),
  }),
  z.strictObject({
    tag: z.literal('full'),
    tunnel: tunnelState,
    profileName: z.string().nullable(),
    blocking: z.boolean(),
    traffic: z
      .strictObject({ rxBytes: count, txBytes: count, latestHandshake: epoch.nullable(), mtu: count })
      .nullable(),
  }),
])

const nothing = z.strictObject({})

/** The methods as shapes: the table that both ends of the socket are made from. */
export const methods: { readonly [M in MethodName]: MethodShape<M> } = {
  hello: {
    access: 'stranger',
    params: z.object({ protocol: z.int() }),
    result: z.object({
      protocol: z.int(),
      version: z.string(),
      access: z.enum(['member', 'stranger']),
      reason: z.string().nullable(),
    }),
  },
  state: { access: 'stranger', params: nothing, result: snapshotShape },
  'profiles.add': { access: 'member', params: profileDraftShape, result: profileShape },
  'profiles.list': { access: 'member', params: nothing, result: z.array(profileShape) },
  'profiles.rename': {
    access: 'member',
    params: z.strictObject({ id: profileIdShape, name: profileNameShape }),
    result: profileShape,
  },
  'profiles.remove': {
    access: 'member',
    params: z.strictObject({ id: profileIdShape }),
    result: z.null(),
  },
  'tunnel.connect': {
    access: 'member',
    params: z.strictObject({ profile: profileIdShape.nullable() }),
    result: z.strictObject({ profile: profileIdShape }),
  },
  'tunnel.disconnect': { access: 'member', params: nothing, result: z.null() },
  'settings.read': { access: 'member', params: nothing, result: settingsShape },
  'settings.update': { access: 'member', params: settingsChangeShape, result: settingsShape },
}

/** Whether `name` is a method. */
export function isMethod(name: string): name is MethodName {
  return Object.hasOwn(methods, name)
}

/** Text that one of the tunnel's parsers reads. The longest thing that any of them takes is a name of 253 octets. */
function parsed<T>(parse: (text: string) => T) {
  return z
    .string()
    .max(300)
    .transform((text, context) => attempt(context, () => parse(text)))
}

function attempt<T>(context: z.RefinementCtx, parse: () => T): T {
  try {
    return parse()
  } catch (error) {
    if (!(error instanceof TunnelError)) throw error
    context.addIssue({ code: 'custom', message: error.message })
    return z.NEVER
  }
}
