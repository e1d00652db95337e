/** The peers themselves, in the lab: what Culvert is judged against must work before it judges. */
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { addresses, openLab, startSite } from '../lab.ts'
import { peer } from '../peers.ts'
import { makeKeys, makePresharedKey } from '../peers/uapi.ts'
import { startWireGuard, type Kind } from '../peers/wireguard.ts'
import { absent } from './absent.ts'
import { talk } from './talk.ts'

for (const kind of ['wireguard-go', 'boringtun'] as const satisfies readonly Kind[]) {
  test(`${kind} reaches a wireguard-go server through the lab`, async (t) => {
    const [kindOfClient, kindOfServer] = await Promise.all([peer(kind), peer('wireguard-go')])
    if (kindOfClient.tag === 'absent') return absent(t, kindOfClient.why)
    if (kindOfServer.tag === 'absent') return absent(t, kindOfServer.why)
    await using lab = await openLab()
    const [clientKeys, serverKeys, psk] = [makeKeys(), makeKeys(), makePresharedKey()]
    await using server = await startWireGuard(
      lab.server,
      'wireguard-go',
      kindOfServer.program,
      'wg0',
      `[Interface]
      PrivateKey = ${serverKeys.privateKey}
      ListenPort = 51820
      Address = 10.200.0.1/24, fd20::1/64
      [Peer]
      PublicKey = ${clientKeys.publicKey}
      PresharedKey = ${psk}
      AllowedIPs = 10.200.0.2/32, fd20::2/128`,
    )
    await using device = await startWireGuard(
      lab.client,
      kind,
      kindOfClient.program,
      'wg0',
      `[Interface]
      PrivateKey = ${clientKeys.privateKey}
      Address = 10.200.0.2/24, fd20::2/64
      [Peer]
      PublicKey = ${serverKeys.publicKey}
      PresharedKey = ${psk}
      Endpoint = ${addresses.server.v4}:51820
      AllowedIPs = 10.200.0.0/24, fd20::/64`,
    )
    await startSite(lab.server, 'open')
    for (const address of ['10.200.0.1', 'fd20::1']) {
      assert.deepEqual(await talk(lab.client, address, 1), { sent: 10, lost: 0, which: [] })
    }
    const [own, its] = await Promise.all([device.status(), server.status()])
    // Twenty messages of more than 125 bytes, sealed, both ways.
    assert.ok(own.rxBytes > 2500 && its.rxBytes > 2500, `${own.rxBytes} and ${its.rxBytes} bytes`)
  })
}
