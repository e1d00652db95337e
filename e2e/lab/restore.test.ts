/** Culvert gives the host back as it was: links, addresses, routes, rules, sysctls, nftables and resolver, byte for byte. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { commands, culvert, get, mustCulvert, startHelper } from './culvert.ts'
import type { Program } from './program.ts'
import { snapshot, type Snapshot } from './snapshot.ts'
import { connect, disconnect, families, openTunnelled, type Tunnelled } from './tunnelled.ts'

describe('the host is byte for byte what it was', () => {
  let t: Tunnelled
  let untouched: Snapshot
  let helper: Program
  before(async () => {
    t = await openTunnelled()
    helper = t.helper
    // Somebody else's firewall and rule must be there afterwards as well.
    await t.lab.client.nft(`
      table inet desktop {
        chain input {
          type filter hook input priority filter; policy accept;
          tcp dport 631 drop
        }
      }`)
    await t.lab.client.ip('rule add from 192.168.77.2 lookup main priority 100')
    untouched = await snapshot(t.lab.client)
  })
  after(() => t[Symbol.asyncDispose]())

  it('after disconnect', async () => {
    await connect(t.lab)
    await mustBeTunnelled()
    await disconnect(t.lab)
    assert.deepEqual(await snapshot(t.lab.client), untouched)
  })

  it('after five connects and disconnects in a row', async () => {
    for (let i = 0; i < 5; i++) {
      await connect(t.lab)
      await disconnect(t.lab)
    }
    assert.deepEqual(await snapshot(t.lab.client), untouched)
  })

  it('after rescue, which also ends the helper', async () => {
    await connect(t.lab)
    await mustBeTunnelled()
    await mustCulvert(t.lab.client, ['rescue'])
    assert.deepEqual(await snapshot(t.lab.client), untouched)
    await helper.ended
    helper = await startHelper(t.lab.client)
    assert.deepEqual(await snapshot(t.lab.client), untouched)
    assert.equal(await stateOf(t), 'disconnected')
  })

  it('after rescue with the helper killed and its journal damaged', async () => {
    await connect(t.lab)
    await helper[Symbol.asyncDispose]()
    await t.lab.client.write('/var/lib/culvert/journal', 'not a journal\n')
    await mustCulvert(t.lab.client, ['rescue'])
    // What only the journal knew may stay; what has a name of ours may not.
    const { sysctls: _now, ...rest } = await snapshot(t.lab.client)
    const { sysctls: _then, ...expected } = untouched
    assert.deepEqual(rest, expected)
    await t.lab.client.sysctl({
      'net.ipv4.conf.all.src_valid_mark': sysctl('net.ipv4.conf.all.src_valid_mark'),
    })
    helper = await startHelper(t.lab.client)
  })

  it('after SIGTERM of the helper while connected', async () => {
    await mustCulvert(t.lab.client, ['settings', 'set', 'killSwitch', 'off'], {}).catch(() => {})
    await connect(t.lab)
    await mustBeTunnelled()
    const { status } = await helper.stop()
    assert.deepEqual({ status, host: await snapshot(t.lab.client) }, { status: 0, host: untouched })
    helper = await startHelper(t.lab.client)
    await disconnect(t.lab)
  })

  it('after kill -9 of the helper, its restart and disconnect', async () => {
    await connect(t.lab)
    await mustBeTunnelled()
    helper.kill('SIGKILL')
    await helper.ended
    helper = await startHelper(t.lab.client)
    await disconnect(t.lab)
    assert.deepEqual(await snapshot(t.lab.client), untouched)
  })

  it('after kill -9 at many moments of connect and disconnect', async () => {
    for (let i = 0; i < 10; i++) {
      const command = t.lab.client.start([
        commands.culvert,
        i % 2 === 0 ? 'connect' : 'disconnect',
        '--wait',
        '10',
      ])
      // Spread over the half second that either takes.
      await new Promise((resolve) => setTimeout(resolve, 40 + i * 50))
      helper.kill('SIGKILL')
      await Promise.all([helper.ended, command.ended])
      helper = await startHelper(t.lab.client)
    }
    await disconnect(t.lab)
    assert.deepEqual(await snapshot(t.lab.client), untouched)
  })

  async function mustBeTunnelled(): Promise<void> {
    for (const { url, server } of families) {
      assert.deepEqual(await get(t.lab.client, url), { status: 200, you: server })
    }
    assert.notDeepEqual(await snapshot(t.lab.client), untouched)
  }

  function sysctl(key: string): string {
    return new RegExp(`^${key} = (.*)$`, 'm').exec(untouched['sysctls'] ?? '')?.[1] ?? ''
  }
})

async function stateOf(t: Tunnelled): Promise<unknown> {
  const { stdout } = await culvert(t.lab.client, ['status', '--json'])
  return (JSON.parse(stdout) as { state?: unknown }).state
}
