/** What the machine must have for the lab, found out before anything is made, and said in one sentence each. */
import { accessSync, constants, existsSync } from 'node:fs'
import { exec } from './program.ts'

/** @throws Error that names everything that is missing and what to do. */
export async function requireLab(): Promise<void> {
  if (process.getuid?.() !== 0)
    throw new Error('the lab makes network namespaces and needs root: run it with sudo')
  const missing = Object.entries(programs).filter(([program]) => !installed(program))
  if (missing.length > 0) {
    const packages = [...new Set(missing.map(([, name]) => name))]
    throw new Error(
      `the lab needs ${missing.map(([program]) => program).join(', ')}: apt-get install ${packages.join(' ')}`,
    )
  }
  if (!existsSync('/dev/net/tun'))
    throw new Error('there is no /dev/net/tun: load the module with "modprobe tun"')
  const { status, stderr } = await exec(['unshare', '--net', '--mount', '--pid', '--fork', 'true'])
  if (status !== 0) {
    throw new Error(`this kernel, or the container around it, gives no network namespaces (${stderr.trim()})`)
  }
}

/** Whether a program is on the lab's PATH. */
export function installed(program: string): boolean {
  return ['/usr/local/sbin', '/usr/local/bin', '/usr/sbin', '/usr/bin', '/sbin', '/bin'].some((folder) => {
    try {
      accessSync(`${folder}/${program}`, constants.X_OK)
      return true
    } catch {
      return false
    }
  })
}

/** Program: Debian package. */
const programs: Readonly<Record<string, string>> = {
  unshare: 'util-linux',
  nsenter: 'util-linux',
  setpriv: 'util-linux',
  ip: 'iproute2',
  sysctl: 'procps',
  nft: 'nftables',
  debootstrap: 'debootstrap',
  curl: 'curl',
  ping: 'iputils-ping',
  tcpdump: 'tcpdump',
}
