import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { z } from 'zod'
import { defaultSettings, type ProfileDraft, type ProfileId } from './contract/index.ts'
import { HelperError } from './error.ts'
import { profileDraftShape } from './schema.ts'
import { parseDocument, Store } from './store.ts'

const directory = await mkdtemp(join(tmpdir(), 'culvert-store-'))
after(() => rm(directory, { recursive: true }))
let number = 0
const root = { uid: 0 }
const alice = { uid: 1000 }
const bob = { uid: 1001 }
const privateKey = 'CBQeKDI8RlBaZG54goyWoKq0vsjS3Obw+gQOGCIsNkA='
const presharedKey = 'ERERERERERERERERERERERERERERERERERERERERERE='

function draft(name: string, fields: Partial<ProfileDraft> = {}): ProfileDraft {
  return profileDraftShape.parse({
    name,
    shared: false,
    addresses: ['10.64.0.2/32'],
    dns: ['10.64.0.1'],
    searchDomains: [],
    mtu: null,
    listenPort: null,
    privateKey,
    peers: [
      {
        publicKey: 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
        presharedKey,
        endpoint: { host: 'vpn.example.net', port: 51820 },
        allowedIps: ['0.0.0.0/0'],
        persistentKeepalive: 25,
      },
    ],
    ...fields,
  })
}

async function open(path = join(directory, `${number++}`)) {
  await mkdir(path, { recursive: true })
  const damaged: string[] = []
  const store = await Store.open(path, (sentence) => damaged.push(sentence.replace(path, 'DIR')))
  return { path, store, damaged }
}

/** What an error is, as one value. */
async function refusal(work: () => Promise<unknown>): Promise<unknown> {
  try {
    return await work()
  } catch (error) {
    return error instanceof HelperError
      ? `${error.code}: ${error.message.replace(/\S*\/(?=\w+\.json)/, '')}`
      : error
  }
}

describe('profiles', () => {
  it('come back with their keys from a directory that only root reads', async () => {
    const { path, store } = await open()
    const profile = await store.add(draft('home'), alice)
    const again = await open(path)
    assert.deepEqual([again.store.visible(alice), again.damaged], [[profile], []])
    const keyed = again.store.profile(profile.id)
    assert.deepEqual(
      [keyed?.privateKey.base64(), [...(keyed?.presharedKeys.values() ?? [])].map((key) => key.base64())],
      [privateKey, [presharedKey]],
    )
    const modes = [join(path, 'profiles'), join(path, 'profiles', `${profile.id}.json`)].map(
      async (name) => (await stat(name)).mode & 0o777,
    )
    assert.deepEqual(await Promise.all(modes), [0o700, 0o600])
  })

  it('show no secret', async () => {
    const { store } = await open()
    const profile = await store.add(draft('home'), alice)
    const shown = JSON.stringify([profile, store.visible(root), store.profile(profile.id)])
    assert.equal(shown.includes(privateKey) || shown.includes(presharedKey), false)
  })

  it('are seen by their owner, by root, and, when they are shared, by everyone', async () => {
    const { store } = await open()
    await store.add(draft('mine'), alice)
    await store.add(draft('ours', { shared: true }), alice)
    const names = [root, alice, bob].map((who) => store.visible(who).map(({ name }) => name))
    assert.deepEqual(names, [['mine', 'ours'], ['mine', 'ours'], ['ours']])
  })

  it('are changed by their owner and root only', async () => {
    const { store } = await open()
    const mine = await store.add(draft('mine'), alice)
    const ours = await store.add(draft('ours', { shared: true }), alice)
    assert.deepEqual(
      [
        await refusal(() => store.remove(mine.id, bob)),
        await refusal(() => store.rename(ours.id, 'theirs', bob)),
      ],
      [
        'unknown-profile: there is no such profile',
        'not-permitted: "ours" belongs to another user: only its owner or root may change it',
      ],
    )
    await store.rename(ours.id, 'everyone', root)
    await store.remove(mine.id, alice)
    assert.deepEqual(
      store.visible(root).map(({ name }) => name),
      ['everyone'],
    )
  })

  it('have names of their own, also when two are added at once', async () => {
    const { store } = await open()
    const outcomes = await Promise.all([1, 2].map(() => refusal(() => store.add(draft('home'), alice))))
    assert.deepEqual(
      [typeof outcomes[0], outcomes[1]],
      ['object', 'name-taken: there is a profile "home" already: choose another name'],
    )
    // Somebody else's is not theirs to know of.
    await store.add(draft('home'), bob)
  })

  it('that are damaged are named with their field, left as they are, and do not stop the others', async () => {
    const { path, store } = await open()
    const profile = await store.add(draft('home'), alice)
    const files = {
      '00000000000000aa.json': '{"version":1,"id":"00000000000000aa"',
      '00000000000000bb.json': JSON.stringify({ version: 1, id: '00000000000000bb', owner: 0 }),
      '00000000000000cc.json': JSON.stringify({ version: 9 }),
    }
    for (const [name, text] of Object.entries(files)) await writeFile(join(path, 'profiles', name), text)
    const again = await open(path)
    assert.deepEqual(again.damaged, [
      'DIR/profiles/00000000000000aa.json is not JSON',
      'DIR/profiles/00000000000000bb.json: name: Invalid input: expected string, received undefined',
      'DIR/profiles/00000000000000cc.json was written by a newer Culvert (its version is 9, this one reads up to 1)',
    ])
    assert.deepEqual(again.store.visible(root), [profile])
    assert.deepEqual((await readdir(join(path, 'profiles'))).length, 4)
  })

  it('that were being written when the helper was killed leave no key behind', async () => {
    const { path } = await open()
    await writeFile(join(path, 'profiles', '00000000000000aa.json.01234567.new'), privateKey)
    assert.deepEqual((await open(path)).damaged, [])
    assert.deepEqual(await readdir(join(path, 'profiles')), [])
  })

  it('that are removed leave no file, and no setting that names them', async () => {
    const { path, store } = await open()
    const { id } = await store.add(draft('home'), alice)
    await store.update({ autoConnect: id })
    await store.remove(id, alice)
    assert.deepEqual([await readdir(join(path, 'profiles')), store.settings().autoConnect], [[], null])
  })
})

describe('settings', () => {
  it('are kept', async () => {
    const { path, store } = await open()
    await store.update({ carrier: 'udp' })
    assert.deepEqual((await open(path)).store.settings(), { ...defaultSettings, carrier: 'udp' })
  })

  it('that this version does not carry out are refused, and nothing of the change is kept', async () => {
    const { store } = await open()
    assert.equal(
      await refusal(() => store.update({ carrier: 'udp', killSwitch: 'session' })),
      'not-available: killSwitch cannot be "session": this version does not carry that out yet, only "off"',
    )
    assert.deepEqual(store.settings(), defaultSettings)
  })

  it('that are damaged stop the helper with the field', async () => {
    const { path } = await open()
    await writeFile(
      join(path, 'settings.json'),
      JSON.stringify({ version: 1, ...defaultSettings, allowLan: 'yes' }),
    )
    assert.equal(
      await refusal(() => open(path)),
      'bad-state: settings.json: allowLan: Invalid input: expected boolean, received string',
    )
  })
})

describe('the target', () => {
  it('outlives the helper', async () => {
    const { path, store } = await open()
    const id = '00000000000000aa' as ProfileId
    await store.aim(id, 'boot-1')
    assert.deepEqual((await open(path)).store.target(), { bootId: 'boot-1', profile: id, lockdown: 'off' })
    assert.equal(
      await readFile(join(path, 'target'), 'utf8'),
      'culvert-target 1\nboot boot-1\nprofile 00000000000000aa\nlockdown off\n',
    )
  })

  it('that is damaged stops the helper, which says what makes it anew', async () => {
    const { path } = await open()
    await writeFile(join(path, 'target'), 'culvert-target 1\nboot')
    assert.match(String(await refusal(() => open(path))), /^bad-state: .*target is damaged.*culvert rescue/)
  })
})

describe('parseDocument', () => {
  const shape = z.strictObject({ full: z.string() })
  const migrations = [
    ({ first, last }: Readonly<Record<string, unknown>>) => ({ name: `${String(first)} ${String(last)}` }),
    ({ name }: Readonly<Record<string, unknown>>) => ({ full: name }),
  ]

  it('brings a document of any version up to this one', () => {
    const documents = [
      { version: 1, first: 'a', last: 'b' },
      { version: 2, name: 'a b' },
      { version: 3, full: 'a b' },
    ]
    assert.deepEqual(
      documents.map((document) => parseDocument(JSON.stringify(document), 'x', shape, migrations)),
      Array.from({ length: 3 }, () => ({ full: 'a b' })),
    )
  })

  it('names what is wrong, and never repeats what is in the file', () => {
    const texts = ['[]', '{"version":"1"}', '{"version":3,"full":7}', `{"version":3,"key":"${privateKey}`]
    const messages = texts.map((text) => {
      try {
        return parseDocument(text, 'file', shape, migrations)
      } catch (error) {
        return error instanceof HelperError ? error.message : error
      }
    })
    assert.deepEqual(messages, [
      'file: expected an object',
      'file: version: expected a number from 1 to 3',
      'file: full: Invalid input: expected string, received number',
      'file is not JSON',
    ])
  })
})
