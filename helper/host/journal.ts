/**
 * What we changed on the host and have not put back. Every change is written down, and is on the disk, before it is made,
 * so that after a crash `recover()` or `rescue.sh` can undo it. One change a line, words between single spaces, so that
 * sh reads it as easily as we do:
 *
 *   culvert-journal 1 9c0a3f5e-…          version and boot id
 *   table inet culvert                    an nftables table
 *   rule 4 27640                          a policy rule: family and priority
 *   routes 4 1668639862                   a route table: family and number
 *   link culvert0
 *   sysctl net.ipv4.conf.all.x 0 1        key, what it was, what we set
 *   file /etc/resolv.conf /var/lib/x      a file, and the copy of what it was
 *
 * What the kernel holds is gone after a reboot, so those lines count only in the boot that they were written in. The file
 * is only ever replaced whole. A last line without its line end is nobody's: it is told as damaged, like any other that
 * says nothing we know, and the rest is undone all the same.
 */
import { randomBytes } from 'node:crypto'
import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Family } from '@culvert/tunnel/pure'

/** One change of the host. */
export type JournalEntry =
  | { readonly tag: 'table'; readonly family: 'inet'; readonly name: string }
  | { readonly tag: 'rule'; readonly family: Family; readonly priority: number }
  | { readonly tag: 'routes'; readonly family: Family; readonly table: number }
  | { readonly tag: 'link'; readonly name: string }
  | { readonly tag: 'sysctl'; readonly key: string; readonly before: string; readonly ours: string }
  | { readonly tag: 'file'; readonly path: string; readonly copy: string }

/** What a journal's text says. */
export interface ParsedJournal {
  /** Null: the first line is not a journal's, so the boot is not known. */
  readonly bootId: string | null
  readonly entries: readonly JournalEntry[]
  /** Numbers of lines, from 1, that say nothing we know. */
  readonly damaged: readonly number[]
}

/** The journal of one state directory, and its only writer. */
export class Journal {
  readonly #path: string
  readonly #bootId: string
  #entries: readonly JournalEntry[]

  private constructor(path: string, bootId: string, entries: readonly JournalEntry[]) {
    this.#path = path
    this.#bootId = bootId
    this.#entries = entries
  }

  /**
   * Reads the journal; none is an empty one. Entries of the kernel's from an earlier boot are left out, and what is damaged
   * is told through `damaged`, since the rest must be undone all the same.
   */
  static async open(path: string, bootId: string, damaged: (line: number) => void): Promise<Journal> {
    const parsed = parseJournal(await readText(path))
    for (const line of parsed.damaged) damaged(line)
    // Without a boot id the kernel's entries are kept: to undo what is not there does nothing.
    const earlier = parsed.bootId !== null && parsed.bootId !== bootId
    const entries = parsed.entries.filter((entry) => !earlier || entry.tag === 'file')
    return new Journal(path, bootId, entries)
  }

  /** What is to be undone, in the order in which it was done. */
  entries(): readonly JournalEntry[] {
    return this.#entries
  }

  /** Writes changes down; resolves when they are on the disk, and only then may they be made. */
  async record(changes: readonly JournalEntry[]): Promise<void> {
    const known = new Set(this.#entries.map(formatEntry))
    const fresh = changes.filter((change) => !known.has(formatEntry(change)))
    if (fresh.length > 0) await this.#write([...this.#entries, ...fresh])
  }

  /** Forgets changes that have been undone. With the last of them the file goes. */
  async forget(undone: (entry: JournalEntry) => boolean): Promise<void> {
    const left = this.#entries.filter((entry) => !undone(entry))
    if (left.length > 0) {
      if (left.length < this.#entries.length) await this.#write(left)
      return
    }
    // Also when there was no entry: a damaged journal of which nothing could be read is still a file.
    await rm(this.#path, { force: true })
    await syncDirectory(dirname(this.#path))
    this.#entries = []
  }

  /** Replaces the file whole, so that a torn write leaves the journal as it was. */
  async #write(entries: readonly JournalEntry[]): Promise<void> {
    const text = [`${MAGIC} ${VERSION} ${this.#bootId}`, ...entries.map(formatEntry), ''].join('\n')
    await writeDurably(this.#path, text)
    this.#entries = entries
  }
}

/** Reads a journal's text. Pure; any text will do. */
export function parseJournal(text: string): ParsedJournal {
  const lines = text.split('\n')
  const unfinished = lines.pop() ?? '' // after the last line end: nothing, unless the file was cut
  const [magic, version, bootId] = lines[0]?.split(' ') ?? []
  const headed = magic === MAGIC && version === VERSION && bootId !== undefined && bootId !== ''
  const entries: JournalEntry[] = []
  const damaged: number[] = []
  for (const [i, line] of lines.entries()) {
    if (i === 0 && headed) continue
    const entry = parseEntry(line)
    if (entry === null) damaged.push(i + 1)
    else entries.push(entry)
  }
  if (unfinished !== '') damaged.push(lines.length + 1)
  return { bootId: headed ? bootId : null, entries, damaged }
}

/** Writes a file so that after a crash it is either what it was or what it is to be, never half: mode 0600. */
export async function writeDurably(path: string, text: string): Promise<void> {
  const temporary = `${path}.${randomBytes(4).toString('hex')}.new`
  try {
    const file = await open(temporary, 'wx', 0o600)
    try {
      await file.writeFile(text)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, path)
  } catch (error) {
    await rm(temporary, { force: true })
    throw error
  }
  await syncDirectory(dirname(path))
}

/** The text of a file; an empty one when there is none. */
export async function readText(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return '' // node:fs throws nothing else
    throw error
  }
}

/** A rename is on the disk when its directory is (fsync(2)). */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}

function formatEntry(entry: JournalEntry): string {
  switch (entry.tag) {
    case 'table':
      return `table ${entry.family} ${entry.name}`
    case 'rule':
      return `rule ${entry.family} ${entry.priority}`
    case 'routes':
      return `routes ${entry.family} ${entry.table}`
    case 'link':
      return `link ${entry.name}`
    case 'sysctl':
      return `sysctl ${entry.key} ${entry.before} ${entry.ours}`
    case 'file':
      return `file ${entry.path} ${entry.copy}`
  }
}

function parseEntry(line: string): JournalEntry | null {
  const [tag = '', a = '', b = '', c = '', ...more] = line.split(' ')
  const words = [a, b, c].filter((word) => word !== '').length
  if (more.length > 0 || line.split(' ').length !== words + 1) return null
  const family = a === '4' ? 4 : a === '6' ? 6 : null
  const number = /^\d{1,10}$/.test(b) ? Number(b) : null
  if (tag === 'table' && words === 2 && a === 'inet' && NAME.test(b)) return { tag, family: 'inet', name: b }
  if (tag === 'rule' && words === 2 && family !== null && number !== null)
    return { tag, family, priority: number }
  if (tag === 'routes' && words === 2 && family !== null && number !== null)
    return { tag, family, table: number }
  if (tag === 'link' && words === 1 && NAME.test(a)) return { tag, name: a }
  if (tag === 'sysctl' && words === 3 && SYSCTL.test(a) && NUMBER.test(b) && NUMBER.test(c))
    return { tag, key: a, before: b, ours: c }
  if (tag === 'file' && words === 2 && a.startsWith('/') && b.startsWith('/'))
    return { tag, path: a, copy: b }
  return null
}

const MAGIC = 'culvert-journal'
const VERSION = '1'
const NAME = /^[A-Za-z0-9_-]{1,15}$/
/** Dotted words only: nothing that could leave /proc/sys. */
const SYSCTL = /^[a-z0-9_-]+(?:\.[a-zA-Z0-9_-]+)+$/
const NUMBER = /^-?\d{1,10}$/
