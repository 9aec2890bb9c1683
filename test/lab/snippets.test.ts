/** The printed shell code, where its body is as large as a picture that was pasted into it. */
import { expect, test } from 'bun:test'
import { snippet } from '../../src/lab/snippets.ts'

test.each([
  ['small', 1_000],
  ['beneath the limit of an argument, in letters of three bytes', 40_000],
  ['beyond what an argument may hold', 230_000],
])('the printed curl sends a body that is %s as it is', async (_, length) => {
  const got = Promise.withResolvers<unknown>()
  const server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    async fetch(request) {
      got.resolve(await request.json())
      return new Response('{}')
    },
  })
  const body = { input: { words: `It's JSON\nJSON\n$HOME \\ ${'€'.repeat(length)}` } }
  const code = snippet({ does: 'create', slug: 'chain101', body }, 'curl', server.url.origin)
  const child = Bun.spawn(['bash'], { stdin: new Blob([code]), env: { PATH: process.env.PATH ?? '' } })
  expect(await child.exited).toBe(0)
  expect(await got.promise).toEqual(body)
  await server.stop(true)
})
