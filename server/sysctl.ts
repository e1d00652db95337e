/** Kernel settings, through the files of /proc/sys: sysctl(8) is not on every machine, and its dots clash with VLAN names. */
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { errnoOf, ServerError } from './error.ts'

/** A setting as its path below /proc/sys: `net/ipv4/ip_forward`. */
export type SysctlKey = `net/${string}`

export interface Sysctls {
  /** Null: this kernel has no such setting, e.g. because IPv6 is off. */
  read(key: SysctlKey): string | null
  /** @throws ServerError `no-privilege` with what to do. */
  write(key: SysctlKey, value: string): void
}

/** The kernel's settings. @param root /proc/sys, or a folder that stands for it. */
export function openSysctls(root = '/proc/sys'): Sysctls {
  return {
    read(key) {
      try {
        return readFileSync(join(root, key), 'utf8').trim()
      } catch (error) {
        if (errnoOf(error) === 'ENOENT') return null
        throw error
      }
    },
    write(key, value) {
      try {
        writeFileSync(join(root, key), value)
      } catch (cause) {
        const why = errnoOf(cause) === 'EROFS' ? '/proc/sys is read-only here' : String(cause)
        const sentence = `the kernel setting ${dotted(key)} could not be set to ${value} (${why}): set it on the host, as root`
        throw new ServerError('no-privilege', sentence, { cause })
      }
    },
  }
}

/** The name that people know: `net.ipv4.ip_forward`. */
export function dotted(key: SysctlKey): string {
  return key.replaceAll('/', '.')
}
