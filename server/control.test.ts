import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer as createHttpServer, request, type IncomingMessage } from 'node:http'
import { createServer } from 'node:net'
import { once } from 'node:events'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { after, describe, it } from 'node:test'
import { formatPublicKey, parseCidr } from '@culvert/tunnel/pure'
import { pino } from 'pino'
import { askRefresh, askReload, askStatus, listenForControl, type Controlled } from './control.ts'
import { ServerError } from './error.ts'
import { Gateway } from './gateway.ts'
import { createRegistry, openRegistry } from './registry.ts'
import { formatStatus, type Status } from './status.ts'
import { MemoryTunnel } from './testing.ts'

const folder = mkdtempSync(join(tmpdir(), 'culvert-control-'))
after(() => rmSync(folder, { recursive: true }))
let sockets = 0
const log = pino({ level: 'silent' })
const ann = formatPublicKey(new Uint8Array(32).fill(1))

const status: Status = {
  version: '0.1.0',
  since: 0,
  uptime: 3 * 3600 + 60,
  interface: 'culvert-srv',
  port: 51820,
  endpoint: 'vpn.example.org:51820',
  addresses: ['10.64.0.1/10', 'fd00::1/48'],
  offloads: [],
  devices: [
    {
      user: 'ann',
      publicKey: ann,
      addresses: ['10.64.0.2', 'fd00::2'],
      endpoint: '203.0.113.5:40000',
      latestHandshake: 5000,
      rxBytes: 1_234_567,
      txBytes: 999,
      alive: true,
    },
    {
      user: 'آنا',
      publicKey: formatPublicKey(new Uint8Array(32).fill(2)),
      addresses: ['10.64.0.3', 'fd00::3'],
      endpoint: null,
      latestHandshake: null,
      rxBytes: 0,
      txBytes: 0,
      alive: false,
    },
  ],
  counters: {
    ...new MemoryTunnel().counters(),
    dropped: { ...new MemoryTunnel().counters().dropped, 'bad-mac': 3 },
  },
}

describe('the control socket', () => {
  it('gives the status as it is', async () => {
    const path = fresh()
    await using _ = await listenForControl(path, controlled(), log)
    assert.deepEqual(await askStatus(path), status)
  })

  it('is its owner’s only, and gone when the server is', async () => {
    const path = fresh()
    {
      await using _ = await listenForControl(path, controlled(), log)
      assert.equal(statSync(path).mode & 0o777, 0o600)
    }
    assert.equal(existsSync(path), false)
    await assert.rejects(askStatus(path), {
      code: 'not-running',
      message: `the server is not running: nobody answers at ${path}`,
    })
  })

  it('takes the place of a socket that a killed server left', async () => {
    const path = fresh()
    writeFileSync(path, '')
    await using _ = await listenForControl(path, controlled(), log)
    assert.deepEqual(await askStatus(path), status)
  })

  it('lets a device of the registry in and cuts it off', async () => {
    const path = fresh()
    createRegistry(`${path}.db`)
    using registry = openRegistry(`${path}.db`)
    const tunnel = new MemoryTunnel()
    using gateway = new Gateway(tunnel, registry, log)
    await using _ = await listenForControl(
      path,
      { ...controlled(), refresh: (publicKey) => ({ change: gateway.refresh(publicKey) }) },
      log,
    )
    const pool = { pool4: parseCidr('10.64.0.0/10'), pool6: parseCidr('fd00::/48') }
    registry.addDevice({ user: 'ann', publicKey: ann, presharedKey: null }, pool, 0)
    const changes = [await askRefresh(path, ann)]
    registry.removeDevice(ann)
    changes.push(await askRefresh(path, ann))
    assert.deepEqual(changes, [{ change: 'added' }, { change: 'removed' }])
    assert.deepEqual(tunnel.orders, [`put ${ann}`, `remove ${ann}`])
  })

  it('hands a refusal over as the sentence that it is', async () => {
    const path = fresh()
    const reload = () =>
      Promise.reject(new ServerError('bad-config', 'c.toml: the key "endpoint" is missing'))
    await using _ = await listenForControl(path, { ...controlled(), reload }, log)
    await assert.rejects(askReload(path), {
      code: 'refused',
      message: 'c.toml: the key "endpoint" is missing',
    })
  })

  it('refuses what is no request of its own, and lives on', async () => {
    const path = fresh()
    await using _ = await listenForControl(path, controlled(), log)
    const refresh = '/v1/devices/refresh'
    assert.deepEqual(
      [
        await raw(path, 'GET', '/', ''),
        await raw(path, 'POST', refresh, '{'),
        await raw(path, 'POST', refresh, '{"publicKey": 1}'),
        await raw(path, 'POST', refresh, '{"publicKey": "short"}'),
        await raw(path, 'POST', refresh, ' '.repeat(70_000)),
      ],
      [
        [404, { error: 'there is no GET /' }],
        [400, { error: 'the request is not JSON' }],
        [400, { error: 'the request must be {"publicKey": "…"}' }],
        [400, { error: 'a public key is 44 characters of base64 ending in "="' }],
        [413, { error: 'a request has at most 65536 bytes' }],
      ],
    )
    assert.deepEqual(await askStatus(path), status)
  })

  it('says so when what answers is no culvert-server', async () => {
    const path = fresh()
    const other = createServer((socket) => socket.end('SSH-2.0-OpenSSH\r\n')).listen(path)
    await once(other, 'listening')
    await assert.rejects(askStatus(path), { code: 'refused', message: /gave no proper answer/ })
    other.close()
  })

  it('says so when a server of another version gives an answer of another shape', async () => {
    const path = fresh()
    await using other = createHttpServer((_, response) => response.end('{"version": "9"}')).listen(path)
    await once(other, 'listening')
    await assert.rejects(askStatus(path), { code: 'refused', message: /gave no proper answer/ })
  })

  it('refuses a path that is too long for a Unix socket', async () => {
    const path = join(folder, 'x'.repeat(120))
    await assert.rejects(listenForControl(path, controlled(), log), {
      code: 'bad-state',
      message: /choose a shorter --state DIR/,
    })
  })
})

describe('the status', () => {
  it('is a tidy table for a person', () => {
    assert.equal(
      formatStatus(status, 17_000),
      `culvert-server 0.1.0, up 3 h 1 min, UDP port 51820 on culvert-srv, dialled as vpn.example.org:51820

USER  ADDRESSES          ENDPOINT           HANDSHAKE  RECEIVED  SENT   KEY
ann   10.64.0.2 fd00::2  203.0.113.5:40000  12 s ago   1.2 MB    999 B  AQEBAQEB…
آنا   10.64.0.3 fd00::3  -                  never      0 B       0 B    AgICAgIC…

2 devices, 1 with a session
datagrams: 0 received, 0 sent
dropped: bad-mac 3
`,
    )
  })
})

function controlled(): Controlled {
  return {
    status: () => status,
    reload: () => Promise.resolve({ added: 0, changed: 0, removed: 0, atStart: [] }),
    refresh: () => ({ change: 'same' }),
  }
}

async function raw(
  path: string,
  method: string,
  url: string,
  body: string,
): Promise<readonly [number, unknown]> {
  const outgoing = request({ socketPath: path, method, path: url })
  outgoing.end(body)
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage] // of node:http
  return [response.statusCode ?? 0, JSON.parse(await text(response))]
}

function fresh(): string {
  return join(folder, `${sockets++}.sock`)
}
