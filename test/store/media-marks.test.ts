/** The log of marks: what a crash leaves of it, and what it leaves on the disk. */
import { afterEach, beforeEach, expect, test } from 'bun:test'
import { mkdtemp, readdir, rm, symlink } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MarkBook } from '../../src/store/media/marks.ts'

const LATER = Number.MAX_SAFE_INTEGER
let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'babychain-marks-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const book = (now = () => 1_000): MarkBook => new MarkBook(dir, now)
const places = async (of: MarkBook, time = LATER): Promise<string[]> =>
  (await of.olderThan(time)).map(mark => mark.location).sort()

test('marks that are left at once are all there after a crash, and their log goes with the last of them', async () => {
  const first = book()
  await Promise.all(Array.from({ length: 50 }, (_, i) => first.leave(`ab/file-${i}.png`)))
  const next = book()
  const found = await next.olderThan(LATER)
  expect(new Set(found.map(mark => mark.id)).size).toBe(50)
  for (const mark of found.slice(1)) await next.wipe(mark)
  expect(await readdir(dir)).toHaveLength(1)
  await next.wipe(found[0]!)
  expect(await readdir(dir)).toEqual([])
})

test('a mark of this process is old by its own time, and gone when it is wiped', async () => {
  const marks = book(() => 5_000)
  const mark = await marks.leave('ab/one.png')
  expect(await places(marks, 5_000)).toEqual([])
  expect(await places(marks, 5_001)).toEqual(['ab/one.png'])
  await marks.wipe(mark)
  expect(await places(marks)).toEqual([])
  expect(await readdir(dir)).toEqual([])
})

test('a long log is begun anew with what is still marked', async () => {
  const marks = book()
  await marks.leave('ab/stays.png')
  const name = 'x'.repeat(200_000)
  for (let i = 0; i < 8; i++) await marks.wipe(await marks.leave(`ab/${i}${name}.png`))
  expect(await readdir(dir)).toHaveLength(1)
  const left = await places(book())
  expect(left).toContain('ab/stays.png')
  expect(left.length).toBeLessThan(5)
})

test('a disk that refuses is told to whoever leaves a mark, and the next one is taken', async () => {
  const marks = book()
  await rm(dir, { recursive: true })
  await expect(marks.leave('ab/one.png')).rejects.toThrow()
  await Bun.write(join(dir, '.keep'), '')
  await rm(join(dir, '.keep'))
  await marks.leave('ab/two.png')
  expect(await places(book())).toContain('ab/two.png')
})

test('a log that is wiped while old marks are looked for is no fault', async () => {
  const before = book()
  await before.leave('ab/one.png')
  const marks = book()
  // A dangling link is a name that the folder lists and nobody can read: what a reader meets just after a wipe.
  await symlink(join(dir, 'gone'), join(dir, '00000000-gone.log'))
  expect(await places(marks)).toEqual(['ab/one.png'])
})
