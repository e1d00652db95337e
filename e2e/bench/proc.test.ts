import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { cpuTime, netCounters, parseNetCounters, parsePidStat, parseStat, since, total } from './proc.ts'

describe('what /proc says', () => {
  it('a program has used its user and its system time, whatever its name is', () => {
    const stat = (name: string) =>
      `9536 (${name}) S 1 9536 9536 0 -1 4194560 8321 77 0 0 250 125 9 9 20 0 7 0 36112 10 20 30`
    assert.deepEqual(['wireguard', 'a (b) 3 c', ') R 1'].map(stat).map(parsePidStat), [3.75, 3.75, 3.75])
    assert.throws(() => parsePidStat('no such process'), /not a \/proc\/PID\/stat/)
  })

  it('the machine was busy but for idling, waiting for disks and stolen time; guests are counted once', () => {
    const stat = 'cpu  100 20 3 99999 88888 40 5 77777 66 6\ncpu0 1 2 3 4 5 6 7 8 9 10\nctxt 5\n'
    assert.equal(parseStat(stat), 1.68)
    assert.throws(() => parseStat('intr 1 2 3\n'), /not a \/proc\/stat/)
    assert.throws(() => parseStat('cpu  1 2\n'), /not a \/proc\/stat/)
  })

  it("a device's counters and the namespace's protocols become one value", () => {
    assert.deepEqual(parseNetCounters(devices, protocols, 'tun0'), {
      rxBytes: 9200,
      rxPackets: 100,
      txPackets: 58,
      txDropped: 17,
      rxDropped: 3,
      checksumErrors: 1 + 2 + 4 + 8,
      retransmits: 175,
    })
    assert.equal(parseNetCounters(devices, protocols, 'un0').rxPackets, 7)
    assert.throws(() => parseNetCounters(devices, protocols, 'tun1'), /no device tun1/)
  })

  it('a difference and a sum are taken field by field', () => {
    const [before, after] = [
      { programs: 1, machine: 2 },
      { programs: 1.5, machine: 5 },
    ]
    assert.deepEqual(since(before, after), { programs: 0.5, machine: 3 })
    assert.deepEqual(total(before, after), { programs: 2.5, machine: 7 })
  })

  it('is so on this machine: this process has used some of its time, and talks to itself on lo', () => {
    const { programs, machine } = cpuTime([process.pid])
    assert.ok(programs > 0 && programs <= machine, `${programs} of ${machine} core-seconds`)
    assert.equal(typeof netCounters(process.pid, 'lo').rxBytes, 'number')
  })
})

const devices = `Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo: 9424303   41045    0    0    0     0          0         0  9424303   41045    0    0    0     0       0          0
   un0:       0       7    0    0    0     0          0         0        0       0    0    0    0     0       0          0
  tun0:    9200     100    5    3    6     7          8         9     4000      58   11   17   12    13      14         15
`

const protocols = `Ip: Forwarding DefaultTTL InReceives
Ip: 2 64 3085
Icmp: InMsgs InErrors InCsumErrors
Icmp: 9 0 2
Tcp: RtoAlgorithm MaxConn RetransSegs InErrs OutRsts InCsumErrors
Tcp: 1 -1 175 3 8 4
Udp: InDatagrams NoPorts InErrors InCsumErrors
Udp: 100 5 6 8
UdpLite: InDatagrams NoPorts InErrors InCsumErrors
UdpLite: 0 0 0 64
TcpExt: SyncookiesSent TCPRetransFail
TcpExt: 0 32
IpExt: InNoRoutes InCsumErrors
IpExt: 0 1
`
