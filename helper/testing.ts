/** A helper without root, for tests: the real daemon on a memory kernel, memory tunnels and a socket in a temporary directory. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { IpAddress } from '@culvert/tunnel'
import { parseIp } from '@culvert/tunnel/pure'
import { startDaemon } from './daemon.ts'
import { createLink } from './dial.ts'
import { HelperError } from './error.ts'
import { MemoryKernel } from './host/kernel-memory.ts'
import { memoryTunnels, type MemoryServers } from './tunnel-memory.ts'

/** A helper that runs in this process. */
export interface TestHelper extends AsyncDisposable {
  readonly socket: string
  readonly state: string
  readonly kernel: MemoryKernel
  readonly servers: MemoryServers
  /** Names and their addresses; a name that is not here cannot be resolved. */
  readonly names: Map<string, readonly IpAddress[]>
  /** Log lines, phrase and fields. */
  readonly logged: (readonly [string, object])[]
  /** Whose the next connections are. Root's at first. */
  uid: number
  /** The helper is stopped as by SIGTERM and started again on the same files. */
  restart(): Promise<void>
}

/** Starts a helper. Group `culvert` exists and holds alice (1000); bob (1001) is nobody. */
export async function startTestHelper(): Promise<TestHelper> {
  const root = await mkdtemp(join(tmpdir(), 'culvert-helper-'))
  const proc = join(root, 'proc')
  await mkdir(join(proc, 'sys/net/ipv6/conf/culvert0'), { recursive: true })
  await mkdir(join(proc, 'sys/net/ipv4/conf/all'), { recursive: true })
  await writeFile(join(proc, 'sys/net/ipv4/conf/all/src_valid_mark'), '0\n')
  const kernel = new MemoryKernel()
  kernel.entries.set('group culvert', 'culvert:x:998:carol,alice')
  kernel.entries.set('passwd 1000', 'alice:x:1000:1000::/home/alice:/bin/sh')
  kernel.entries.set('passwd 1001', 'bob:x:1001:1001::/home/bob:/bin/sh')
  kernel.entries.set('passwd 1002', 'carol:x:1002:1002::/home/carol:/bin/sh')
  const servers: MemoryServers = { answering: true, tunnels: [] }
  const names = new Map<string, readonly IpAddress[]>([['vpn.example.net', [parseIp('203.0.113.9')]]])
  const logged: (readonly [string, object])[] = []
  const log = (fields: object, phrase: string) => void logged.push([phrase, fields])
  const socket = join(root, 'run/helper.sock')
  const state = join(root, 'state')
  const start = () =>
    startDaemon({
      socket,
      state,
      group: 'culvert',
      proc,
      run: kernel.run,
      link: createLink({
        openTunnel: memoryTunnels(kernel, servers),
        resolve: (name) => {
          const addresses = names.get(name)
          if (addresses !== undefined) return Promise.resolve(addresses)
          return Promise.reject(new HelperError('failed', `the name servers know no address of "${name}"`))
        },
        pathMtu: () => Promise.resolve(1500),
        nameServers: () => Promise.resolve([parseIp('192.0.2.53')]),
        patience: 100,
        warn: (phrase, fields) => log(fields, phrase),
      }),
      peerCredentials: () => ({ uid: helper.uid }),
      log: { debug: log, info: log, warn: log, error: log },
    })
  let daemon = await start().catch(async (error: unknown) => {
    await rm(root, { recursive: true })
    throw error
  })
  const helper: TestHelper = {
    socket,
    state,
    kernel,
    servers,
    names,
    logged,
    uid: 0,
    async restart() {
      await daemon[Symbol.asyncDispose]()
      daemon = await start()
    },
    async [Symbol.asyncDispose]() {
      await daemon[Symbol.asyncDispose]()
      await rm(root, { recursive: true })
    },
  }
  return helper
}
