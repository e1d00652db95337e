/**
 * `import`, `list`, `rename`, `remove`. What a stranger wrote is parsed here, with the rights of whoever typed the command;
 * the helper gets a draft that it only has to check.
 */
import { open, type FileHandle } from 'node:fs/promises'
import { basename } from 'node:path'
import { formatEndpoint, parseWgQuick, type ParsedConf, type Refused } from '@culvert/tunnel'
import type { HelperClient } from '../client.ts'
import type { Profile, ProfileDraft } from '../contract/index.ts'
import { HelperError } from '../error.ts'
import { explain, profileDraftShape } from '../schema.ts'
import { UsageError } from './error.ts'
import { formatAge, formatTable, printJson } from './words.ts'

export interface ImportOptions {
  readonly name?: string
  readonly shared?: true
  readonly withoutHooks?: true
  readonly json?: true
}

/** Adds the profile that a file, standard input or a link describes. */
export async function importProfile(
  client: HelperClient,
  source: string,
  options: ImportOptions,
): Promise<void> {
  if (/^culvert:/i.test(source)) {
    throw new HelperError('not-available', 'this version does not know links yet: import a .conf file')
  }
  const name = options.name ?? (source === '-' ? null : basename(source).replace(/\.conf$/i, ''))
  if (name === null) throw new UsageError('what comes from standard input needs a name: --name NAME')
  const shown = source === '-' ? 'standard input' : source
  const parsed = parseWgQuick(await read(source), shown)
  const draft = draftOf(parsed, shown, name, options)
  const profile = await client.call('profiles.add', draft)
  for (const sentence of warnings(parsed, shown)) console.error(`culvert: ${sentence}`)
  if (options.json === true) printJson(profile)
  else console.log(`imported "${profile.name}": culvert connect ${quoted(profile.name)}`)
}

/** Shows the profiles that the caller may use. */
export async function listProfiles(client: HelperClient, { json }: { readonly json?: true }): Promise<void> {
  const profiles = await client.call('profiles.list', {})
  if (json === true) return printJson(profiles)
  if (profiles.length === 0) return console.log('there is no profile yet: culvert import FILE')
  const now = Date.now()
  console.log(
    formatTable([
      ['NAME', 'SERVER', 'LAST USED', ''],
      ...profiles.map((profile) => [
        profile.name,
        profile.peers.flatMap(({ endpoint }) => (endpoint === null ? [] : [formatEndpoint(endpoint)]))[0] ??
          '-',
        profile.lastUsed === null ? 'never' : `${formatAge(now - profile.lastUsed)} ago`,
        profile.shared ? 'shared' : '',
      ]),
    ]),
  )
}

export async function renameProfile(client: HelperClient, name: string, to: string): Promise<void> {
  const { id } = profileNamed(await client.call('profiles.list', {}), name)
  const renamed = await client.call('profiles.rename', { id, name: to })
  console.log(`renamed "${name}" to "${renamed.name}"`)
}

export async function removeProfile(client: HelperClient, name: string): Promise<void> {
  const { id } = profileNamed(await client.call('profiles.list', {}), name)
  await client.call('profiles.remove', { id })
  console.log(`removed "${name}"`)
}

/** The profile of that name among the caller's. @throws HelperError `unknown-profile` listing those that there are. */
export function profileNamed(profiles: readonly Profile[], name: string): Profile {
  // One's own come first, so that somebody else's shared profile cannot take the place of one's own.
  const found = profiles.find((profile) => profile.name === name)
  if (found !== undefined) return found
  const names = profiles.map((profile) => `"${profile.name}"`).join(', ')
  const known = names === '' ? 'there is none yet: culvert import FILE' : `there are: ${names}`
  throw new HelperError('unknown-profile', `there is no profile "${name}"; ${known}`)
}

/** The draft of a parsed .conf. @throws HelperError when it has hooks and nobody said to leave them out. */
function draftOf(
  { conf, refused }: ParsedConf,
  shown: string,
  name: string,
  options: ImportOptions,
): ProfileDraft {
  const hook = refused.find(isHook)
  if (hook !== undefined && options.withoutHooks !== true) {
    throw new HelperError(
      'bad-request',
      `${shown} line ${hook.line}: ${hook.key}: ${hook.reason}; to import the rest: --without-hooks`,
    )
  }
  const draft: ProfileDraft = {
    name,
    shared: options.shared === true,
    addresses: conf.addresses,
    dns: conf.dns,
    searchDomains: conf.searchDomains,
    mtu: conf.mtu,
    listenPort: conf.listenPort,
    privateKey: conf.privateKey.base64(),
    peers: conf.peers.map(({ presharedKey, ...peer }) => ({
      ...peer,
      presharedKey: presharedKey?.base64() ?? null,
    })),
  }
  const checked = profileDraftShape.safeParse(draft)
  if (!checked.success) throw new HelperError('bad-request', `${shown}: ${explain(checked.error)}`)
  return draft
}

/** What of the file does not hold, one sentence each. */
function warnings({ conf, refused }: ParsedConf, shown: string): readonly string[] {
  const left = refused.map(({ line, key, reason }) => `${shown} line ${line}: ${key} is left out: ${reason}`)
  if (conf.dns.length === 0 && conf.searchDomains.length === 0) return left
  const servers = [...conf.dns, ...conf.searchDomains].join(', ')
  return [
    ...left,
    `${shown}: DNS (${servers}) is kept, but this version does not set it: names are resolved as without the tunnel`,
  ]
}

function isHook({ key }: Refused): boolean {
  return /^(?:pre|post)(?:up|down)$/i.test(key)
}

async function read(source: string): Promise<string> {
  let file: FileHandle | null = null
  try {
    const chunks: Buffer[] = []
    let length = 0
    const stream = source === '-' ? process.stdin : (file = await open(source)).createReadStream()
    for await (const chunk of stream) {
      const bytes = Buffer.from(chunk as Buffer) // neither stream has an encoding set
      length += bytes.length
      chunks.push(bytes)
      // The parser refuses it and says so; the rest need not be read for that.
      if (length > TOO_MUCH) break
    }
    return Buffer.concat(chunks).toString('utf8')
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException // node:fs throws nothing else
    const why = code === undefined ? undefined : FILE_WORDS[code]
    if (why === undefined) throw error
    throw new HelperError('failed', `${source} ${why}`)
  } finally {
    await file?.close()
  }
}

function quoted(name: string): string {
  return /^[\w.@-]+$/.test(name) ? name : `'${name.replaceAll("'", "'\\''")}'`
}

const FILE_WORDS: Readonly<Record<string, string>> = {
  ENOENT: 'is not there',
  EACCES: 'may not be read by you',
  EISDIR: 'is a directory, not a .conf file',
}
const TOO_MUCH = 1024 * 1024
