import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import { renderTable } from '@culvert/tunnel'
import { contains, parseCidr, parseIp, type Table } from '@culvert/tunnel/pure'
import { natTable, tableName, type NatPolicy } from './nat.ts'
import { serverAddresses } from './pool.ts'

const pool = { pool4: parseCidr('10.64.0.0/10'), pool6: parseCidr('fd12:3456:789a::/48') }
const policy: NatPolicy = {
  interfaceName: 'culvert-srv',
  ...pool,
  addresses: serverAddresses(pool),
  dns: [parseIp('9.9.9.9'), parseIp('2620:fe::fe')],
  allowPrivate: [],
  allowClients: false,
}

describe('the server’s firewall', () => {
  it('is, as init configures it, the text of nat.golden.nft', () => {
    assert.equal(renderTable(natTable(policy)), golden('nat.golden.nft'))
  })

  it('opens what the config names, and nothing more: nat-open.golden.nft', () => {
    const open = natTable({
      ...policy,
      allowPrivate: ['192.168.1.0/24', '192.168.2.5', 'fd99::/64', 'fd99:0:0:1::5'].map(parseCidr),
      allowClients: true,
      dns: [parseIp('10.64.0.1'), parseIp('fd12:3456:789a::1'), parseIp('1.1.1.1')],
    })
    assert.equal(renderTable(open), golden('nat-open.golden.nft'))
  })

  it('has a table of its own for each interface name', () => {
    assert.deepEqual(
      ['culvert-srv', 'culvert-srv2', 'a-b'].map((name) => tableName(name).name),
      ['culvert_server', 'culvert_server_culvert_srv2', 'culvert_server_a_b'],
    )
  })
})

describe('a client’s packet', () => {
  const table = natTable(policy)
  const closed = `10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.100.100.200 127.0.0.1 169.254.169.254
    168.63.129.16 192.0.0.192 224.0.0.251 239.255.255.250 255.255.255.255 0.0.0.0 198.19.0.1
    :: ::1 fd00:ec2::254 fc00::1 fe80::1 ff02::1 fec0::1 ::ffff:10.0.0.1
    64:ff9b::10.0.0.1 64:ff9b::169.254.169.254 64:ff9b:1::1 100::1
    ::10.0.0.1 2002:a00:1::1 2001:2::1 5f00::1 100:0:0:1::1`.split(/\s+/)
  for (const address of closed) {
    it(`to ${address} goes nowhere`, () => assert.equal(isPrivate(table, address), true))
  }
  const open = `203.0.113.80 1.1.1.1 8.8.8.8 172.15.0.1 172.32.0.1 100.128.0.1 11.0.0.0 223.255.255.255
    2001:db8:3::80 2620:fe::fe 2a00:1450::1 64:ff9b::8.8.8.8`.split(/\s+/)
  for (const address of open) {
    it(`to ${address} goes out`, () => assert.equal(isPrivate(table, address), false))
  }
})

function isPrivate(table: Table, address: string): boolean {
  const nets = (table.sets ?? [])
    .filter(({ name }) => name.startsWith('private'))
    .flatMap(({ elements }) => elements)
  return nets.some((net) => contains(parseCidr(net), parseIp(address)))
}

function golden(name: string): string {
  return readFileSync(join(import.meta.dirname, name), 'utf8')
}
