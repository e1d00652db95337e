import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, it } from 'node:test'

import { findCargo, NativeBuildError, sourceHash } from './native.ts'

describe('the build of the native part', () => {
  it('depends on the names and contents of the sources and on nothing else', async () => {
    await using folder = await temporaryFolder()
    const { path } = folder
    const write = async (file: string, content: string) => {
      await mkdir(join(path, file, '..'), { recursive: true })
      await writeFile(join(path, file), content)
      return sourceHash(path)
    }
    const hashes = [
      await write('Cargo.toml', '[package]'),
      await write('Cargo.lock', ''),
      await write('src/lib.rs', 'fn a() {}'),
      await write('src/deep/b.rs', ''),
      await write('build.rs', ''),
      await write('.cargo/config.toml', ''),
      await write('src/lib.rs', 'fn b() {}'),
    ]
    assert.equal(new Set(hashes).size, hashes.length)
    const last = hashes.at(-1)
    for (const other of ['index.ts', 'target/release/x', '.built', 'culvert.node']) {
      assert.equal(await write(other, 'changed'), last)
    }
  })

  it('takes the first cargo that is new enough', async () => {
    await using folder = await temporaryFolder()
    const { path } = folder
    const old = await fakeCargo(path, 'old', 'cargo 1.66.0')
    const broken = await fakeCargo(path, 'broken', 'no toolchain is configured')
    const good = await fakeCargo(path, 'good', 'cargo 1.88.0 (873a06493 2025-05-10)')
    const newer = await fakeCargo(path, 'newer', 'cargo 2.0.0-nightly')
    assert.deepEqual(await findCargo([join(path, 'none'), broken, old, good, newer]), {
      path: good,
      version: [1, 88],
    })
    assert.equal((await findCargo([newer])).path, newer)
  })

  it('names what it found when nothing is new enough', async () => {
    await using folder = await temporaryFolder()
    const old = await fakeCargo(folder.path, 'old', 'cargo 1.87.3')
    await assert.rejects(findCargo([old]), (error) => {
      assert.ok(error instanceof NativeBuildError)
      assert.equal(
        error.message,
        `The native part needs cargo 1.88 or later (${old} is 1.87): run npm run setup, which installs Debian's cargo-web.`,
      )
      return true
    })
    await assert.rejects(findCargo([]), /\(there is none\)/)
  })
})

async function temporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'culvert-native-'))
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true }) }
}

/** A program that says of itself what `cargo --version` would. */
async function fakeCargo(folder: string, name: string, says: string): Promise<string> {
  const path = join(folder, name)
  await writeFile(path, `#!/bin/sh\necho '${says}'\n`)
  await chmod(path, 0o755)
  return path
}
