/** `settings get` and `settings set`. Words become values here; whether this version carries them out is the helper's to say. */
import type { HelperClient } from '../client.ts'
import { defaultSettings, type Settings, type SettingsChange } from '../contract/index.ts'
import { explain, settingsChangeShape } from '../schema.ts'
import { UsageError } from './error.ts'
import { profileNamed } from './profiles.ts'
import { formatTable, printJson } from './words.ts'

/** Shows one setting, or all. @param key null: all. */
export async function readSettings(
  client: HelperClient,
  key: string | null,
  { json }: { readonly json?: true },
): Promise<void> {
  const wanted = key === null ? keys : [keyNamed(key)]
  const settings = await client.call('settings.read', {})
  if (json === true) return printJson(key === null ? settings : settings[keyNamed(key)])
  const words = await wordsOf(client, settings)
  if (key !== null) return console.log(words[keyNamed(key)])
  console.log(formatTable(wanted.map((name) => [name, words[name]])))
}

/** Changes a setting. */
export async function setSetting(client: HelperClient, key: string, value: string): Promise<void> {
  const name = keyNamed(key)
  const settings = await client.call('settings.update', await changeOf(client, name, value))
  console.log(`${name} ${(await wordsOf(client, settings))[name]}`)
}

async function changeOf(client: HelperClient, key: keyof Settings, value: string): Promise<SettingsChange> {
  switch (key) {
    case 'allowLan':
      if (value !== 'on' && value !== 'off') throw new UsageError('allowLan is "on" or "off"')
      return { allowLan: value === 'on' }
    case 'autoConnect':
      return {
        autoConnect: value === 'off' ? null : profileNamed(await client.call('profiles.list', {}), value).id,
      }
    case 'killSwitch':
    case 'carrier': {
      const parsed = settingsChangeShape.safeParse({ [key]: value })
      if (!parsed.success) throw new UsageError(explain(parsed.error))
      return parsed.data
    }
  }
}

/** Settings in the words that `set` takes. */
async function wordsOf(
  client: HelperClient,
  settings: Settings,
): Promise<Readonly<Record<keyof Settings, string>>> {
  const auto = settings.autoConnect
  const profiles = auto === null ? [] : await client.call('profiles.list', {})
  return {
    killSwitch: settings.killSwitch,
    allowLan: settings.allowLan ? 'on' : 'off',
    autoConnect: auto === null ? 'off' : (profiles.find(({ id }) => id === auto)?.name ?? auto),
    carrier: settings.carrier,
  }
}

function keyNamed(key: string): keyof Settings {
  const found = keys.find((name) => name === key)
  if (found === undefined) throw new UsageError(`there is no setting "${key}": there are ${keys.join(', ')}`)
  return found
}

// Object.keys forgets the type of what it lists.
const keys = Object.keys(defaultSettings) as readonly (keyof Settings)[]
