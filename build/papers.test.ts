import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, it } from 'node:test'

const root = join(import.meta.dirname, '..')
const read = (path: string) => readFileSync(join(root, path), 'utf8')

describe('SECURITY.md', () => {
  const cited = [...read('SECURITY.md').matchAll(/`([\w/.-]+\.ts)`: (.+?) \|$/gm)].map(([, file, name]) => ({
    file: file ?? '',
    name: name ?? '',
  }))

  it('names a test in every row of its tables', () => {
    const rows = read('SECURITY.md')
      .split('\n')
      .filter((line) => line.startsWith('| ') && !line.endsWith('shown by |'))
    assert.equal(cited.length, rows.length)
    assert.ok(rows.length > 30)
  })

  it('names only tests that exist', () => {
    const missing = cited.filter(
      ({ file, name }) => !existsSync(join(root, file)) || !read(file).replaceAll("\\'", "'").includes(name),
    )
    assert.deepEqual(missing, [])
  })
})

describe('the papers', () => {
  const papers = ['README.md', 'ARCHITECTURE.md', 'SECURITY.md', 'CONTRIBUTING.md', 'tunnel/PROTOCOL.md']

  it('name only files that exist', () => {
    const missing = papers.flatMap((paper) =>
      [...read(paper).matchAll(/`((?:tunnel|helper|server|build|e2e)\/[\w/.-]*[\w-]\.(?:ts|rs|sh|md))`/g)]
        .map(([, file]) => file ?? '')
        .filter((file) => !/NAME/.test(file) && !existsSync(join(root, file)))
        .map((file) => `${paper}: ${file}`),
    )
    assert.deepEqual(missing, [])
  })

  it('name the two commands that a newcomer needs', () => {
    const scripts = Object.keys((JSON.parse(read('package.json')) as { scripts: object }).scripts)
    const named = [...read('README.md').matchAll(/npm (?:run )?([a-z]+)/g)].map(([, script]) => script ?? '')
    assert.deepEqual(
      ['demo', 'test'].filter((script) => !named.includes(script)),
      [],
    )
    assert.deepEqual(
      named.filter((script) => !scripts.includes(script) && script !== 'install'),
      [],
    )
  })
})
