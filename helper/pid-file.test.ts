import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, describe, it } from 'node:test'
import { claim } from './pid-file.ts'

const directory = await mkdtemp(join(tmpdir(), 'culvert-pid-'))
after(() => rm(directory, { recursive: true }))
const path = join(directory, 'helper.pid')

describe('claim', () => {
  it('holds our process id until it is given up', async () => {
    {
      await using stack = new AsyncDisposableStack()
      stack.use(await claim(path))
      assert.equal(await readFile(path, 'utf8'), `${process.pid}\n`)
    }
    assert.deepEqual(await readdir(directory), [])
  })

  it('is refused while a helper runs', async () => {
    // The last word makes it look like one.
    const helper = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)', 'culvert-helper'])
    try {
      await new Promise((resolve) => helper.once('spawn', resolve))
      await writeFile(path, `${helper.pid}\n`)
      await assert.rejects(claim(path), {
        code: 'in-use',
        message: `a helper is running already, as process ${helper.pid}: stop it first`,
      })
    } finally {
      helper.kill()
      await rm(path)
    }
  })

  it('is had after a helper that was killed, whoever has its number now', async () => {
    for (const left of [`${process.ppid}\n`, '999999999\n', '', 'x']) {
      await writeFile(path, left)
      await using stack = new AsyncDisposableStack()
      stack.use(await claim(path))
      assert.equal(await readFile(path, 'utf8'), `${process.pid}\n`)
    }
  })
})
