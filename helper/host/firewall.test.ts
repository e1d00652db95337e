import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { renderTable } from '@culvert/tunnel'
import { parseIp } from '@culvert/tunnel/pure'
import { firewallTable } from './firewall.ts'

describe('firewallTable', () => {
  it('has no table for the open policy', () => {
    assert.equal(firewallTable({ tag: 'open' }), null)
  })

  it('lets only answers out of the tunnel, and nobody else near its addresses, by the base policy', () => {
    const table = firewallTable({ tag: 'base', addresses: ['10.64.0.2', 'fd00:64::2'].map(parseIp) })
    assert.equal(table && renderTable(table), BASE)
  })

  it('leaves a family alone that the tunnel has no address of', () => {
    const table = firewallTable({ tag: 'base', addresses: [parseIp('10.64.0.2')] })
    assert.deepEqual(table?.chains[0]?.rules, ['iifname != { "culvert0", "lo" } ip daddr { 10.64.0.2 } drop'])
  })
})

const BASE = `table inet culvert {
  comment "Culvert VPN. To remove it and give the network back: culvert rescue"
  chain foreign {
    type filter hook prerouting priority -300; policy accept;
    iifname != { "culvert0", "lo" } ip daddr { 10.64.0.2 } drop
    iifname != { "culvert0", "lo" } ip6 daddr { fd00:64::2 } drop
  }
  chain input {
    type filter hook input priority 0; policy accept;
    iifname "culvert0" ct state established,related accept
    iifname "culvert0" icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
    iifname "culvert0" icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    iifname "culvert0" drop
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    iifname "culvert0" ct state established,related accept
    iifname "culvert0" icmp type { destination-unreachable, time-exceeded, parameter-problem } accept
    iifname "culvert0" icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem } accept
    iifname "culvert0" drop
  }
  chain restore {
    type filter hook prerouting priority -150; policy accept;
    meta l4proto { tcp, udp } ct mark 0x63756c76 meta mark set ct mark
  }
  chain save {
    type filter hook output priority -150; policy accept;
    meta l4proto { tcp, udp } meta mark 0x63756c76 ct mark set meta mark
  }
}
`
