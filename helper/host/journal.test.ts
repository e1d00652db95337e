import assert from 'node:assert/strict'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import fc from 'fast-check'
import { Journal, parseJournal, type JournalEntry } from './journal.ts'

const directory = await mkdtemp(join(tmpdir(), 'culvert-journal-'))
after(() => rm(directory, { recursive: true }))
let number = 0
const fresh = () => join(directory, `journal-${number++}`)

const sysctl: JournalEntry = {
  tag: 'sysctl',
  key: 'net.ipv4.conf.all.src_valid_mark',
  before: '0',
  ours: '1',
}
const file: JournalEntry = { tag: 'file', path: '/etc/resolv.conf', copy: '/var/lib/culvert/resolv.conf' }
const rule: JournalEntry = { tag: 'rule', family: 6, priority: 27640 }

async function open(path: string, boot = 'boot-1') {
  const damaged: number[] = []
  const journal = await Journal.open(path, boot, (line) => damaged.push(line))
  return { journal, damaged, entries: journal.entries() }
}

describe('Journal', () => {
  it('is on the disk, for root alone, before record resolves', async () => {
    const path = fresh()
    const { journal } = await open(path)
    await journal.record([rule, sysctl])
    assert.equal(
      await readFile(path, 'utf8'),
      'culvert-journal 1 boot-1\nrule 6 27640\nsysctl net.ipv4.conf.all.src_valid_mark 0 1\n',
    )
    assert.equal((await stat(path)).mode & 0o777, 0o600)
  })

  it('is read again in the same boot as it was written', async () => {
    const path = fresh()
    const { journal } = await open(path)
    await journal.record([rule, sysctl, file])
    assert.deepEqual((await open(path)).entries, [rule, sysctl, file])
  })

  it('forgets what the kernel forgot in a reboot, and keeps files', async () => {
    const path = fresh()
    const { journal } = await open(path)
    await journal.record([rule, sysctl, file])
    assert.deepEqual((await open(path, 'boot-2')).entries, [file])
  })

  it('writes nothing twice, and is gone when all is undone', async () => {
    const path = fresh()
    const { journal } = await open(path)
    await journal.record([rule])
    const before = await stat(path)
    await journal.record([rule])
    assert.equal((await stat(path)).ino, before.ino)
    await journal.forget(() => true)
    assert.equal((await readdir(directory)).includes(path.split('/').at(-1) ?? ''), false)
    assert.deepEqual((await open(path)).entries, [])
  })

  it('undoes what can be read of a damaged file, and tells which lines cannot', async () => {
    const path = fresh()
    await writeFile(path, 'culvert-journal 1 boot-1\nrule 6 27640\nrule 5 1\n\nnonsense\nrule 6 276')
    const { entries, damaged } = await open(path)
    assert.deepEqual({ entries, damaged }, { entries: [rule], damaged: [3, 4, 5, 6] })
  })

  it('takes the entries of a file without a head as this boot’s', async () => {
    const path = fresh()
    await writeFile(path, 'rule 6 27640\n')
    assert.deepEqual((await open(path)).entries, [rule])
  })
})

describe('parseJournal', () => {
  it('reads any text without a failure, and no key that could leave /proc/sys', () => {
    const word = fc.constantFrom(
      'sysctl',
      'rule',
      'file',
      'table',
      '4',
      '6',
      '1',
      'inet',
      'a.b',
      '../etc',
      '/x',
      '',
    )
    const text = fc.oneof(
      fc.string(),
      fc.array(fc.array(word).map((words) => words.join(' '))).map((l) => l.join('\n')),
    )
    fc.assert(
      fc.property(text, (text) => {
        for (const entry of parseJournal(text).entries) {
          if (entry.tag === 'sysctl') assert.match(entry.key, /^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$/)
        }
      }),
    )
  })
})
