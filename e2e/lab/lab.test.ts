/** The lab itself: what it shows before any tunnel, and that nothing of it stays. */
import assert from 'node:assert/strict'
import { existsSync, readlinkSync } from 'node:fs'
import { describe, it } from 'node:test'
import { addresses, names, openLab } from '../lab.ts'
import { get } from './culvert.ts'
import { FOLDER_PREFIX } from './host.ts'
import { eventually, exec, Program } from './program.ts'
import { cacheFolder } from './root.ts'

describe('the lab', () => {
  it('blocks the website for the client by name and by address, over IPv4 and IPv6, and for nobody else', async () => {
    await using lab = await openLab()
    const urls = [names.website, addresses.website.v4, `[${addresses.website.v6}]`].map(
      (host) => `http://${host}/`,
    )
    for (const url of urls) {
      const seen = await Promise.all([lab.client, lab.neighbour, lab.server].map((host) => get(host, url)))
      assert.deepEqual(
        seen.map(({ status }) => status),
        [403, 403, 200],
        url,
      )
    }
    const { status } = await lab.client.exec(['curl', '--silent', `https://${addresses.website.v4}/`])
    assert.equal(status, 7, 'port 443 is reset')
  })

  it('shows the machine no link, no address and no route of its own, and leaves none', async () => {
    const own = async () =>
      (await exec(['ip', 'address'])).stdout + (await exec(['ip', 'route', 'show', 'table', 'all'])).stdout
    const before = timeless(await own())
    {
      await using lab = await openLab()
      assert.equal(timeless(await own()), before)
      assert.notEqual(readlinkSync(`/proc/${lab.client.pid}/ns/net`), readlinkSync('/proc/self/ns/net'))
    }
    assert.equal(timeless(await own()), before)
  })

  it('ends with its process, even by kill -9, and the next one removes its files', async () => {
    const script = `
      import { openLab } from ${JSON.stringify(import.meta.resolve('../lab.ts'))}
      const { client, resolver, internet } = await openLab()
      console.log('hosts', client.pid, resolver.pid, internet.pid)
      setInterval(() => {}, 1000)`
    await using owner = new Program([process.execPath, '--input-type=module', '--eval', script], {
      env: { CULVERT_CACHE: cacheFolder() }, // or it would make lab roots of its own
    })
    const [, ...found] = await owner.says(/hosts (\d+) (\d+) (\d+)/, 30_000)
    const folder = `${FOLDER_PREFIX}${owner.pid}`
    assert.ok(found.every((pid) => existsSync(`/proc/${pid}`)) && existsSync(folder))
    owner.kill('SIGKILL')
    await owner.ended
    await eventually('the hosts to end', 5000, () =>
      found.some((pid) => existsSync(`/proc/${pid}`)) ? null : true,
    )
    await using lab = await openLab()
    assert.equal(existsSync(folder), false)
    assert.ok(existsSync(lab.folder))
  })
})

/** Without the lifetimes that the machine's own network refreshes. */
function timeless(text: string): string {
  return text.replaceAll(/\d+sec/g, '')
}
