/** Whatever is wrong gets one sentence on stderr that says what and where, a status of 1 or 2, and nothing half applied. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { addresses, openLab, type Lab } from '../lab.ts'
import { commands, culvert, importConf, runServer, startHelper, startServer } from './culvert.ts'
import type { Host } from './host.ts'
import type { Ended, Program } from './program.ts'
import { snapshot, timeless } from './snapshot.ts'
import { makeKeys } from '../peers/uapi.ts'

const keys = makeKeys()
/** Runs what follows as an ordinary user without groups, who may read a checkout in somebody else's home, and no more. */
const nobody =
  'setpriv --reuid 65534 --regid 65534 --init-groups --inh-caps +dac_read_search --ambient-caps +dac_read_search --'.split(
    ' ',
  )
const good = `[Interface]
PrivateKey = ${keys.privateKey}
Address = 10.0.0.2/32
[Peer]
PublicKey = ${makeKeys().publicKey}
Endpoint = ${addresses.server.v4}:51820
AllowedIPs = 0.0.0.0/0
`

describe('culvert, given something wrong,', () => {
  let lab: Lab
  let helper: Program
  before(async () => {
    lab = await openLab()
    await lab.client.run(['groupadd', '--system', 'culvert'])
    helper = await startHelper(lab.client)
    await importConf(lab.client, lab.folder, 'good', good)
  })
  after(() => lab[Symbol.asyncDispose]())

  const broken = [
    ['a key that is none', /PrivateKey = .*/, 'PrivateKey = hello', /line 2.*PrivateKey/],
    ['an address that is none', /Address = .*/, 'Address = 10.0.0.300/32', /line 3.*Address.*10\.0\.0\.300/],
    ['an endpoint without a port', /Endpoint = .*/, 'Endpoint = example.org', /line 6.*Endpoint.*port/],
    [
      'a prefix that is none',
      /AllowedIPs = .*/,
      'AllowedIPs = 0.0.0.0/33',
      /line 7.*AllowedIPs.*0\.0\.0\.0\/33/,
    ],
    ['no peer', /\[Peer\][^]*/, '', /\[Peer\]/],
    ['text that is no .conf', /[^]*/, 'hello\n', /broken\.conf/],
    ['nothing at all', /[^]*/, '', /broken\.conf/],
    ['a megabyte of noise', /[^]*/, 'x'.repeat(1_000_000), /broken\.conf/],
  ] as const
  for (const [what, part, instead, words] of broken) {
    it(`names file, line and what was expected when a .conf has ${what}, and keeps its profiles`, async () => {
      const before = await culvert(lab.client, ['list', '--json'])
      await lab.client.write(
        `${lab.folder}/broken.conf`,
        good.replace(part, () => instead),
      )
      const ended = await culvert(lab.client, ['import', `${lab.folder}/broken.conf`])
      mustRefuse(ended, words)
      assert.match(ended.stderr, /broken\.conf/)
      assert.deepEqual(await culvert(lab.client, ['list', '--json']), before)
    })
  }

  it('names the line of PostUp, and runs nothing of it', async () => {
    const conf = good.replace('[Peer]', 'PostUp = touch /run/ran\n[Peer]')
    await lab.client.write(`${lab.folder}/hook.conf`, conf)
    const ended = await culvert(lab.client, ['import', `${lab.folder}/hook.conf`])
    assert.match(ended.stderr, /PostUp/)
    if (ended.status === 0) {
      await culvert(lab.client, ['connect', 'hook', '--wait', '2'])
      await culvert(lab.client, ['disconnect', '--wait', '10'])
      await culvert(lab.client, ['remove', 'hook'])
    }
    assert.notEqual((await lab.client.exec(['test', '-e', '/run/ran'])).status, 0)
  })

  it('says that a file is not there, that a name is taken, that a profile is unknown', async () => {
    mustRefuse(await culvert(lab.client, ['import', '/nowhere/home.conf']), /\/nowhere\/home\.conf/)
    await lab.client.write(`${lab.folder}/again/good.conf`, good)
    mustRefuse(await culvert(lab.client, ['import', `${lab.folder}/again/good.conf`]), /good/)
    for (const command of ['connect', 'remove'])
      mustRefuse(await culvert(lab.client, [command, 'nobody']), /nobody/)
    mustRefuse(await culvert(lab.client, ['rename', 'nobody', 'somebody']), /nobody/)
  })

  it('ends with status 2 and how it is used when it is used wrongly', async () => {
    for (const args of [
      ['frobnicate'],
      ['import'],
      ['connect', '--wait', 'soon'],
      ['settings', 'set'],
      ['--frobnicate'],
    ]) {
      const ended = await culvert(lab.client, args)
      assert.equal(ended.status, 2, `culvert ${args.join(' ')}: ${ended.stderr}`)
      mustBePlain(ended)
    }
  })

  it('says which setting there is none of, and what a setting may be', async () => {
    mustRefuse(await culvert(lab.client, ['settings', 'get', 'colour']), /colour/, 2)
    mustRefuse(await culvert(lab.client, ['settings', 'set', 'allowLan', 'perhaps']), /perhaps|allowLan/, 2)
  })

  it('gives up after --wait, says why, and leaves nothing behind after disconnect', async () => {
    const untouched = await snapshot(lab.client)
    mustRefuse(await culvert(lab.client, ['connect', 'good', '--wait', '2']), /2 s|answer/)
    assert.equal((await culvert(lab.client, ['disconnect', '--wait', '10'])).status, 0)
    assert.deepEqual(await snapshot(lab.client), untouched)
  })

  it('names /dev/net/tun when it is missing, and changes nothing', async () => {
    const untouched = await snapshot(lab.client)
    await lab.client.run(['mount', '-t', 'tmpfs', 'tmpfs', '/dev/net'])
    mustRefuse(await culvert(lab.client, ['connect', 'good', '--wait', '5']), /\/dev\/net\/tun/)
    await culvert(lab.client, ['disconnect', '--wait', '10'])
    await lab.client.run(['umount', '/dev/net'])
    assert.deepEqual(await snapshot(lab.client), untouched)
  })

  it('names culvert0 when somebody else has that interface, and leaves it to them', async () => {
    await lab.client.ip('link add culvert0 type bridge', 'address add 10.1.1.1/32 dev culvert0')
    const untouched = await snapshot(lab.client)
    mustRefuse(await culvert(lab.client, ['connect', 'good', '--wait', '5']), /culvert0/)
    await culvert(lab.client, ['disconnect', '--wait', '10'])
    assert.deepEqual(await snapshot(lab.client), untouched)
    await lab.client.ip('link delete culvert0')
  })

  it('is refused by a second helper on the same socket, which says that one runs', async () => {
    mustRefuse(await lab.client.exec([commands.helper]), /run/)
    assert.equal((await culvert(lab.client, ['status'])).status, 0)
  })

  it('shows a stranger the state and nothing else, until the group has them', async () => {
    const as = (...args: readonly string[]) => lab.client.exec([...nobody, commands.culvert, ...args])
    mustRefuse(await as('connect', 'good'), /group|allow|root/)
    mustRefuse(await as('list'), /group|allow|root/)
    const { status, stdout, stderr } = await as('status', '--json')
    assert.equal(status, 0, stderr)
    assert.doesNotMatch(stdout, /good|198\.51/)
    await lab.client.run(['usermod', '--append', '--groups', 'culvert', 'nobody'])
    const listed = await as('list', '--json')
    assert.equal(listed.status, 0, listed.stderr)
    assert.doesNotMatch(listed.stdout, /good/, "root's profile stays root's")
  })

  for (const [what, message] of [
    ['half a message', '{"jsonrpc": "2.0", "id"\n'],
    ['no JSON at all', 'hello\n'],
    ['bytes that are no text', '\x00\x01\x02\ufffe\n'],
    ['a message of two mebibytes', `"${'x'.repeat(2 ** 21)}"\n`],
    ['a method that there is none of', '{"jsonrpc":"2.0","id":1,"method":"frobnicate","params":{}}\n'],
    [
      'parameters of the wrong shape',
      '{"jsonrpc":"2.0","id":1,"method":"tunnel.connect","params":{"profile":7}}\n',
    ],
  ] as const) {
    it(`has its helper answer ${what} or hang up, and serve the others`, async () => {
      const { status, stdout, stderr } = await lab.client.exec([process.execPath, '-e', SEND], {
        input: message,
      })
      assert.equal(status, 0, stderr)
      assert.match(stdout, /error|closed/)
      assert.equal((await culvert(lab.client, ['status'])).status, 0)
      assert.ok(helper.running)
    })
  }

  it('says what to do when no helper runs, and when the helper is not root', async () => {
    await helper.stop()
    for (const command of ['status', 'list', 'connect']) {
      mustRefuse(await culvert(lab.client, [command]), /culvert-helper/)
    }
    mustRefuse(await lab.client.exec([...nobody, commands.helper]), /root|CAP_NET_ADMIN/)
  })

  for (const file of ['settings.json', 'target']) {
    it(`names ${file} when it is damaged, and does not guess`, async () => {
      const path = `/var/lib/culvert/${file}`
      const before = await lab.client.exec(['cat', path])
      await lab.client.write(path, '{"half": ')
      const helper = lab.client.start([commands.helper])
      const ended = await Promise.race([
        helper.ended,
        helper.says(/settings|target/, 10_000).then(() => null),
      ])
      if (ended !== null) mustRefuse(ended, new RegExp(file))
      assert.match(helper.stderr, new RegExp(file))
      await helper.stop()
      if (before.status === 0) await lab.client.write(path, before.stdout)
      else await lab.client.run(['rm', path])
    })
  }

  it('names a damaged profile and goes on with the others', async () => {
    await lab.client.write('/var/lib/culvert/profiles/damaged.json', '{"half": ')
    const helper = await startHelper(lab.client)
    await helper.says(/damaged\.json/, 5000)
    assert.match((await culvert(lab.client, ['list'])).stdout, /good/)
    await helper.stop()
  })
})

describe('culvert-server, given something wrong,', () => {
  let lab: Lab
  let server: Program
  const inHost = (host: Host, ...args: readonly string[]) => host.exec([commands.server, ...args])
  before(async () => {
    lab = await openLab()
    mustRefuse(await inHost(lab.server, 'run'), /init/)
    server = await startServer(lab.server, addresses.server.v4)
  })
  after(() => lab[Symbol.asyncDispose]())

  it('overwrites nothing by a second init, and does not run twice', async () => {
    const kept = ['sha256sum', '/etc/culvert-server/config.toml', '/var/lib/culvert-server/private.key']
    const before = await lab.server.run(kept)
    mustRefuse(await inHost(lab.server, 'init', '--endpoint', 'example.org'), /exists|already/)
    assert.equal(await lab.server.run(kept), before)
    mustRefuse(await inHost(lab.server, 'run'), /runs|running|already/)
    assert.ok(server.running)
  })

  it('refuses an endpoint that is none, and ends with status 2 when it is used wrongly', async () => {
    for (const endpoint of ['256.1.1.1', 'a b', 'example.org:99999', '']) {
      const ended = await inHost(lab.office, 'init', '--endpoint', endpoint)
      assert.ok(ended.status === 1 || ended.status === 2, endpoint)
      mustBePlain(ended)
    }
    for (const args of [['frobnicate'], ['init'], ['device', 'add', 'anna', '--frobnicate']]) {
      const ended = await inHost(lab.server, ...args)
      assert.equal(ended.status, 2, args.join(' '))
      mustBePlain(ended)
    }
  })

  it('names the UDP port when somebody has it, its interface when it exists, and /dev/net/tun when it is missing', async () => {
    await server.stop()
    const untouched = timeless(await snapshot(lab.server))
    const squatter = lab.server.start([process.execPath, '-e', BIND])
    await squatter.says(/bound/, 10_000)
    mustRefuse(await inHost(lab.server, 'run'), /51820/)
    await squatter.stop()
    await lab.server.ip('link add culvert-srv type bridge')
    mustRefuse(await inHost(lab.server, 'run'), /culvert-srv/)
    await lab.server.ip('link delete culvert-srv')
    await lab.server.run(['mount', '-t', 'tmpfs', 'tmpfs', '/dev/net'])
    mustRefuse(await inHost(lab.server, 'run'), /\/dev\/net\/tun/)
    await lab.server.run(['umount', '/dev/net'])
    assert.deepEqual(timeless(await snapshot(lab.server)), untouched)
  })

  it('names file and line, or file and key, of a config that it does not understand', async () => {
    const path = '/etc/culvert-server/config.toml'
    const config = await lab.server.run(['cat', path])
    const refusals = [
      [`${config}\nnot toml at all`, /config\.toml.*line \d+/],
      [config.replace(/^endpoint = .*$/m, 'endpoint = 7'), /config\.toml.*endpoint/],
      [`colour = "red"\n${config}`, /config\.toml.*colour/],
    ] as const
    for (const [text, words] of refusals) {
      await lab.server.write(path, text)
      mustRefuse(await inHost(lab.server, 'run'), words)
    }
    await lab.server.write(path, config)
    server = await runServer(lab.server)
  })

  it('keeps what it had when it is told to reload a config that it does not understand', async () => {
    const path = '/etc/culvert-server/config.toml'
    const config = await lab.server.run(['cat', path])
    await lab.server.write(path, 'endpoint = ')
    server.kill('SIGHUP')
    await server.says(/config\.toml/, 10_000)
    assert.equal((await inHost(lab.server, 'status')).status, 0)
    await lab.server.write(path, config)
  })

  it('says that it needs root, and that it is not running', async () => {
    mustRefuse(await lab.server.exec([...nobody, commands.server, 'run']), /root|CAP_NET_ADMIN/)
    await server.stop()
    mustRefuse(await inHost(lab.server, 'status'), /not running|isn't running|culvert-server run/)
  })
})

/** The status, and one plain sentence that fits. */
function mustRefuse(ended: Ended, words: RegExp, status: 1 | 2 = 1): void {
  assert.equal(ended.status, status, `${ended.stdout}${ended.stderr}`)
  assert.match(ended.stderr, words)
  mustBePlain(ended)
}

/** No stack trace, no object, no more than a person reads. */
function mustBePlain({ stderr }: Ended): void {
  assert.doesNotMatch(stderr, /^\s+at |\[object|undefined|node:internal|Error:.*\n\s+at/m)
  assert.ok(stderr.trim() !== '' && stderr.length < 1500, stderr.slice(0, 2000))
}

const BIND = `require('node:dgram').createSocket('udp4').bind(51820, () => console.log('bound'))`

/** Sends its standard input to the helper; prints what comes back, or that it was hung up on. */
const SEND = `
  const socket = require('node:net').connect('/run/culvert/helper.sock')
  const done = (words) => { process.stdout.write(words); process.exit(0) }
  socket.on('data', (data) => { if (/error/.test(data)) done(String(data)) })
  socket.on('close', () => done('closed')).on('error', () => done('closed'))
  process.stdin.pipe(socket, { end: false })
  setTimeout(() => process.exit(1), 10000)`
