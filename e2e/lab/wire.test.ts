/** What the network between client and server gets to see. */
import assert from 'node:assert/strict'
import { after, before, describe, it } from 'node:test'
import { addresses } from '../lab.ts'
import { capture, type Seen } from './capture.ts'
import { get, importConf, SERVER_PORT } from './culvert.ts'
import { connect, disconnect, families, openTunnelled, type Tunnelled } from './tunnelled.ts'
import { messageKind } from './wireguard-message.ts'

describe('between the ISP and the server', () => {
  let t: Tunnelled
  before(async () => {
    t = await openTunnelled()
    for (const [name, address] of Object.entries({
      v4: addresses.server.v4,
      v6: `[${addresses.server.v6}]`,
    })) {
      const conf = t.conf.replace(/^Endpoint\s*=.*$/m, `Endpoint = ${address}:${SERVER_PORT}`)
      await importConf(t.lab.client, t.lab.folder, name, conf)
    }
    // Super-packets are cut before they leave, as a real wire wants them, and so the capture sees each datagram.
    for (const device of ['wan', 'lan2']) await t.lab.isp.ip(`link set ${device} gso_max_segs 1`)
    await t.lab.internet.ip('link set isp gso_max_segs 1')
  })
  after(() => t[Symbol.asyncDispose]())

  for (const name of ['v4', 'v6'] as const) {
    it(`there are only WireGuard messages to and from the server's port, over IP${name}`, async () => {
      const watching = await capture(t.lab.isp, 'wan', `${t.lab.folder}/${name}.pcap`)
      await connect(t.lab, name)
      for (const { url, site } of families) {
        await get(t.lab.client, url)
        await t.lab.client.run(['curl', '-s', '-o', '/dev/null', '-m', '60', `${url}/bytes/5000000`])
        await t.lab.client.exec(['ping', '-c', '2', '-i', '0.2', '-W', '1', site])
      }
      await disconnect(t.lab)
      const seen = (await watching.seen()).filter((packet) => !isNeighbourhood(packet))
      const client = name === 'v4' ? addresses.isp.v4 : addresses.client.v6
      const strange = seen.filter((packet) => !isTunnel(packet, client, addresses.server[name]))
      assert.deepEqual(strange.slice(0, 5), [])
      const kinds = Map.groupBy(seen, messageKind)
      assert.ok((kinds.get('initiation')?.length ?? 0) > 0 && (kinds.get('response')?.length ?? 0) > 0)
      // 10 MB in messages of at most 1452 bytes.
      assert.ok((kinds.get('data')?.length ?? 0) > 7000, `${kinds.get('data')?.length} data messages`)
    })
  }

  it('a .conf without ::/0 sends no IPv6 past the tunnel', async () => {
    const conf = t.conf
      .replace(/^Endpoint\s*=.*$/m, `Endpoint = ${addresses.server.v4}:${SERVER_PORT}`)
      .replace(/^AllowedIPs\s*=.*$/m, 'AllowedIPs = 0.0.0.0/0')
    await importConf(t.lab.client, t.lab.folder, 'only-v4', conf)
    await connect(t.lab, 'only-v4')
    const watching = await capture(t.lab.isp, 'wan', `${t.lab.folder}/only-v4.pcap`)
    const [v4, v6] = await Promise.all(families.map(({ url }) => get(t.lab.client, url)))
    await t.lab.client.exec(['ping', '-c', '2', '-i', '0.2', '-w', '2', addresses.website.v6])
    const seen = await watching.seen()
    await disconnect(t.lab)
    assert.deepEqual(
      { v4, v6, leaked: seen.filter((packet) => packet.family === 6 && !isNeighbourhood(packet)) },
      { v4: { status: 200, you: addresses.server.v4 }, v6: { status: 0, you: null }, leaked: [] },
    )
  })
})

describe('a profile without a default route', () => {
  it('takes its allowed IPs through the tunnel, though the LAN has a wider route, and nothing else', async () => {
    await using t = await openTunnelled()
    const conf = t.conf.replace(/^AllowedIPs\s*=.*$/m, `AllowedIPs = ${addresses.website.v4}/32`)
    await importConf(t.lab.client, t.lab.folder, 'few', conf)
    await t.lab.client.ip(`route add 203.0.0.0/8 via ${addresses.gateway.v4}`)
    await connect(t.lab, 'few')
    const seen = await Promise.all(families.map(({ url }) => get(t.lab.client, url)))
    await disconnect(t.lab)
    assert.deepEqual(seen, [
      { status: 200, you: addresses.server.v4 },
      { status: 403, you: null },
    ])
  })
})

/** The ISP's resolver asking the root, and ICMPv6 between neighbours: no traffic of the client. */
function isNeighbourhood({ source, destination, protocol, ports, head }: Seen): boolean {
  const resolver: readonly string[] = Object.values(addresses.resolver)
  if (resolver.includes(source) || resolver.includes(destination)) return true
  // Neighbour discovery is 133 to 137, multicast listeners 130 to 132 and 143 (behind a hop-by-hop header: protocol 0).
  const type = head[0] ?? 0
  return (
    ports === null && (protocol === 0 || (protocol === 58 && ((type >= 130 && type <= 137) || type === 143)))
  )
}

function isTunnel(packet: Seen, client: string, server: string): boolean {
  if (packet.protocol !== 17 || messageKind(packet) === null) return false
  const { source, destination, ports } = packet
  return source === client
    ? destination === server && ports?.destination === SERVER_PORT
    : source === server && destination === client && ports?.source === SERVER_PORT
}
