import assert from 'node:assert/strict'
import { once } from 'node:events'
import { stat } from 'node:fs/promises'
import { createConnection } from 'node:net'
import { describe, it } from 'node:test'
import { connectHelper } from './client.ts'
import type { Snapshot } from './contract/index.ts'
import { HelperError } from './error.ts'
import { profileDraftShape } from './schema.ts'
import { startTestHelper, type TestHelper } from './testing.ts'

const [alice, bob, carol] = [1000, 1001, 1002]
const soon = () => AbortSignal.timeout(5_000)
const privateKey = 'CBQeKDI8RlBaZG54goyWoKq0vsjS3Obw+gQOGCIsNkA='

const draft = (name: string, shared: 'shared' | 'own' = 'own') =>
  profileDraftShape.parse({
    name,
    shared: shared === 'shared',
    addresses: ['10.64.0.2/32'],
    dns: [],
    searchDomains: [],
    mtu: null,
    listenPort: null,
    privateKey,
    peers: [
      {
        publicKey: 'AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=',
        presharedKey: null,
        endpoint: { host: 'vpn.example.net', port: 51820 },
        allowedIps: ['0.0.0.0/0'],
        persistentKeepalive: 0,
      },
    ],
  })

function as(helper: TestHelper, uid: number) {
  helper.uid = uid
  return connectHelper(helper.socket, soon())
}

async function refusal(work: Promise<unknown>): Promise<string> {
  try {
    return `not refused: ${JSON.stringify(await work)}`
  } catch (error) {
    return error instanceof HelperError ? `${error.code}: ${error.message}` : String(error)
  }
}

/** Writes bytes, and gives the lines that come back: so many, or all until the helper closes. */
function talk(helper: TestHelper, bytes: string | Buffer, most = Infinity): Promise<readonly string[]> {
  return new Promise((resolve, reject) => {
    const socket = createConnection({ path: helper.socket })
    let text = ''
    socket.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk
      if (text.split('\n').length > most) socket.destroy()
    })
    socket.on('error', reject)
    socket.on('close', () => resolve(text.trim().split('\n')))
    socket.write(bytes)
  })
}

const hello = '{"jsonrpc":"2.0","id":1,"method":"hello","params":{"protocol":1}}\n'
const closing = (reason: string) => JSON.stringify({ jsonrpc: '2.0', method: 'closing', params: { reason } })

describe('who may call', () => {
  it('is root, and whom the group database lists now', async () => {
    await using helper = await startTestHelper()
    const access = async (uid: number) => {
      await using client = await as(helper, uid)
      return client.welcome.access
    }
    assert.deepEqual(
      [await access(0), await access(alice), await access(bob), await access(4711)],
      ['member', 'member', 'stranger', 'stranger'],
    )
    helper.kernel.entries.set('group culvert', 'culvert:x:998:bob')
    assert.deepEqual([await access(alice), await access(bob)], ['stranger', 'member'])
    helper.kernel.entries.set('passwd 1000', 'alice:x:1000:998::/home/alice:/bin/sh')
    assert.equal(await access(alice), 'member')
  })

  it('hears why it may not, and sees no more than the outline of the state', async () => {
    await using helper = await startTestHelper()
    await using root = await as(helper, 0)
    const profile = await root.call('profiles.add', draft('home'))
    await root.call('tunnel.connect', { profile: profile.id })
    await using stranger = await as(helper, bob)
    const why =
      'not-permitted: bob may only see the state: only root and the group "culvert" may do that (sudo gpasswd -a bob culvert)'
    assert.deepEqual(
      [
        await refusal(stranger.call('profiles.list', {})),
        await refusal(stranger.call('tunnel.disconnect', {})),
        await refusal(stranger.call('settings.read', {})),
      ],
      [why, why, why],
    )
    const { state, ...rest } = (await stranger.call('state', {})) as Extract<Snapshot, { tag: 'outline' }>
    assert.deepEqual(
      [['connecting', 'connected'].includes(state), rest],
      [true, { tag: 'outline', blocking: false, cause: null }],
    )
  })

  it('is nobody but root when there is no group, and the file says so', async () => {
    await using helper = await startTestHelper()
    assert.equal((await stat(helper.socket)).mode & 0o777, 0o666)
    helper.kernel.entries.delete('group culvert')
    await helper.restart()
    assert.equal((await stat(helper.socket)).mode & 0o777, 0o600)
    assert.ok(
      helper.logged.some(([phrase]) => phrase === 'there is no such group, so the socket is for root alone'),
    )
  })

  it('sees neither the profile nor the connection of somebody else, and cannot end it', async () => {
    await using helper = await startTestHelper()
    await using a = await as(helper, alice)
    await using c = await as(helper, carol)
    const mine = await a.call('profiles.add', draft('mine'))
    await a.call('tunnel.connect', { profile: mine.id })
    const foreign = "not-permitted: another user's tunnel is up: only they or root may end or change it"
    assert.deepEqual(
      [
        await c.call('profiles.list', {}),
        (await c.call('state', {})).tag,
        await refusal(c.call('tunnel.disconnect', {})),
        await refusal(c.call('settings.update', { carrier: 'udp' })),
        await refusal(c.call('profiles.remove', { id: mine.id })),
        await refusal(a.call('profiles.remove', { id: mine.id })),
      ],
      [
        [],
        'outline',
        foreign,
        foreign,
        'unknown-profile: there is no such profile',
        'in-use: "mine" is in use: disconnect first',
      ],
    )
  })

  it('may use, and end, what is shared', async () => {
    await using helper = await startTestHelper()
    await using a = await as(helper, alice)
    await using c = await as(helper, carol)
    const ours = await a.call('profiles.add', draft('ours', 'shared'))
    assert.deepEqual(await c.call('tunnel.connect', { profile: null }), { profile: ours.id })
    assert.equal(await a.call('tunnel.disconnect', {}), null)
  })
})

describe('a message', () => {
  it('that is not what its method asks for is refused with the field, and changes nothing', async () => {
    await using helper = await startTestHelper()
    await using root = await as(helper, 0)
    const bad = { ...draft('x'), addresses: ['10.64.0.2/99'] }
    const peers = [{ ...draft('x').peers[0], publicKey: 'short' }]
    const wrong = (params: object) => refusal(root.call('profiles.add', params as ReturnType<typeof draft>))
    assert.deepEqual(
      [
        await wrong(bad),
        await wrong({ ...draft('x'), peers }),
        await wrong({ ...draft('x'), hook: 'rm -rf /' }),
        await wrong({ ...draft('x'), name: '--json' }),
        await wrong({ ...draft('x'), mtu: 1200, addresses: ['10.64.0.2/32', 'fd00:64::2/128'] }),
        await root.call('profiles.list', {}),
      ],
      [
        'bad-request: profiles.add: addresses[0]: "10.64.0.2/99" is not a prefix length from 0 to 32',
        'bad-request: profiles.add: peers[0].publicKey: a public key is 44 characters of base64 ending in "="',
        'bad-request: profiles.add: Unrecognized key: "hook"',
        'bad-request: profiles.add: name: a name does not begin with "-"',
        'bad-request: profiles.add: mtu: a profile with IPv6 addresses needs at least 1280, or the kernel takes IPv6 off the link',
        [],
      ],
    )
  })

  it('never brings a private key up', async () => {
    await using helper = await startTestHelper()
    const call = (id: number, method: string, params: object) =>
      `${JSON.stringify({ jsonrpc: '2.0', id, method, params })}\n`
    const lines = await talk(
      helper,
      `${hello}${call(2, 'profiles.add', draft('home'))}${call(3, 'profiles.add', { ...draft('x'), privateKey: [privateKey] })}${call(4, 'profiles.list', {})}`,
      4,
    )
    assert.equal(lines.length, 4)
    assert.equal(lines.join('\n').includes(privateKey), false)
  })

  it('of an unknown method is refused by name', async () => {
    await using helper = await startTestHelper()
    const lines = await talk(helper, '{"jsonrpc":"2.0","id":7,"method":"toString"}\n', 1)
    assert.deepEqual(JSON.parse(lines[0] ?? ''), {
      jsonrpc: '2.0',
      id: 7,
      error: { code: -32000, message: 'there is no method "toString"', data: { code: 'bad-request' } },
    })
  })

  it('that is not JSON, or not JSON-RPC, ends the connection with the reason', async () => {
    await using helper = await startTestHelper()
    assert.deepEqual(
      [
        await talk(helper, 'GET / HTTP/1.1\r\n\r\n'),
        await talk(helper, '[]\n'),
        await talk(helper, '{"id":1}\n'),
      ],
      [
        [closing('message 1 is not JSON: expected one JSON object a line')],
        [closing('message 1 is not JSON-RPC 2.0: expected {"jsonrpc":"2.0","method":…}')],
        [closing('message 1 is not JSON-RPC 2.0: expected {"jsonrpc":"2.0","method":…}')],
      ],
    )
  })

  it('longer than 1 MiB ends the connection with the reason, with a line end or without', async () => {
    await using helper = await startTestHelper()
    const reason = closing('message 1 is longer than 1048576 bytes')
    const long = Buffer.alloc(1024 * 1024 + 1, 'x')
    assert.deepEqual(
      [await talk(helper, long), await talk(helper, Buffer.concat([long, Buffer.from('\n')]))],
      [[reason], [reason]],
    )
  })

  it('over 100 in a second ends the connection with the reason', async () => {
    await using helper = await startTestHelper()
    const lines = await talk(helper, hello.repeat(120))
    assert.equal(lines.at(-1), closing('more than 100 messages in a second'))
  })
})

describe('connections', () => {
  it('are at most 8 of one user and 64 in all but root’s, and the next hears why', async () => {
    await using helper = await startTestHelper()
    await using stack = new AsyncDisposableStack()
    const connect = async (uid: number) => stack.use(await as(helper, uid))
    for (let i = 0; i < 8; i++) await connect(alice)
    assert.equal(
      await refusal(connect(alice)),
      'gone: there are too many connections to the helper already (at most 8 of one user)',
    )
    for (let i = 0; i < 56; i++) await connect(2000 + Math.floor(i / 8))
    assert.equal(
      await refusal(connect(carol)),
      'gone: there are too many connections to the helper already (at most 64)',
    )
    for (let i = 0; i < 8; i++) await connect(0)
    assert.match(await refusal(connect(0)), /at most 8 of one user/)
    await stack.disposeAsync()
    await using again = await as(helper, alice)
    assert.equal(again.welcome.access, 'member')
  })

  it('that are refused hold nothing, though the caller does not close', async () => {
    await using helper = await startTestHelper()
    await using stack = new AsyncDisposableStack()
    for (let i = 0; i < 8; i++) stack.use(await as(helper, alice))
    const socket = createConnection({ path: helper.socket, allowHalfOpen: true })
    await once(socket.resume(), 'end')
    const failed = once(socket, 'error', { signal: soon() })
    socket.write('x')
    const [error] = (await failed) as [NodeJS.ErrnoException] // the event's one argument
    assert.equal(error.code, 'EPIPE')
  })

  it('are told when the helper stops', async () => {
    await using helper = await startTestHelper()
    await using client = await as(helper, alice)
    await helper.restart()
    assert.equal(await client.closed, 'the helper is stopping')
  })

  it('to a helper of another protocol are refused with what to do', async () => {
    await using helper = await startTestHelper()
    const lines = await talk(helper, hello.replace('"protocol":1', '"protocol":2'), 1)
    assert.match(
      lines[0] ?? '',
      /another version \(0\.1\.0, protocol 1, not 2\): restart it after an upgrade/,
    )
  })
})
