import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import {
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { parseWgQuick } from '@culvert/tunnel/pure'
import { publicKeyOf } from './keys.ts'
import { openRegistry } from './registry.ts'
import { version } from './version.ts'

const launcher = join(import.meta.dirname, 'bin/culvert-server')
const folder = mkdtempSync(join(tmpdir(), 'culvert-server-'))
after(() => rmSync(folder, { recursive: true }))
let folders = 0

describe('culvert-server', () => {
  it('starts from a symbolic link, as npm makes one', async () => {
    const link = join(folder, 'culvert-server')
    symlinkSync(launcher, link)
    assert.deepEqual(await call(['--version'], link), { status: 0, stdout: `${version}\n`, stderr: '' })
  })

  it('says what to do when its dependencies are missing', async () => {
    const bare = fresh()
    mkdirSync(join(bare, 'server/bin'), { recursive: true })
    const copy = join(bare, 'server/bin/culvert-server')
    writeFileSync(copy, readFileSync(launcher), { mode: 0o755 })
    const said = `culvert-server: its dependencies are not installed; run "npm run setup" in ${bare}\n`
    assert.deepEqual(await call([], copy), { status: 1, stdout: '', stderr: said })
  })

  for (const args of [[], ['init'], ['run'], ['device'], ['device', 'add'], ['status'], ['doctor']]) {
    it(`explains itself: ${['culvert-server', ...args, '--help'].join(' ')}`, async () => {
      const { status, stdout, stderr } = await call([...args, '--help'])
      assert.deepEqual(
        { status, stderr, usage: stdout.startsWith('Usage: culvert-server') },
        { status: 0, stderr: '', usage: true },
      )
    })
  }

  const misuses: readonly (readonly [args: readonly string[], sentence: string])[] = [
    [['serve'], "unknown command 'serve'"],
    [['init'], "required option '--endpoint <HOST[:PORT]>' not specified"],
    [
      ['init', '--endpoint', 'vpn..example'],
      "option '--endpoint <HOST[:PORT]>' argument 'vpn..example' is invalid. \"vpn..example\" is not a host name or an IP address",
    ],
    [
      ['init', '--endpoint', 'a.b:99999'],
      "option '--endpoint <HOST[:PORT]>' argument 'a.b:99999' is invalid. \"99999\" is not a port from 1 to 65535",
    ],
    [['device', 'add', 'ann'], "required option '--wg-quick' not specified"],
    [
      ['device', 'add', 'a b', '--wg-quick'],
      "command-argument value 'a b' is invalid for argument 'USER'. a name is letters, digits and \". _ - @\", at most 64, and begins with a letter or a digit",
    ],
    [
      ['run', '--log-level', 'loud'],
      "option '--log-level <LEVEL>' argument 'loud' is invalid. Allowed choices are error, warn, info, debug.",
    ],
    [['status', '--jsno'], "unknown option '--jsno'\n(Did you mean --json?)"],
  ]
  for (const [args, sentence] of misuses) {
    it(`ends with 2 and a sentence after "${args.join(' ')}"`, async () => {
      assert.deepEqual(await call(args), { status: 2, stdout: '', stderr: `culvert-server: ${sentence}\n` })
    })
  }

  it('ends with 1 and a sentence when there is no state, and makes none', async () => {
    const state = join(fresh(), 'nowhere')
    const config = `${state}/config.toml does not exist: run "culvert-server init --endpoint HOST" first`
    const said = await Promise.all([
      call(['run', '--state', state]),
      call(['device', 'add', 'ann', '--wg-quick', '--state', state]),
      call(['status', '--state', state]),
    ])
    assert.deepEqual(
      said.map(({ status, stderr }) => [status, stderr]),
      [
        [1, `culvert-server: ${config}\n`],
        [1, `culvert-server: ${config}\n`],
        [1, `culvert-server: the server is not running: nobody answers at ${state}/control.sock\n`],
      ],
    )
    assert.deepEqual(readdirSync(join(state, '..')), [])
  })
})

describe('culvert-server init', () => {
  it('makes keys, registry and config, secrets for their owner only', async () => {
    const state = fresh()
    const { status, stderr } = await call(['init', '--endpoint', 'vpn.example.org', '--state', state])
    assert.deepEqual([status, stderr], [0, ''])
    const modes = readdirSync(state).map((name) => [
      name,
      (statSync(join(state, name)).mode & 0o777).toString(8),
    ])
    assert.deepEqual(Object.fromEntries(modes), {
      'carrier.secret': '600',
      'config.toml': '644',
      'operator.key': '600',
      'private.key': '600',
      'registry.db': '600',
    })
  })

  it('says in one sentence why a folder cannot be made', async () => {
    const state = join(fresh(), 'file')
    writeFileSync(state, '')
    const { status, stderr } = await call(['init', '--endpoint', 'vpn.example.org', '--state', `${state}/x`])
    assert.deepEqual(
      [status, stderr],
      [
        1,
        `culvert-server: the state cannot be made (ENOTDIR: not a directory, mkdir '${state}/x'): free that place, or choose another with --state DIR\n`,
      ],
    )
  })

  it('overwrites nothing, and names the file', async () => {
    const state = fresh()
    writeFileSync(join(state, 'operator.key'), 'precious')
    const { status, stderr } = await call(['init', '--endpoint', 'vpn.example.org', '--state', state])
    assert.deepEqual(
      [status, stderr, readdirSync(state), readFileSync(join(state, 'operator.key'), 'utf8')],
      [
        1,
        `culvert-server: ${state}/operator.key exists already, and init overwrites nothing: keep it, or move it away first\n`,
        ['operator.key'],
        'precious',
      ],
    )
  })

  it('says so where no folder can be made, and ends', { timeout: 30_000 }, async () => {
    const { status, stderr } = await call([
      'init',
      '--endpoint',
      'vpn.example.org',
      '--state',
      '/proc/none/state',
    ])
    assert.equal(status, 1)
    assert.match(
      stderr,
      /^culvert-server: the state cannot be made \(.*\/proc\/none.*\): free that place, or /,
    )
  })
})

describe('culvert-server device add', () => {
  it('prints a .conf whose keys the registry knows, and keeps the private one nowhere', async () => {
    const state = fresh()
    await call(['init', '--endpoint', 'vpn.example.org:4433', '--state', state])
    const { status, stdout, stderr } = await call(['device', 'add', 'ann', '--wg-quick', '--state', state])
    assert.deepEqual(
      [status, stderr],
      [0, 'culvert-server is not running: the device can connect once it is\n'],
    )

    const { conf, refused } = parseWgQuick(stdout, 'stdout')
    using registry = openRegistry(join(state, 'registry.db'))
    const [device] = registry.devices()
    assert.ok(device)
    const { privateKey, peers, ...rest } = conf
    assert.deepEqual(
      {
        ...rest,
        refused,
        key: publicKeyOf(privateKey),
        peers: peers.map(({ endpoint, allowedIps, persistentKeepalive }) => ({
          endpoint,
          allowedIps,
          persistentKeepalive,
        })),
      },
      {
        addresses: [`${device.address4}/32`, `${device.address6}/128`],
        dns: ['9.9.9.9', '1.1.1.1', '2620:fe::fe'],
        searchDomains: [],
        mtu: 1420,
        listenPort: null,
        refused: [],
        key: device.publicKey,
        peers: [
          {
            endpoint: { host: 'vpn.example.org', port: 4433 },
            allowedIps: ['0.0.0.0/0', '::/0'],
            persistentKeepalive: 25,
          },
        ],
      },
    )
    assert.equal(peers[0]?.presharedKey?.base64(), device.presharedKey?.base64())
    for (const name of readdirSync(state)) {
      const bytes = readFileSync(join(state, name))
      assert.equal(bytes.includes(privateKey.bytes()), false, name)
      assert.equal(bytes.includes(privateKey.base64()), false, name)
    }
  })

  it('shows a QR code on stderr, so that stdout stays a .conf', async () => {
    const state = fresh()
    await call(['init', '--endpoint', '192.0.2.7', '--state', state])
    const { stdout, stderr } = await call([
      'device',
      'add',
      'آناهیتا',
      '--wg-quick',
      '--qr',
      '--state',
      state,
    ])
    assert.equal(parseWgQuick(stdout, 'stdout').conf.peers.length, 1)
    assert.match(stderr, /[▀▄█]{10}/)
  })
})

describe('culvert-server doctor', () => {
  it('ends with 1 when something is broken, as text and as JSON', async () => {
    const state = fresh()
    await call(['init', '--endpoint', '192.0.2.7', '--state', state])
    writeFileSync(join(state, 'private.key'), 'damaged')
    const text = await call(['doctor', '--state', state])
    const json = await call(['doctor', '--json', '--state', state])
    const { healthy, checks }: { healthy: boolean; checks: readonly object[] } = JSON.parse(json.stdout)
    const finding = `${state}/private.key is damaged: a key is 44 characters of base64 ending in "="; restore it from a backup`
    assert.deepEqual([text.status, json.status, healthy], [1, 1, false])
    assert.ok(text.stdout.includes(`broken  state`), text.stdout)
    assert.deepEqual(
      checks.filter((check) => 'finding' in check && check.finding === finding),
      [{ name: 'state', verdict: 'broken', finding, fix: 'restore the file from a backup' }],
    )
  })
})

interface Outcome {
  readonly status: number
  readonly stdout: string
  readonly stderr: string
}

function call(args: readonly string[], program = launcher): Promise<Outcome> {
  return new Promise((resolve) => {
    execFile(program, args, (error, stdout, stderr) => {
      resolve({
        status: typeof error?.code === 'number' ? error.code : error === null ? 0 : -1,
        stdout,
        stderr,
      })
    })
  })
}

function fresh(): string {
  const path = join(folder, `${folders++}`)
  mkdirSync(path)
  return path
}
