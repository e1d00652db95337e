/**
 * Profiles, settings and the target on disk:
 *
 *   DIR/profiles/ID.json   one profile with its keys: 0600 in a directory 0700, which nobody but root opens
 *   DIR/settings.json
 *   DIR/target             see target.ts
 *
 * Every file is replaced whole and is on the disk before a call returns. A file that is not what it should be is named with
 * its field and left as it is; what is not damaged goes on.
 */
import { randomBytes } from 'node:crypto'
import { chmod, mkdir, readdir, rm } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { Secret, type PublicKey } from '@culvert/tunnel'
import type { z } from 'zod'
import {
  availableSettings,
  defaultSettings,
  type PeerConfig,
  type PeerDraft,
  type Profile,
  type ProfileDraft,
  type ProfileId,
  type Settings,
  type SettingsChange,
} from './contract/index.ts'
import { HelperError } from './error.ts'
import { readText, syncDirectory, writeDurably } from './host/journal.ts'
import { PROFILE_DIRECTORY, SETTINGS_FILE, TARGET_FILE } from './host/names.ts'
import { explain, profileIdShape, settingsShape, storedProfileShape } from './schema.ts'
import { formatTarget, parseTarget, type Target } from './target.ts'

/** A profile with its secrets. */
export interface KeyedProfile {
  readonly profile: Profile
  readonly privateKey: Secret
  /** Of the peers that have one. */
  readonly presharedKeys: ReadonlyMap<PublicKey, Secret>
}

/** Somebody who asks: their uid is all that decides what they see. */
export interface Owner {
  readonly uid: number
}

/** The state directory, and its only writer. */
export class Store {
  readonly #directory: string
  readonly #profiles: Map<ProfileId, KeyedProfile>
  #settings: Settings
  #target: Target
  /** Ends when the last change that was begun has ended: two at once could both find a name free. */
  #changing: Promise<unknown> = Promise.resolve()

  private constructor(
    directory: string,
    profiles: Map<ProfileId, KeyedProfile>,
    settings: Settings,
    target: Target,
  ) {
    this.#directory = directory
    this.#profiles = profiles
    this.#settings = settings
    this.#target = target
  }

  /**
   * Reads everything. A damaged profile is passed over and told through `damaged`, one sentence each.
   * @throws HelperError `bad-state` when the settings or the target are damaged: nobody may guess those.
   */
  static async open(directory: string, damaged: (sentence: string) => void): Promise<Store> {
    await mkdir(join(directory, PROFILE_DIRECTORY), { recursive: true, mode: 0o700 })
    await chmod(join(directory, PROFILE_DIRECTORY), 0o700)
    const profiles = new Map<ProfileId, KeyedProfile>()
    for (const name of (await readdir(join(directory, PROFILE_DIRECTORY))).sort()) {
      // What writeDurably had begun when the helper was killed: it may hold keys, and is nobody's.
      if (name.endsWith('.new')) await rm(join(directory, PROFILE_DIRECTORY, name))
      if (!name.endsWith('.json')) continue
      try {
        const keyed = await readProfile(join(directory, PROFILE_DIRECTORY, name))
        profiles.set(keyed.profile.id, keyed)
      } catch (error) {
        if (!(error instanceof HelperError)) throw error
        damaged(error.message)
      }
    }
    const settings = await readSettings(join(directory, SETTINGS_FILE))
    const targetPath = join(directory, TARGET_FILE)
    const target = parseTarget(await readText(targetPath))
    if (target === null) {
      throw new HelperError(
        'bad-state',
        `${targetPath} is damaged: expected four lines that begin with "culvert-target 1"; "sudo culvert rescue" makes it anew`,
      )
    }
    return new Store(directory, profiles, settings, target)
  }

  /** The profiles that somebody may connect with: their own and shared ones; root sees all. Own ones first, by name. */
  visible(owner: Owner): readonly Profile[] {
    return [...this.#profiles.values()]
      .map(({ profile }) => profile)
      .filter((profile) => isVisible(profile, owner))
      .sort(
        (a, b) => Number(b.owner === owner.uid) - Number(a.owner === owner.uid) || (a.name < b.name ? -1 : 1),
      )
  }

  /** A profile with its secrets; null: there is none of that id. */
  profile(id: ProfileId): KeyedProfile | null {
    return this.#profiles.get(id) ?? null
  }

  /** Keeps a profile. @throws HelperError `name-taken`. */
  add(draft: ProfileDraft, owner: Owner): Promise<Profile> {
    return this.#change(() => this.#add(draft, owner))
  }

  async #add(draft: ProfileDraft, owner: Owner): Promise<Profile> {
    this.#refuseTaken(draft.name, owner, null)
    const id = profileIdShape.parse(randomBytes(8).toString('hex'))
    const { privateKey, peers, ...fields } = draft
    const profile: Profile = {
      id,
      owner: owner.uid,
      lastUsed: null,
      ...fields,
      peers: peers.map(withoutSecret),
    }
    const presharedKeys = new Map<PublicKey, Secret>()
    for (const peer of peers) {
      if (peer.presharedKey !== null) presharedKeys.set(peer.publicKey, Secret.parse(peer.presharedKey))
    }
    await this.#keep({ profile, privateKey: Secret.parse(privateKey), presharedKeys })
    return profile
  }

  /** @throws HelperError `unknown-profile`, `not-permitted` or `name-taken`. */
  rename(id: ProfileId, name: string, owner: Owner): Promise<Profile> {
    return this.#change(async () => {
      const keyed = this.#own(id, owner)
      this.#refuseTaken(name, owner, id)
      const profile = { ...keyed.profile, name }
      await this.#keep({ ...keyed, profile })
      return profile
    })
  }

  /** Removes a profile and wipes its keys. @throws HelperError `unknown-profile` or `not-permitted`. */
  remove(id: ProfileId, owner: Owner): Promise<void> {
    return this.#change(async () => {
      const keyed = this.#own(id, owner)
      if (this.#settings.autoConnect === id) await this.#update({ autoConnect: null })
      await rm(this.#path(id))
      await syncDirectory(join(this.#directory, PROFILE_DIRECTORY))
      this.#profiles.delete(id)
      keyed.privateKey[Symbol.dispose]()
      for (const secret of keyed.presharedKeys.values()) secret[Symbol.dispose]()
    })
  }

  /** Notes that a profile is being connected: the last used is the one that `connect` without a name means. */
  touch(id: ProfileId, now: number): Promise<void> {
    return this.#change(async () => {
      const keyed = this.#profiles.get(id)
      if (keyed !== undefined) await this.#keep({ ...keyed, profile: { ...keyed.profile, lastUsed: now } })
    })
  }

  settings(): Settings {
    return this.#settings
  }

  /** Changes settings, all that are given or none. @throws HelperError `not-available`. */
  update(change: SettingsChange): Promise<Settings> {
    return this.#change(() => this.#update(change))
  }

  async #update(change: SettingsChange): Promise<Settings> {
    const settings = { ...this.#settings, ...change }
    refuseUnavailable(settings, '')
    await writeDurably(join(this.#directory, SETTINGS_FILE), document(settings))
    this.#settings = settings
    return settings
  }

  target(): Target {
    return this.#target
  }

  /** Notes what the user wants; on the disk before anything is done about it. */
  aim(profile: ProfileId | null, bootId: string): Promise<void> {
    return this.#change(async () => {
      const lockdown = this.#settings.killSwitch === 'lockdown' ? 'on' : 'off'
      const target: Target = { bootId, profile, lockdown }
      await writeDurably(join(this.#directory, TARGET_FILE), formatTarget(target))
      this.#target = target
    })
  }

  /** One change after another. */
  #change<T>(change: () => Promise<T>): Promise<T> {
    const changed = this.#changing.then(change)
    // Whoever asked for it hears of a failure; the next change goes ahead all the same.
    this.#changing = changed.catch(() => {})
    return changed
  }

  async #keep(keyed: KeyedProfile): Promise<void> {
    const { profile, privateKey, presharedKeys } = keyed
    const stored: z.output<typeof storedProfileShape> = {
      ...profile,
      addresses: [...profile.addresses],
      dns: [...profile.dns],
      searchDomains: [...profile.searchDomains],
      privateKey: privateKey.base64(),
      peers: profile.peers.map((peer) => ({
        ...peer,
        allowedIps: [...peer.allowedIps],
        presharedKey: presharedKeys.get(peer.publicKey)?.base64() ?? null,
      })),
    }
    await writeDurably(this.#path(profile.id), document(stored))
    this.#profiles.set(profile.id, keyed)
  }

  #own(id: ProfileId, owner: Owner): KeyedProfile {
    const keyed = this.#profiles.get(id)
    if (keyed === undefined || !isVisible(keyed.profile, owner)) {
      throw new HelperError('unknown-profile', 'there is no such profile')
    }
    if (owner.uid !== 0 && keyed.profile.owner !== owner.uid) {
      throw new HelperError(
        'not-permitted',
        `"${keyed.profile.name}" belongs to another user: only its owner or root may change it`,
      )
    }
    return keyed
  }

  #refuseTaken(name: string, owner: Owner, except: ProfileId | null): void {
    if (this.visible(owner).some((profile) => profile.name === name && profile.id !== except)) {
      throw new HelperError('name-taken', `there is a profile "${name}" already: choose another name`)
    }
  }

  #path(id: ProfileId): string {
    return join(this.#directory, PROFILE_DIRECTORY, `${id}.json`)
  }
}

/** Whether somebody may see a profile and connect with it. */
export function isVisible(profile: Profile, owner: Owner): boolean {
  return owner.uid === 0 || profile.owner === owner.uid || profile.shared
}

/** A document of an older version turned into the next one. Frozen once released. */
export type Migration = (document: Readonly<Record<string, unknown>>) => Readonly<Record<string, unknown>>

/**
 * Reads a document of any version up to this one: `migrations[0]` makes version 2 of version 1, and so on.
 * @param name stands before what is wrong.
 * @throws HelperError `bad-state` naming file and field. Never repeats what is in the file: keys may be.
 */
export function parseDocument<T>(
  text: string,
  name: string,
  shape: z.ZodType<T>,
  migrations: readonly Migration[],
): T {
  let read: unknown
  try {
    read = JSON.parse(text)
  } catch {
    throw new HelperError('bad-state', `${name} is not JSON`)
  }
  if (typeof read !== 'object' || read === null || Array.isArray(read)) {
    throw new HelperError('bad-state', `${name}: expected an object`)
  }
  // An object that is not an array has string keys.
  const { version, ...fields } = read as Record<string, unknown>
  const newest = migrations.length + 1
  if (typeof version !== 'number' || !Number.isInteger(version) || version < 1) {
    throw new HelperError('bad-state', `${name}: version: expected a number from 1 to ${newest}`)
  }
  if (version > newest) {
    throw new HelperError(
      'bad-state',
      `${name} was written by a newer Culvert (its version is ${version}, this one reads up to ${newest})`,
    )
  }
  const migrated = migrations
    .slice(version - 1)
    .reduce<Readonly<Record<string, unknown>>>((document, migrate) => migrate(document), fields)
  const parsed = shape.safeParse(migrated)
  if (!parsed.success) throw new HelperError('bad-state', `${name}: ${explain(parsed.error)}`)
  return parsed.data
}

async function readProfile(path: string): Promise<KeyedProfile> {
  const stored = parseDocument(await readText(path), path, storedProfileShape, PROFILE_MIGRATIONS)
  if (basename(path) !== `${stored.id}.json`) {
    throw new HelperError('bad-state', `${path}: id: expected the name of the file`)
  }
  const { privateKey, peers, ...fields } = stored
  const presharedKeys = new Map<PublicKey, Secret>()
  for (const peer of peers) {
    if (peer.presharedKey !== null) presharedKeys.set(peer.publicKey, Secret.parse(peer.presharedKey))
  }
  return {
    profile: { ...fields, peers: peers.map(withoutSecret) },
    privateKey: Secret.parse(privateKey),
    presharedKeys,
  }
}

async function readSettings(path: string): Promise<Settings> {
  const text = await readText(path)
  if (text === '') return defaultSettings
  const settings = parseDocument(text, path, settingsShape, SETTINGS_MIGRATIONS)
  refuseUnavailable(settings, `${path}: `)
  return settings
}

function withoutSecret({ publicKey, endpoint, allowedIps, persistentKeepalive }: PeerDraft): PeerConfig {
  return { publicKey, endpoint, allowedIps, persistentKeepalive }
}

/** Refuses a setting that this version would take and not carry out. */
function refuseUnavailable(settings: Settings, where: string): void {
  // Object.keys forgets the type of what it lists.
  for (const key of Object.keys(availableSettings) as (keyof Settings)[]) {
    const available: readonly unknown[] | null = availableSettings[key]
    if (available === null || available.includes(settings[key])) continue
    const words = available.map(wordOf).join(' or ')
    throw new HelperError(
      'not-available',
      `${where}${key} cannot be ${wordOf(settings[key])}: this version does not carry that out yet, only ${words}`,
    )
  }
}

/** A value in the word that the command line takes. */
function wordOf(value: unknown): string {
  return typeof value === 'boolean' ? (value ? '"on"' : '"off"') : `"${String(value)}"`
}

function document(fields: object): string {
  return `${JSON.stringify({ version: 1, ...fields }, null, 2)}\n`
}

const PROFILE_MIGRATIONS: readonly Migration[] = []
const SETTINGS_MIGRATIONS: readonly Migration[] = []
