/** The vault in a bucket: where files lie in it, how many are on their way at once, and what is not asked again. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { s3Vault } from '../../src/store/media/s3.ts'

const ID = '0192f0c1-c2d3-7a54-b7d3-a1b2c3d4abcd'
const ACCESS = { accessKeyId: 'id', secretAccessKey: 'secret', region: 'eu-1' }

/** A bucket that answers when it is told to. */
let server: ReturnType<typeof Bun.serve>
let held: (() => void)[]
let paths: string[]
let answer: () => Response | Promise<Response>
beforeEach(() => {
  held = []
  paths = []
  server = Bun.serve({
    port: 0,
    hostname: '127.0.0.1',
    async fetch(request) {
      const { pathname } = new URL(request.url)
      if (pathname === '/') return new Response('here')
      paths.push(`${request.method} ${pathname}`)
      await request.arrayBuffer()
      return answer()
    },
  })
})
afterEach(() => server.stop(true))

const waits: number[] = []
const vaultAt = (prefix: string) =>
  s3Vault(
    { bucket: 'outputs', prefix },
    { ...ACCESS, endpoint: `http://127.0.0.1:${server.port}`, wait: async ms => void waits.push(ms) },
  )

test('a file lies below the prefix, or in the bucket itself where there is none', async () => {
  const place = (prefix: string) => vaultAt(prefix).place(ID, 'png')
  expect([place('a/b'), place('')]).toEqual([`s3://outputs/a/b/ab/cd/${ID}.png`, `s3://outputs/ab/cd/${ID}.png`])
  answer = () => new Response(null, { headers: { etag: '"x"' } })
  const bare = vaultAt('')
  await bare.put(new Uint8Array(9), bare.place(ID, 'png'), 'image/png')
  expect(paths).toEqual([`PUT /outputs/ab/cd/${ID}.png`])
  expect([bare.owns(place('a/b')), bare.owns(`s3://other/${ID}.png`), bare.owns(`ab/${ID}.png`)]).toEqual([
    true,
    false,
    false,
  ])
})

test('eight small files are on their way at once, and the next takes the place of the first that is there', async () => {
  const full = Promise.withResolvers<void>()
  const taken = () => new Response(null, { headers: { etag: '"x"' } })
  answer = () =>
    new Promise(resolve => {
      held.push(() => resolve(taken()))
      if (held.length === 8) full.resolve()
    })
  const vault = vaultAt('a')
  const put = (i: number) => vault.put(new Uint8Array(9), `s3://outputs/a/${i}.png`, 'image/png')
  const puts = Array.from({ length: 20 }, (_, i) => put(i))
  await full.promise
  // A ninth would have left with them: it has come by the time that others have come and gone.
  for (let i = 0; i < 20; i++) await fetch(server.url)
  expect(held).toHaveLength(8)
  answer = taken
  for (const release of held) release()
  await Promise.all(puts)
  expect(paths).toHaveLength(20)
})

test('what another try cannot mend is not tried again, and says what to do', async () => {
  const refusal = (code: string) => new Response(`<Error><Code>${code}</Code></Error>`, { status: 403 })
  for (const [code, words] of [
    ['AccessDenied', 'the key may not do this'],
    ['NoSuchBucket', 'there is no such bucket'],
    ['SignatureDoesNotMatch', 'the secret key is wrong'],
  ] as const) {
    answer = () => refusal(code)
    paths = []
    await expect(vaultAt('a').remove(`s3://outputs/a/${ID}.png`)).rejects.toThrow(words)
    expect([code, paths.length, waits]).toEqual([code, 1, []])
  }
  answer = () => refusal('SlowDown')
  await expect(vaultAt('a').remove(`s3://outputs/a/${ID}.png`)).rejects.toThrow('SlowDown')
  expect([paths.length, waits]).toEqual([4 + 1, [200, 800, 2_400]])
})
