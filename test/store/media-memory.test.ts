import { expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

/** Far below the size of the film, far above the noise of a garbage collector. */
const ALLOWED_GROWTH = 80e6

test('a film of 200 MB passes through a few chunks of memory, both in and out', async () => {
  const dataDir = await mkdtemp(join(tmpdir(), 'babychain-memory-'))
  const child = Bun.spawn([process.execPath, '-e', PROGRAM, dataDir], { stdout: 'pipe', stderr: 'inherit' })
  const told = JSON.parse(await new Response(child.stdout).text())
  await rm(dataDir, { recursive: true })
  expect(told).toMatchObject({ ok: true, bytes: told.sent, read: told.sent })
  expect(told.sent).toBeGreaterThan(200e6)
  expect(told.growth).toBeLessThan(ALLOWED_GROWTH)
}, 30_000)

const here = (path: string): string => JSON.stringify(join(import.meta.dir, path))

/** Runs alone, so that only this film is in its memory. */
const PROGRAM = `
  const { openMedia } = await import(${here('../../src/store/media/media.ts')})
  const { MemoryRows } = await import(${here('../support/memory-rows.ts')})
  const { sampleFilm } = await import(${here('../support/sample-media.ts')})
  const rows = new MemoryRows()
  const media = await openMedia({ dataDir: process.argv.at(-1), root: 'disk', rows })
  const payload = 200e6
  const head = Buffer.from(sampleFilm({ payload: 0 }))
  head.writeUInt32BE(payload + 8, head.length - 8)
  let left = payload
  let sent = 0
  const push = (to, bytes) => { sent += bytes.length; to.enqueue(bytes) }
  const stream = new ReadableStream({
    start(to) { push(to, head) },
    pull(to) {
      if (left === 0) return to.close()
      const part = new Uint8Array(Math.min(left, 65_536))
      left -= part.length
      push(to, part)
    },
  })
  Bun.gc(true)
  const before = process.memoryUsage().rss
  let peak = 0
  const look = () => { peak = Math.max(peak, process.memoryUsage().rss) }
  const timer = setInterval(look, 5)
  const id = '0197a1b2-0000-7000-8000-000000001234'
  const kept = await media.keep({ id, kind: 'video', stream, mime: null, length: null })
  await rows.addMedia({ ...kept.output, runId: null, stepId: null, apiKeyId: 'k', createdAt: 1 })
  let read = 0
  for await (const chunk of await media.open(id)) { read += chunk.length; look() }
  clearInterval(timer)
  console.log(JSON.stringify({ ok: kept.ok, bytes: kept.output?.bytes, sent, read, growth: peak - before }))
`
