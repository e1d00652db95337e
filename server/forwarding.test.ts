import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, it } from 'node:test'
import type { Run } from '@culvert/tunnel'
import { pino } from 'pino'
import { forwardersIn, forwardingPlan, openForwarding, restoration, type Change } from './forwarding.ts'
import { ServerError } from './error.ts'
import { tableName } from './nat.ts'
import { parseRuleset } from './ruleset.ts'
import { openSysctls, type SysctlKey, type Sysctls } from './sysctl.ts'

const folder = mkdtempSync(join(tmpdir(), 'culvert-forwarding-'))
after(() => rmSync(folder, { recursive: true }))
let folders = 0

const v4: SysctlKey = 'net/ipv4/ip_forward'
const v6: SysctlKey = 'net/ipv6/conf/all/forwarding'
const ra: SysctlKey = 'net/ipv6/conf/eth0/accept_ra'
const redirects: SysctlKey = 'net/ipv4/conf/all/accept_redirects'
const from = (values: Readonly<Record<string, string>>) => (key: SysctlKey) => values[key] ?? null

describe('switching forwarding on', () => {
  it('lets links keep their router before it makes this machine one', () => {
    assert.deepEqual(
      forwardingPlan(['eth0'], from({ [v4]: '0', [v6]: '0', [ra]: '1' })).map(({ key, after }) => [
        key,
        after,
      ]),
      [
        [ra, '2'],
        [v4, '1'],
        [v6, '1'],
      ],
    )
  })

  const rows: readonly (readonly [
    name: string,
    values: Record<string, string>,
    changed: readonly SysctlKey[],
  ])[] = [
    ['changes nothing that is right already', { [v4]: '1', [v6]: '1', [ra]: '2' }, []],
    ['leaves advertisements to whoever reads them in user space', { [v4]: '1', [v6]: '0', [ra]: '0' }, [v6]],
    ['does without IPv6 where the kernel has none', { [v4]: '0' }, [v4]],
    ['notes what the kernel will change with it', { [v4]: '0', [redirects]: '0' }, [v4, redirects]],
  ]
  for (const [name, values, changed] of rows) {
    it(name, () =>
      assert.deepEqual(
        forwardingPlan(['eth0'], from(values)).map(({ key }) => key),
        changed,
      ),
    )
  }
})

describe('switching forwarding back', () => {
  const all: readonly Change[] = [
    { key: ra, before: '1', after: '2' },
    { key: v4, before: '0', after: '1' },
    { key: v6, before: '0', after: '1' },
  ]
  const ours = { [v4]: '1', [v6]: '1', [ra]: '2' }
  const rows: readonly (readonly [
    name: string,
    changes: readonly Change[],
    values: Record<string, string>,
    others: readonly string[],
    restored: readonly SysctlKey[],
    kept: readonly (readonly [SysctlKey, string])[],
  ])[] = [
    ['undoes everything when nobody else is there, forwarding first', all, ours, [], [v4, v6, ra], []],
    ['leaves what it did not change', [], ours, [], [], []],
    [
      'keeps redirects refused where they were',
      [...all, { key: redirects, before: '0', after: '0' }],
      { ...ours, [redirects]: '0' },
      [],
      [v4, v6, redirects, ra],
      [],
    ],
    [
      'leaves redirects to a machine that goes on forwarding',
      [
        { key: v4, before: '0', after: '1' },
        { key: redirects, before: '1', after: '0' },
      ],
      { ...ours, [redirects]: '0' },
      ['the wireguard link wg0'],
      [],
      [[v4, 'needed by the wireguard link wg0']],
    ],
    [
      'leaves forwarding on under Docker, and IPv6 its router with it',
      all,
      ours,
      ['the bridge link docker0'],
      [],
      [
        [v4, 'needed by the bridge link docker0'],
        [v6, 'needed by the bridge link docker0'],
        [ra, 'IPv6 forwarding stays on'],
      ],
    ],
    [
      'leaves a value that somebody set since',
      all,
      { ...ours, [v4]: '2' },
      [],
      [v6, ra],
      [[v4, 'somebody set it to 2 since']],
    ],
    [
      'has nothing to do where somebody switched it off already, and gives advertisements back',
      all,
      { ...ours, [v6]: '0' },
      [],
      [v4, ra],
      [],
    ],
    ['forgets a link that is gone', all, { [v4]: '1', [v6]: '1' }, [], [v4, v6], []],
    [
      'gives advertisements back under others when IPv6 forwarding was on before us',
      [{ key: ra, before: '1', after: '2' }],
      ours,
      ['the wireguard link wg0'],
      [ra],
      [],
    ],
  ]
  for (const [name, changes, values, others, restored, kept] of rows) {
    it(name, () => {
      const { restore, kept: stays } = restoration(changes, from(values), others)
      assert.deepEqual(
        { restored: restore.map(({ key }) => key), kept: stays.map(({ key, reason }) => [key, reason]) },
        { restored, kept },
      )
    })
  }
})

describe('another user of forwarding', () => {
  const ours = { interfaceName: 'culvert-srv', table: tableName('culvert-srv') }
  const up = ['UP']
  const links = [
    {},
    { ifname: 'eth0', flags: up },
    { ifname: 'culvert-srv', flags: up, linkinfo: { info_kind: 'tun' } },
    { ifname: 'docker0', flags: ['NO-CARRIER', 'UP'], linkinfo: { info_kind: 'bridge' } },
    { ifname: 'sit0', flags: ['NOARP'], linkinfo: { info_kind: 'sit' } },
    { ifname: 'veth1', flags: up, linkinfo: { info_kind: 'veth' } },
    { ifname: 'wg0', flags: up, linkinfo: { info_kind: 'wireguard' } },
  ]
  const chain = (table: string, name: string, policy: string) => ({
    chain: { family: 'inet', table, name, handle: 1, type: 'filter', hook: 'forward', prio: 0, policy },
  })
  const translating = (table: string) => ({
    chain: { ...chain(table, 'postrouting', 'accept').chain, type: 'nat', hook: 'postrouting', prio: 100 },
  })
  const ruleset = {
    nftables: [
      { metainfo: { version: '1.0.6' } },
      chain('culvert_server', 'forward', 'accept'),
      chain('filter', 'forward', 'accept'),
      chain('router', 'forward', 'drop'),
      chain('docker', 'FORWARD', 'accept'),
      { rule: { family: 'inet', table: 'docker', chain: 'FORWARD', handle: 2, expr: [] } },
      { rule: { family: 'inet', table: 'culvert_server', chain: 'forward', handle: 2, expr: [] } },
      translating('culvert_server'),
      translating('io.systemd.nat'),
      { rule: { family: 'inet', table: 'culvert_server', chain: 'postrouting', handle: 3, expr: [] } },
      { rule: { family: 'inet', table: 'io.systemd.nat', chain: 'postrouting', handle: 3, expr: [] } },
    ],
  }

  it('is a bridge, a tunnel, or a chain that says something of what is forwarded or translated', () => {
    assert.deepEqual(forwardersIn(JSON.stringify(links), parseRuleset(JSON.stringify(ruleset)), ours), [
      'the bridge link docker0',
      'the wireguard link wg0',
      'the chain inet router forward',
      'the chain inet docker FORWARD',
      'the chain inet io.systemd.nat postrouting',
    ])
  })

  it('is not an ordinary link, an empty chain that accepts, or ourselves', () => {
    const quiet = { nftables: ruleset.nftables.slice(0, 3) }
    assert.deepEqual(
      forwardersIn(JSON.stringify(links.slice(0, 3)), parseRuleset(JSON.stringify(quiet)), ours),
      [],
    )
  })
})

describe('forwarding on a machine', () => {
  it('is as it was after start and stop', async () => {
    const { root, options, values } = machine({ [v4]: '0', [v6]: '0', [ra]: '1' })
    {
      await using _ = await openForwarding(options)
      assert.deepEqual(values(), { [v4]: '1', [v6]: '1', [ra]: '2' })
    }
    assert.deepEqual(values(), { [v4]: '0', [v6]: '0', [ra]: '1' })
    assert.equal(existsSync(join(root, 'journal')), false)
  })

  it('is as it was after a server that was killed, a second start, and a stop', async () => {
    const { options, values } = machine({ [v4]: '0', [v6]: '0', [ra]: '1' })
    await openForwarding(options) // never disposed: killed
    {
      await using _ = await openForwarding(options)
    }
    assert.deepEqual(values(), { [v4]: '0', [v6]: '0', [ra]: '1' })
  })

  it('is not touched on account of a journal from before a reboot', async () => {
    const { root, options, values } = machine({ [v4]: '1', [v6]: '1', [ra]: '2' })
    const changes = [{ key: v4, before: '0', after: '1' }]
    writeFileSync(join(root, 'journal'), JSON.stringify({ version: 1, boot: 'another', changes }))
    {
      await using _ = await openForwarding(options)
    }
    assert.deepEqual(values(), { [v4]: '1', [v6]: '1', [ra]: '2' })
  })

  it('is as it was after a start that the kernel refused in the middle', async () => {
    const { options, values } = machine({ [v4]: '0', [v6]: '0', [ra]: '1' })
    const refusing: Sysctls = {
      ...options.sysctls,
      write(key, value) {
        if (key === v6) throw new ServerError('no-privilege', `${key} is read-only here`)
        options.sysctls.write(key, value)
      },
    }
    await assert.rejects(openForwarding({ ...options, sysctls: refusing }), { code: 'no-privilege' })
    assert.deepEqual(values(), { [v4]: '0', [v6]: '0', [ra]: '1' })
    assert.equal(existsSync(options.journal), false)
  })

  it('refuses a damaged journal by name, before it changes anything', async () => {
    const { root, options, values } = machine({ [v4]: '0', [v6]: '0', [ra]: '1' })
    writeFileSync(join(root, 'journal'), '{"version":')
    await assert.rejects(openForwarding(options), { code: 'bad-state', message: /journal is damaged: set/ })
    assert.deepEqual(values(), { [v4]: '0', [v6]: '0', [ra]: '1' })
  })
})

/** A folder that stands for /proc/sys, and a recorder that answers as `ip` and `nft` would. */
function machine(settings: Readonly<Record<string, string>>) {
  const root = join(folder, `${folders++}`)
  for (const [key, value] of Object.entries(settings)) {
    mkdirSync(dirname(join(root, key)), { recursive: true })
    writeFileSync(join(root, key), `${value}\n`)
  }
  const run: Run = ([command, ...args]) => {
    if (command === 'nft') return Promise.resolve('{"nftables": []}')
    return Promise.resolve(args.includes('route') ? '[{"dst":"default","dev":"eth0","protocol":"ra"}]' : '[]')
  }
  const interfaceName = 'culvert-srv'
  const log = pino({ level: 'silent' })
  const options = {
    run,
    sysctls: openSysctls(root),
    journal: join(root, 'journal'),
    interfaceName,
    table: tableName(interfaceName),
    log,
  }
  const values = () =>
    Object.fromEntries(
      Object.keys(settings).map((key) => [key, readFileSync(join(root, key), 'utf8').trim()]),
    )
  return { root, options, values }
}
