/**
 * Users and their devices, in one SQLite file. It is the truth: the command line writes it, whether or not a server
 * runs, and then tells the running one which device changed.
 */
import { closeSync, existsSync, openSync, rmSync } from 'node:fs'
import { DatabaseSync, type SQLOutputValue } from 'node:sqlite'
import {
  formatPublicKey,
  parseIp,
  publicKeyBytes,
  Secret,
  TunnelError,
  type IpAddress,
  type PublicKey,
} from '@culvert/tunnel/pure'
import { ServerError } from './error.ts'
import { unreadable } from './keys.ts'
import { addressesOf, FIRST_DEVICE_NUMBER, lastNumber, type Pool } from './pool.ts'

/** A device as the registry has it. Times are milliseconds since 1970. */
export interface Device {
  readonly user: string
  readonly publicKey: PublicKey
  readonly presharedKey: Secret | null
  readonly address4: IpAddress
  readonly address6: IpAddress
  readonly created: number
  /** The greatest TAI64N that a handshake of this device carried: older ones are replays. Null: none yet. */
  readonly lastTimestamp: Uint8Array | null
  readonly latestHandshake: number | null
  /** Since the device was added, at all servers of this registry: what it sent, and what was sent to it. */
  readonly rxBytes: number
  readonly txBytes: number
}

/** What is asked of a new device. */
export interface NewDevice {
  readonly user: string
  readonly publicKey: PublicKey
  readonly presharedKey: Secret | null
}

/** What a running server adds to a device's record. */
export interface Progress {
  readonly publicKey: PublicKey
  readonly lastTimestamp: Uint8Array | null
  readonly latestHandshake: number | null
  /** To be added to what is there. */
  readonly rxBytes: number
  readonly txBytes: number
}

/** Makes an empty registry of mode 0600, or none. @throws when the file exists already. */
export function createRegistry(path: string): void {
  // SQLite gives its journals the mode of the file itself.
  closeSync(openSync(path, 'wx', 0o600))
  try {
    using database = new DatabaseSync(path)
    database.exec(`PRAGMA application_id = ${APPLICATION_ID}`)
    migrate(database, path)
  } catch (error) {
    rmSync(path, { force: true })
    throw error
  }
}

/** Opens a registry that `init` made. @throws ServerError `not-initialised` or `bad-state`. */
export function openRegistry(path: string): Registry {
  if (!existsSync(path)) throw unreadable(path, Object.assign(new Error('no such file'), { code: 'ENOENT' }))
  const database = sound(path, () => new DatabaseSync(path, { timeout: BUSY_TIMEOUT }))
  try {
    sound(path, () => {
      const application = pragma(database, 'application_id')
      if (application !== APPLICATION_ID) {
        throw new ServerError(
          'bad-state',
          `${path} is not a registry of culvert-server: restore it from a backup`,
        )
      }
      migrate(database, path)
    })
    return new Registry(database, path)
  } catch (error) {
    database.close()
    throw error
  }
}

/** An open registry. Every change is on the disk when its method returns. */
export class Registry implements Disposable {
  readonly #database: DatabaseSync
  readonly #path: string

  constructor(database: DatabaseSync, path: string) {
    this.#database = database
    this.#path = path
  }

  /**
   * Adds a device, and its user if there is none of that name.
   * @param now milliseconds since 1970.
   * @throws ServerError `refused` when any user has a device of that public key, `pool-full`.
   */
  addDevice({ user, publicKey, presharedKey }: NewDevice, pool: Pool, now: number): Device {
    return this.#transaction(() => {
      const known = this.device(publicKey)
      if (known !== null) {
        throw new ServerError(
          'refused',
          `the public key ${publicKey} belongs to a device of "${known.user}" already`,
        )
      }
      this.#run('INSERT INTO user (name, created) VALUES (?, ?) ON CONFLICT (name) DO NOTHING', user, now)
      const owner = number(this.#one('SELECT id FROM user WHERE name = ?', user)?.['id'])
      const slot = this.#takeNumber(pool)
      const { address4, address6 } = addressesOf(pool, slot)
      this.#run(
        `INSERT INTO device (number, user, public_key, preshared_key, address4, address6, created)
         VALUES (?, ?, ?, ?, ?, ?, ?)`,
        slot,
        owner,
        publicKeyBytes(publicKey),
        presharedKey === null ? null : presharedKey.bytes(),
        address4,
        address6,
        now,
      )
      const added = this.device(publicKey)
      if (added === null) throw new Error('the device that was just added is not there')
      return added
    })
  }

  /** Removes a device; its addresses wait until the pool has gone round. False: there was none. */
  removeDevice(publicKey: PublicKey): boolean {
    return this.#transaction(() => {
      const row = this.#one(
        'DELETE FROM device WHERE public_key = ? RETURNING number',
        publicKeyBytes(publicKey),
      )
      if (row === undefined) return false
      this.#run('INSERT INTO released (number) VALUES (?)', number(row['number']))
      return true
    })
  }

  /** The device of that key, or null. */
  device(publicKey: PublicKey): Device | null {
    return sound(this.#path, () => {
      const row = this.#one(`${SELECT_DEVICE} WHERE public_key = ?`, publicKeyBytes(publicKey))
      return row === undefined ? null : deviceOf(row)
    })
  }

  /** Every device, by user and address. */
  devices(): readonly Device[] {
    return sound(this.#path, () =>
      this.#database.prepare(`${SELECT_DEVICE} ORDER BY user.name, number`).all().map(deviceOf),
    )
  }

  /** Adds what a running server saw, all in one transaction. Devices that are gone are passed over. */
  record(progress: readonly Progress[]): void {
    if (progress.length === 0) return
    this.#transaction(() => {
      // TAI64N is big-endian: the order of its bytes is the order of time. A stored one never goes back.
      const statement = this.#database.prepare(
        `UPDATE device SET
           last_timestamp = CASE WHEN ?1 IS NULL THEN last_timestamp ELSE max(coalesce(last_timestamp, ?1), ?1) END,
           latest_handshake = CASE WHEN ?2 IS NULL THEN latest_handshake ELSE max(coalesce(latest_handshake, ?2), ?2) END,
           rx_bytes = rx_bytes + ?3, tx_bytes = tx_bytes + ?4
         WHERE public_key = ?5`,
      )
      for (const { publicKey, lastTimestamp, latestHandshake, rxBytes, txBytes } of progress) {
        statement.run(lastTimestamp, latestHandshake, rxBytes, txBytes, publicKeyBytes(publicKey))
      }
    })
  }

  /** What `PRAGMA quick_check` finds wrong; null: nothing. Reads the whole file. */
  damage(): string | null {
    const row = sound(this.#path, () => this.#one('PRAGMA quick_check(1)'))
    const found = text(row?.['quick_check'])
    return found === 'ok' ? null : found
  }

  [Symbol.dispose](): void {
    this.#database.close()
  }

  /**
   * The lowest number that was never given out; when the pool has gone round, the one that was released longest ago, so
   * that a packet for the device that had it finds nobody for as long as can be.
   */
  #takeNumber(pool: Pool): number {
    const row = this.#one(
      'SELECT max(number) AS highest FROM (SELECT number FROM device UNION ALL SELECT number FROM released)',
    )
    const highest = row?.['highest']
    const next = typeof highest === 'number' ? highest + 1 : FIRST_DEVICE_NUMBER
    if (next <= lastNumber(pool)) return next
    const oldest = this.#one(
      'DELETE FROM released WHERE at = (SELECT min(at) FROM released WHERE number <= ?) RETURNING number',
      lastNumber(pool),
    )
    if (oldest === undefined) {
      throw new ServerError(
        'pool-full',
        `every address of ${pool.pool4} is given out: remove devices that are not in use`,
      )
    }
    return number(oldest['number'])
  }

  #transaction<T>(body: () => T): T {
    return sound(this.#path, () => {
      this.#database.exec('BEGIN IMMEDIATE')
      try {
        const result = body()
        this.#database.exec('COMMIT')
        return result
      } catch (error) {
        // A full disk rolls back by itself, and then there is nothing to roll back.
        if (this.#database.isTransaction) this.#database.exec('ROLLBACK')
        throw error
      }
    })
  }

  #one(sql: string, ...values: readonly (string | number | Uint8Array | null)[]): Row | undefined {
    return sound(this.#path, () => this.#database.prepare(sql).get(...values))
  }

  #run(sql: string, ...values: readonly (string | number | Uint8Array | null)[]): void {
    this.#database.prepare(sql).run(...values)
  }
}

type Row = Record<string, SQLOutputValue>

/** Brings the tables to the newest version, one transaction a step. */
function migrate(database: DatabaseSync, path: string): void {
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
  const version = pragma(database, 'user_version')
  if (version > MIGRATIONS.length) {
    throw new ServerError(
      'bad-state',
      `${path} was written by a newer culvert-server (format ${version}, this one knows ${MIGRATIONS.length}): install that version`,
    )
  }
  for (const [i, sql] of MIGRATIONS.entries()) {
    if (i < version) continue
    database.exec(`BEGIN IMMEDIATE; ${sql} PRAGMA user_version = ${i + 1}; COMMIT`)
  }
}

/** Does something with the database; what SQLite or a parser says about a damaged or busy file becomes a sentence. */
function sound<T>(path: string, body: () => T): T {
  try {
    return body()
  } catch (cause) {
    if (cause instanceof TunnelError) {
      throw new ServerError('bad-state', `${path} is damaged: ${cause.message}; restore it from a backup`, {
        cause,
      })
    }
    const code = cause instanceof Error && 'errcode' in cause ? Number(cause.errcode) & 0xff : null
    if (code === null) throw cause
    switch (code) {
      case SQLITE_CORRUPT:
      case SQLITE_NOTADB:
        throw new ServerError('bad-state', `${path} is damaged: restore it from a backup`, { cause })
      case SQLITE_BUSY:
        throw new ServerError('bad-state', `${path} is locked by another program: try again`, { cause })
      case SQLITE_CANTOPEN:
      case SQLITE_READONLY:
      case SQLITE_PERM:
        throw new ServerError('no-privilege', `${path} may be opened by root only: run this with sudo`, {
          cause,
        })
      default:
        throw new ServerError(
          'bad-state',
          `${path}: ${cause instanceof Error ? cause.message : String(cause)}`,
          {
            cause,
          },
        )
    }
  }
}

function pragma(database: DatabaseSync, name: string): number {
  return number(database.prepare(`PRAGMA ${name}`).get()?.[name])
}

function deviceOf(row: Row): Device {
  const preshared = row['preshared_key']
  const timestamp = row['last_timestamp']
  return {
    user: text(row['name']),
    publicKey: formatPublicKey(bytes(row['public_key'])),
    presharedKey: preshared === null ? null : Secret.of(Uint8Array.from(bytes(preshared))),
    address4: parseIp(text(row['address4'])),
    address6: parseIp(text(row['address6'])),
    created: number(row['created']),
    lastTimestamp: timestamp === null ? null : bytes(timestamp),
    latestHandshake: row['latest_handshake'] === null ? null : number(row['latest_handshake']),
    rxBytes: number(row['rx_bytes']),
    txBytes: number(row['tx_bytes']),
  }
}

// The tables are STRICT, so a column of another type is a bug of ours, not a state of the file.
function text(value: SQLOutputValue | undefined): string {
  if (typeof value !== 'string') throw new TypeError('the registry gave no text')
  return value
}

function number(value: SQLOutputValue | undefined): number {
  if (typeof value !== 'number') throw new TypeError('the registry gave no number')
  return value
}

function bytes(value: SQLOutputValue | undefined): Uint8Array {
  if (!(value instanceof Uint8Array)) throw new TypeError('the registry gave no bytes')
  return value
}

const SELECT_DEVICE = `SELECT user.name, public_key, preshared_key, address4, address6, device.created,
  last_timestamp, latest_handshake, rx_bytes, tx_bytes FROM device JOIN user ON user.id = device.user`

/**
 * One step a version, never changed once released. `number` is the device's number in the pool; `released` holds those
 * of removed devices, oldest first.
 */
const MIGRATIONS: readonly string[] = [
  `CREATE TABLE user (
     id INTEGER PRIMARY KEY,
     name TEXT NOT NULL COLLATE NOCASE UNIQUE,
     created INTEGER NOT NULL
   ) STRICT;
   CREATE TABLE device (
     number INTEGER PRIMARY KEY CHECK (number >= 2),
     user INTEGER NOT NULL REFERENCES user (id),
     public_key BLOB NOT NULL UNIQUE CHECK (length(public_key) = 32),
     preshared_key BLOB CHECK (length(preshared_key) = 32),
     address4 TEXT NOT NULL UNIQUE,
     address6 TEXT NOT NULL UNIQUE,
     created INTEGER NOT NULL,
     last_timestamp BLOB CHECK (length(last_timestamp) = 12),
     latest_handshake INTEGER,
     rx_bytes INTEGER NOT NULL DEFAULT 0,
     tx_bytes INTEGER NOT NULL DEFAULT 0
   ) STRICT;
   CREATE INDEX device_user ON device (user);
   CREATE TABLE released (
     at INTEGER PRIMARY KEY AUTOINCREMENT,
     number INTEGER NOT NULL UNIQUE
   ) STRICT;`,
]

/** "Culv": tells our file from any other SQLite database. */
const APPLICATION_ID = 0x43756c76
/** Milliseconds to wait for another process's write. */
const BUSY_TIMEOUT = 5000

// Result codes of SQLite (sqlite.org/rescode.html).
const SQLITE_PERM = 3
const SQLITE_BUSY = 5
const SQLITE_READONLY = 8
const SQLITE_CORRUPT = 11
const SQLITE_CANTOPEN = 14
const SQLITE_NOTADB = 26
