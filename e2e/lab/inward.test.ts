/**
 * The other way: a server that turns on its clients. wireguard-go stands in for it, told that the whole world is behind the client, so that whatever its
 * host routes into the tunnel is sealed and delivered.
 */
import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { addresses, openLab, startSite, type Lab } from '../lab.ts'
import { peer } from '../peers.ts'
import { makeKeys } from '../peers/uapi.ts'
import { startWireGuard } from '../peers/wireguard.ts'
import { absent } from './absent.ts'
import { capture } from './capture.ts'
import { get, importConf, startHelper } from './culvert.ts'
import { connect } from './tunnelled.ts'

describe('a packet that the server sends into the tunnel on its own', () => {
  it('reaches no service of the client and no host of its LAN, over IPv4 and IPv6', async (t) => {
    const found = await peer('wireguard-go')
    if (found.tag === 'absent') return absent(t, found.why)
    await using lab = await openLab()
    await using server = await openHostile(lab, found.program)
    await Promise.all([lab.client, lab.neighbour].map((host) => startSite(host, 'open')))
    // As on a computer that runs containers: otherwise the kernel itself would not pass anything on to the LAN.
    await lab.client.sysctl({ 'net.ipv4.ip_forward': 1, 'net.ipv6.conf.all.forwarding': 1 })
    await connect(lab)
    await lab.client.run(['ping', '-c', '1', '-W', '5', INSIDE.server.v6])

    assert.deepEqual(await attack(lab), { client: [0, 0], neighbour: 0 })
    // The same without our table, to show that nothing else held it back.
    await lab.client.nft('delete table inet culvert')
    const open = await attack(lab)
    assert.deepEqual(open.client, [200, 200])
    assert.ok(open.neighbour >= 2, `${open.neighbour} packets`)
    assert.ok((await server.status()).rxBytes > 0)
  })

  it('passes when the client asked for it, and is dropped when it did not', async (t) => {
    const found = await peer('wireguard-go')
    if (found.tag === 'absent') return absent(t, found.why)
    await using lab = await openLab()
    await using server = await openHostile(lab, found.program)
    await connect(lab)
    await startSite(lab.server, 'open')
    assert.equal((await get(lab.client, `http://${INSIDE.server.v4}/`)).status, 200)
    const pings = await Promise.all(
      Object.values(INSIDE.client).map((address) =>
        lab.server.exec(['ping', '-c', '2', '-i', '0.2', '-W', '1', address]),
      ),
    )
    assert.ok(pings.every(({ status }) => status !== 0))
    assert.ok(server.program.running)
  })
})

/** HTTP and echoes from the server: to the client's tunnel addresses, and through it to the neighbour. */
async function attack(lab: Lab): Promise<{ client: readonly number[]; neighbour: number }> {
  const watching = await capture(lab.neighbour, 'eth0', `${lab.folder}/neighbour-${performance.now()}.pcap`)
  const client = await Promise.all(
    [`http://${INSIDE.client.v4}/`, `http://[${INSIDE.client.v6}]/`].map((url) => get(lab.server, url, 3)),
  )
  await Promise.all(
    [addresses.neighbour.v4, addresses.neighbour.v6].map((address) =>
      lab.server.exec(['ping', '-c', '3', '-i', '0.2', '-W', '1', address]),
    ),
  )
  const from: readonly string[] = Object.values(INSIDE.server)
  const neighbour = (await watching.seen()).filter(({ source }) => from.includes(source)).length
  return { client: client.map(({ status }) => status), neighbour }
}

/** Brings up the hostile server, and a helper on the client with its profile. */
async function openHostile(lab: Lab, program: string) {
  const [client, server] = [makeKeys(), makeKeys()]
  const device = await startWireGuard(
    lab.server,
    'wireguard-go',
    program,
    'wg0',
    `[Interface]
    PrivateKey = ${server.privateKey}
    ListenPort = 51820
    Address = ${INSIDE.server.v4}/24, ${INSIDE.server.v6}/64
    [Peer]
    PublicKey = ${client.publicKey}
    AllowedIPs = 0.0.0.0/0, ::/0`,
    ['192.168.77.0/24', '2001:db8:1:77::/64'],
  )
  await startHelper(lab.client)
  const conf = `[Interface]
    PrivateKey = ${client.privateKey}
    Address = ${INSIDE.client.v4}/24, ${INSIDE.client.v6}/64
    [Peer]
    PublicKey = ${server.publicKey}
    Endpoint = ${addresses.server.v4}:51820
    AllowedIPs = 0.0.0.0/0, ::/0`
  await importConf(lab.client, lab.folder, 'hostile', conf)
  return device
}

const INSIDE = {
  server: { v4: '10.200.0.1', v6: 'fd20::1' },
  client: { v4: '10.200.0.2', v6: 'fd20::2' },
} as const
