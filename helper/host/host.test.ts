import assert from 'node:assert/strict'
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { parseCidr, parseInterfaceAddress, parseIp } from '@culvert/tunnel/pure'
import fc from 'fast-check'
import { openPlan, type HostPlan } from '../plan.ts'
import { openHost } from './index.ts'
import { Journal } from './journal.ts'
import { MemoryKernel } from './kernel-memory.ts'

const directory = await mkdtemp(join(tmpdir(), 'culvert-host-'))
after(() => rm(directory, { recursive: true }))
let number = 0

const waiting: HostPlan = {
  ...openPlan,
  sysctls: [{ key: 'net.ipv4.conf.all.src_valid_mark', value: '1' }],
  firewall: { tag: 'base', addresses: ['10.64.0.2', 'fd00:64::2'].map(parseIp) },
}
const full: HostPlan = {
  ...waiting,
  tun: { mtu: 1420, addresses: ['10.64.0.2/32', 'fd00:64::2/128'].map(parseInterfaceAddress) },
  routes: [
    { destination: parseCidr('0.0.0.0/0'), to: 'tunnel' },
    { destination: parseCidr('0.0.0.0/0'), to: 'unreachable' },
    { destination: parseCidr('::/0'), to: 'unreachable' },
  ],
}
const partial: HostPlan = { ...full, routes: [{ destination: parseCidr('10.64.0.0/24'), to: 'tunnel' }] }

/** A machine that is not there, with a foreign rule that has our priority. */
async function machine() {
  const root = join(directory, `${number++}`)
  const proc = join(root, 'proc')
  await mkdir(join(proc, 'sys/net/ipv6/conf/culvert0'), { recursive: true })
  await mkdir(join(proc, 'sys/net/ipv4/conf/all'), { recursive: true })
  await writeFile(join(proc, 'sys/net/ipv6/conf/culvert0/disable_ipv6'), '1\n')
  const mark = join(proc, 'sys/net/ipv4/conf/all/src_valid_mark')
  await writeFile(mark, '0\n')
  const kernel = new MemoryKernel()
  kernel.rules[4].push('priority 27641 lookup 100')
  const open = async () => {
    const journal = await Journal.open(join(root, 'journal'), 'boot', () => {})
    return openHost(kernel.run, journal, proc)
  }
  return {
    root,
    kernel,
    host: await open(),
    /** The helper was killed: its tunnel is gone, and another looks at what it left. */
    async restart() {
      kernel.removeLink('culvert0')
      return open()
    },
    async state() {
      const left = (await readdir(root)).filter((name) => name !== 'proc')
      return { kernel: kernel.snapshot(), mark: (await readFile(mark, 'utf8')).trim(), left }
    },
  }
}

describe('apply', () => {
  it('sets link, routes, rules, sysctl and table', async () => {
    const { kernel, host, state } = await machine()
    kernel.addLink('culvert0', 1500)
    await host.apply(full)
    const { mark } = await state()
    assert.deepEqual(
      {
        link: kernel.links.get('culvert0'),
        rules: kernel.rules,
        routes: kernel.routes,
        tables: [...kernel.tables.keys()],
        mark,
      },
      {
        link: { mtu: 1420, up: true, addresses: new Set(['10.64.0.2/32', 'fd00:64::2/128']) },
        rules: {
          4: [
            'priority 27641 lookup 100',
            'priority 27640 lookup main suppress_prefixlength 0',
            'priority 27641 not fwmark 1668639862 lookup 1668639862',
          ],
          6: [
            'priority 27640 lookup main suppress_prefixlength 0',
            'priority 27641 not fwmark 1668639862 lookup 1668639862',
          ],
        },
        routes: {
          4: [
            '0.0.0.0/0 dev culvert0 table 1668639862',
            'unreachable 0.0.0.0/0 table 1668639862 metric 1000000',
          ],
          6: ['unreachable ::/0 table 1668639862 metric 1000000'],
        },
        tables: ['inet culvert'],
        mark: '1',
      },
    )
  })

  it('asks the table of a profile without a default route before every route of the LAN', async () => {
    const { kernel, host } = await machine()
    kernel.addLink('culvert0', 1500)
    const table = 'priority 27641 not fwmark 1668639862 lookup 1668639862'
    const rules = async (plan: HostPlan) => {
      await host.apply(plan)
      return structuredClone(kernel.rules)
    }
    const both = await rules(full)
    const few = { 4: ['priority 27641 lookup 100', table], 6: [] }
    // After a profile of the other kind, again, while there is no link, and back.
    assert.deepEqual([await rules(partial), await rules(partial)], [few, few])
    kernel.removeLink('culvert0')
    assert.deepEqual(await rules(partial), few)
    kernel.addLink('culvert0', 1500)
    const sorted = (rules: typeof both) => [rules[4].toSorted(), rules[6].toSorted()]
    assert.deepEqual(sorted(await rules(full)), sorted(both))
  })

  it('closes the firewall first and opens it last', async () => {
    const { kernel, host } = await machine()
    kernel.addLink('culvert0', 1500)
    await host.apply(full)
    assert.match(kernel.changes[0] ?? '', /chain input/)
    kernel.changes.length = 0
    await host.apply(openPlan)
    assert.equal(kernel.changes.at(-1), 'table inet culvert\ndelete table inet culvert\n')
    assert.match(kernel.changes[0] ?? '', /^rule del priority 27641 not fwmark/)
  })

  it('takes off addresses that share a network', async () => {
    const { kernel, host } = await machine()
    kernel.addLink('culvert0', 1500)
    const addresses = ['10.0.0.2/24', '10.0.0.3/24', '10.0.0.4/24'].map(parseInterfaceAddress)
    const tun = { mtu: 1420, addresses }
    await host.apply({ ...full, tun })
    await host.apply({ ...full, tun: { ...tun, addresses: addresses.slice(0, 1) } })
    assert.deepEqual([...(kernel.links.get('culvert0')?.addresses ?? [])], ['10.0.0.2/24'])
    await host.apply({ ...full, tun })
    await host.apply(openPlan)
    assert.deepEqual(kernel.links.get('culvert0')?.addresses, new Set())
  })

  it('changes nothing when all is as it should be', async () => {
    const { kernel, host } = await machine()
    kernel.addLink('culvert0', 1500)
    await host.apply(full)
    kernel.changes.length = 0
    await host.apply(full)
    assert.deepEqual(kernel.changes, [])
  })

  it('mends what somebody else removed', async () => {
    const { kernel, host } = await machine()
    kernel.addLink('culvert0', 1500)
    await host.apply(full)
    const before = kernel.snapshot()
    kernel.rules[6].length = 0
    kernel.routes[4].length = 0
    kernel.tables.clear()
    await host.apply(full)
    assert.deepEqual(kernel.snapshot(), before)
  })

  it('keeps both families shut while the tunnel has no link, and routes again when it has', async () => {
    const { kernel, host } = await machine()
    kernel.addLink('culvert0', 1500)
    await host.apply(full)
    const before = kernel.snapshot()
    kernel.removeLink('culvert0')
    await host.apply(full)
    assert.deepEqual(kernel.routes[4], ['unreachable 0.0.0.0/0 table 1668639862 metric 1000000'])
    kernel.addLink('culvert0', 1500)
    await host.apply(full)
    // The order in which routes were put in says nothing.
    kernel.routes[4].sort()
    assert.deepEqual(kernel.snapshot(), before)
  })

  it('gives a sysctl back only if it is still ours', async () => {
    const { root, host, state } = await machine()
    await host.apply(waiting)
    await writeFile(join(root, 'proc/sys/net/ipv4/conf/all/src_valid_mark'), '2')
    await host.apply(openPlan)
    assert.equal((await state()).mark, '2')
  })

  it('leaves everything as it was after any plans, whatever a restart found', async () => {
    const step = fc.constantFrom(
      'full' as const,
      'partial' as const,
      'waiting' as const,
      'open' as const,
      'kill' as const,
    )
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 8 }), async (steps) => {
        const { kernel, host: first, restart, state } = await machine()
        const before = await state()
        let host = first
        for (const step of steps) {
          if (step === 'kill') {
            host = await restart()
            assert.deepEqual(await host.recover(), [])
            assert.deepEqual(await state(), before)
            continue
          }
          if (step !== 'open' && !kernel.links.has('culvert0')) kernel.addLink('culvert0', 1500)
          await host.apply({ full, partial, waiting, open: openPlan }[step])
        }
        await host.apply(openPlan)
        kernel.removeLink('culvert0')
        assert.deepEqual(await state(), before)
      }),
      { numRuns: 60 },
    )
  })
})

describe('recover', () => {
  it('removes what bears our names when the journal is gone', async () => {
    const { kernel, host, restart, state } = await machine()
    const before = await state()
    kernel.addLink('culvert0', 1500)
    await host.apply(full)
    await rm(join(directory, `${number - 1}`, 'journal'))
    assert.deepEqual(await (await restart()).recover(), [])
    // What the sysctl was stood in the journal only.
    assert.deepEqual(await state(), { ...before, mark: '1' })
  })

  it('undoes the rest when one step fails, says which, and tries that one again next time', async () => {
    const { kernel, host, restart, state } = await machine()
    const before = await state()
    kernel.addLink('culvert0', 1500)
    await host.apply(full)
    kernel.breaks = '-6'
    const failures = await (await restart()).recover()
    assert.match(failures[0] ?? '', /could not be undone: refused/)
    assert.deepEqual([kernel.rules[4], kernel.tables.size], [['priority 27641 lookup 100'], 0])
    kernel.breaks = null
    assert.deepEqual(await (await restart()).recover(), [])
    assert.deepEqual(await state(), before)
  })

  it('puts a file back as it was, mode included', async () => {
    const { root, kernel } = await machine()
    const [path, copy] = [join(root, 'resolv.conf'), join(root, 'resolv.conf.before')]
    await writeFile(path, 'nameserver 10.64.0.1\n')
    await writeFile(copy, 'nameserver 192.0.2.53\n', { mode: 0o640 })
    const journal = await Journal.open(join(root, 'journal'), 'boot', () => {})
    await journal.record([{ tag: 'file', path, copy }])
    assert.deepEqual(await openHost(kernel.run, journal, join(root, 'proc')).recover(), [])
    assert.equal(await readFile(path, 'utf8'), 'nameserver 192.0.2.53\n')
  })
})
