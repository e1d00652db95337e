import assert from 'node:assert/strict'
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { after, describe, it } from 'node:test'
import { hostsAddresses, nameServers, parseHosts, parseResolvConf } from './nameservers.ts'

const root = await mkdtemp(join(tmpdir(), 'culvert-nameservers-'))
after(() => rm(root, { recursive: true }))

async function write(path: string, text: string): Promise<void> {
  await mkdir(dirname(join(root, path)), { recursive: true })
  await writeFile(join(root, path), text)
}

describe('nameServers', () => {
  it('takes the uplink’s own record before /etc/resolv.conf, and passes over one that knows only a stub', async () => {
    assert.deepEqual(await nameServers(root), [])
    await write('/etc/resolv.conf', 'nameserver 127.0.0.53\noptions edns0\n')
    assert.deepEqual(await nameServers(root), [])
    await write('/run/NetworkManager/no-stub-resolv.conf', 'nameserver 192.0.2.1\n')
    assert.deepEqual(await nameServers(root), ['192.0.2.1'])
    await write('/run/systemd/resolve/resolv.conf', 'nameserver 192.0.2.2\nnameserver 2001:DB8::53\n')
    assert.deepEqual(await nameServers(root), ['192.0.2.2', '2001:db8::53'])
  })

  it('never takes a loopback address, nor one that means nothing without its link', () => {
    const text = [
      '127.0.0.1',
      '127.1.2.3',
      '::1',
      '0.0.0.0',
      'fe80::1',
      'fe80::1%eth0',
      '::ffff',
      'dns.example',
    ]
    assert.deepEqual(parseResolvConf(text.map((word) => `nameserver ${word}\n`).join('')), ['::ffff'])
  })

  it('reads the addresses of a name from /etc/hosts', async () => {
    const text =
      '# 192.0.2.9 vpn.example\n192.0.2.1 a VPN.example # b\n2001:db8::1\tvpn.example\nx vpn.example\n'
    assert.deepEqual(parseHosts(text, 'vpn.example'), ['192.0.2.1', '2001:db8::1'])
    assert.deepEqual(await hostsAddresses(join(root, 'nowhere'), 'vpn.example'), [])
  })
})
