/** The server among its networks: what its clients reach and what they don't, and what it leaves alone. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { addresses, startSite } from '../lab.ts'
import { capture } from './capture.ts'
import { addDevice, commands, get, importConf, runServer, startHelper } from './culvert.ts'
import type { Host } from './host.ts'
import { eventually, type Program } from './program.ts'
import { snapshot, timeless } from './snapshot.ts'
import { talk } from './talk.ts'
import { connect, disconnect, families, openTunnelled, type Tunnelled } from './tunnelled.ts'

describe('a server', () => {
  let t: Tunnelled
  let guest: Host
  before(async () => {
    t = await openTunnelled()
    guest = await t.lab.addToLan('guest', 4)
    await startHelper(guest)
    await importConf(guest, t.lab.folder, 'guest', await addDevice(t.lab.server, 'bela'))
    await Promise.all(
      [t.lab.server, t.lab.office, t.lab.client, guest].map((host) => startSite(host, 'open')),
    )
    await connect(t.lab)
    await guest.run([commands.culvert, 'connect', '--wait', '10'])
  })
  after(() => t[Symbol.asyncDispose]())

  it('lets no client reach another, over either family', async () => {
    const addressesOf = async (host: Host) => {
      const shown = await host.run(['ip', '-brief', 'address', 'show', 'dev', 'culvert0', 'scope', 'global'])
      return shown
        .trim()
        .split(/\s+/)
        .slice(2)
        .map((address) => address.slice(0, address.indexOf('/')))
    }
    const theirs = await addressesOf(guest)
    assert.equal(theirs.length, 2)
    for (const address of theirs) {
      const before = await droppedBetweenClients(t.lab.server)
      await mustNotReach(t.lab.client, address)
      // The guest's own firewall would be silent too: it is the server that has to drop it.
      assert.ok((await droppedBetweenClients(t.lab.server)) > before, address)
    }
  })

  it('lets no client reach its own services, at any of its addresses', async () => {
    const inside = await t.lab.server.run([
      'ip',
      '-brief',
      'address',
      'show',
      'dev',
      'culvert-srv',
      'scope',
      'global',
    ])
    const own = inside
      .trim()
      .split(/\s+/)
      .slice(2)
      .map((address) => address.slice(0, address.indexOf('/')))
    assert.equal(own.length, 2)
    const all = [...own, ...Object.values(addresses.server), ...Object.values(addresses.serverOffice)]
    const got = await Promise.all(all.map((address) => get(t.lab.client, url(address), SOON)))
    assert.deepEqual(
      got.map(({ status }) => status),
      all.map(() => 0),
    )
  })

  it('lets no client reach a private network behind it', async () => {
    for (const address of Object.values(addresses.office)) {
      assert.equal((await get(t.lab.server, url(address))).status, 200, 'the server itself reaches it')
      await mustNotReach(t.lab.client, address)
    }
  })

  it('passes on nothing that a client sends under an address that is not its own', async () => {
    const strange = '10.254.254.254'
    const watching = await capture(t.lab.website, 'eth0', `${t.lab.folder}/spoofed.pcap`)
    await t.lab.client.ip(`address add ${strange}/32 dev culvert0`)
    for (const source of [strange, 'culvert0']) {
      await t.lab.client.exec(['ping', '-c', '2', '-i', '0.2', '-W', '1', '-I', source, addresses.website.v4])
    }
    await t.lab.client.ip(`address delete ${strange}/32 dev culvert0`)
    const sources = (await watching.seen())
      .filter(({ protocol }) => protocol === 1)
      .map(({ source }) => source)
    assert.ok(sources.includes(addresses.server.v4), 'its own address passes')
    assert.equal(sources.includes(strange), false)
  })

  it('keeps its IPv6 default route, and takes a new one from a router advertisement, while it forwards', async () => {
    const route = () => t.lab.server.run(['ip', '-6', 'route', 'show', 'default'])
    assert.match(await route(), /proto ra/)
    await t.lab.server.run(['ip', '-6', 'route', 'delete', 'default'])
    await eventually('a router advertisement to be taken', 15_000, async () =>
      (await route()).includes('proto ra') ? true : null,
    )
    for (const { url, server } of families)
      assert.deepEqual(await get(t.lab.client, url), { status: 200, you: server })
  })

  it('takes a new device while it runs, and drops nobody for it', async () => {
    const before = await sessionOf(t.lab.client)
    const talking = talk(t.lab.client, addresses.website.v4, 6)
    for (const user of ['cleo', 'dora', 'emil']) await addDevice(t.lab.server, user)
    t.server.kill('SIGHUP')
    assert.deepEqual(await talking, { sent: 60, lost: 0, which: [] })
    assert.deepEqual(await sessionOf(t.lab.client), before, 'no new handshake')
  })
})

describe('when it stops, a server', () => {
  it('gives the host back as it was, by SIGTERM and by SIGINT', async () => {
    await using t = await openTunnelled()
    await t.server.stop()
    const untouched = timeless(await snapshot(t.lab.server))
    for (const signal of ['SIGTERM', 'SIGINT'] as const) {
      const server: Program = await runServer(t.lab.server)
      await connect(t.lab)
      assert.equal((await get(t.lab.client, families[0].url)).status, 200)
      assert.notDeepEqual(timeless(await snapshot(t.lab.server)), untouched)
      server.kill(signal)
      assert.equal((await server.ended).status, 0)
      assert.deepEqual(timeless(await snapshot(t.lab.server)), untouched)
      await disconnect(t.lab)
    }
  })

  it('leaves forwarding on when somebody else forwards too, and says so', async () => {
    await using t = await openTunnelled()
    await t.lab.server.ip('link add docker0 type bridge', 'link set docker0 up')
    const { stderr } = await t.server.stop()
    const [v4, v6] = await Promise.all(
      ['net.ipv4.ip_forward', 'net.ipv6.conf.all.forwarding'].map((key) =>
        t.lab.server.run(['sysctl', '-n', key]),
      ),
    )
    assert.deepEqual(
      [v4, v6].map((value) => value?.trim()),
      ['1', '1'],
    )
    assert.match(stderr, /docker0/)
  })
})

/** Packets from one client to another that the server's firewall has dropped. */
async function droppedBetweenClients(server: Host): Promise<number> {
  const rules = await server.run(['nft', 'list', 'table', 'inet', 'culvert_server'])
  const found = /counter packets (\d+) bytes \d+ drop comment "client to client"/.exec(rules)?.[1]
  assert.ok(found !== undefined, rules)
  return Number(found)
}

/** Neither HTTP nor an echo. */
async function mustNotReach(host: Host, address: string): Promise<void> {
  assert.equal((await get(host, url(address), SOON)).status, 0, `HTTP to ${address}`)
  const { status } = await host.exec(['ping', '-c', '2', '-i', '0.2', '-W', '1', address])
  assert.notEqual(status, 0, `an echo from ${address}`)
}

function url(address: string): string {
  return address.includes(':') ? `http://[${address}]/` : `http://${address}/`
}

/** The time of the last handshake, which a new session would change. */
async function sessionOf(client: Host): Promise<unknown> {
  const { latestHandshake, since } = JSON.parse(
    await client.run([commands.culvert, 'status', '--json']),
  ) as Record<string, unknown>
  return { latestHandshake, since }
}

/** Seconds. Who answers in the lab does so in milliseconds. */
const SOON = 3
