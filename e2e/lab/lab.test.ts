import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { addresses, names, openLab, type Lab } from '../lab.ts'

let lab: Lab
before(async () => {
  lab = await openLab()
})
after(() => lab[Symbol.asyncDispose]())

test('the website is blocked for the client, over both families, by name and by address', async () => {
  for (const url of [
    `http://${names.website}/`,
    `http://${addresses.website.v4}/`,
    `http://[${addresses.website.v6}]/`,
  ]) {
    assert.equal(
      await lab.client.run(['curl', '-s', '-o', '/dev/null', '-w', '%{http_code}', url]),
      '403',
      url,
    )
  }
})
