import assert from 'node:assert/strict'
import { execFileSync, spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'
import {
  FWMARK,
  INTERFACE,
  NFT_TABLE,
  ROUTE_TABLE,
  RULE_PRIORITIES,
  SOCKET_PATH,
  SRC_VALID_MARK,
  STATE_DIRECTORY,
} from './host/names.ts'
import { formatTarget, noTarget } from './target.ts'

const path = join(import.meta.dirname, 'rescue.sh')
const script = readFileSync(path, 'utf8')

describe('rescue.sh', () => {
  it('knows us by the same names as the helper does', () => {
    const named = Object.fromEntries(
      [...script.matchAll(/^([A-Z][A-Z_]+|state|socket)=(\S+)$/gm)].map(([, name, value]) => [name, value]),
    )
    assert.deepEqual(named, {
      INTERFACE,
      FWMARK: `0x${FWMARK.toString(16)}`,
      ROUTE_TABLE: `${ROUTE_TABLE}`,
      RULE_MAIN: `${RULE_PRIORITIES.main}`,
      RULE_TUNNEL: `${RULE_PRIORITIES.tunnel}`,
      NFT_TABLE,
      SRC_VALID_MARK,
      UNIT: 'culvert-helper.service',
      PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
      state: STATE_DIRECTORY,
      socket: `\${CULVERT_SOCKET:-${SOCKET_PATH}}`,
    })
  })

  it('leaves a target that wants nothing, as the helper would write it', () => {
    const format = /new=\$\(printf '([^']+)'\)/.exec(script)?.[1]
    assert.equal(`${format?.replaceAll('\\n', '\n')}\n`, formatTarget(noTarget))
  })

  it('is sh, and nothing else: dash reads it', () => {
    execFileSync('/bin/sh', ['-n', path])
    assert.match(script, /^#!\/bin\/sh\n/)
  })

  it('tells how it is used, and refuses what it does not know, before it touches anything', () => {
    const outcomes = [['--help'], ['--frobnicate'], ['--state']].map((args) => {
      const { status, stdout, stderr } = spawnSync('/bin/sh', [path, ...args], { encoding: 'utf8' })
      return [status, stdout.split('\n')[0], stderr.trim()]
    })
    assert.deepEqual(outcomes, [
      [0, 'Usage: culvert rescue [--state DIR]', ''],
      [2, '', 'culvert rescue: there is no "--frobnicate": see culvert rescue --help'],
      [2, '', 'culvert rescue: --state needs a directory'],
    ])
  })
})
