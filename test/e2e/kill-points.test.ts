/**
 * kill -9 of the binary at the named points of a run (rules.md 2.2, C1 to C11), each hit exactly: by the provider, the
 * receiver or the caller at that call, or by the kernel at that write. `bun run chaos --points` prints the same as a table.
 */
import { beforeAll, describe, expect, test } from 'bun:test'
import { builtBinary } from '../support/binary.ts'
import { type CommitKills, killAtEveryCommit } from '../support/kill-commits.ts'
import { POINTS, type PointReport, playPoints } from '../support/kill-points.ts'
import { whyNoStrace } from '../support/strace.ts'

const missing = whyNoStrace()
const drill = process.env.CI || missing === null ? describe : describe.skip
const because = missing === null ? '' : ` (needs strace: ${missing})`

drill(`kill -9 at the named points${because}`, () => {
  let reports: PointReport[] = []
  let commits: CommitKills
  beforeAll(async () => {
    if (missing) throw new Error(missing)
    const command = [await builtBinary()]
    ;[reports, commits] = await Promise.all([playPoints(POINTS, command), killAtEveryCommit(command)])
    const spans = reports.map(each => Math.round(each.readyMs)).toSorted((a, b) => a - b)
    console.log(
      `${reports.length} points and ${commits.kills} kills at ${commits.commits} commits; ready again after p50 ${spans[spans.length >> 1]} ms, max ${spans.at(-1)} ms`,
    )
  }, 180_000)

  test.each(POINTS.map(({ row, name }, n) => [row, name, n] as const))('%s: %s', (row, name, n) => {
    expect(reports[n]).toMatchObject({ row, name, wrong: [] })
  })

  test('C10: a refused callback is sent again when it is due, not before and at most five seconds late', () => {
    const late = reports.find(each => each.row === 'C10')?.lateMs ?? Number.NaN
    expect(late).toBeGreaterThan(-50)
    expect(late).toBeLessThan(5_000)
  })

  test('C11: on both sides of every commit of a run, nothing is ever found half made', () => {
    expect(commits.wrong).toEqual([])
    expect(commits.commits).toBeGreaterThan(4)
    // A run may take a commit less than the one that was watched.
    expect(commits.kills).toBeGreaterThanOrEqual(commits.points - 4)
  })
})
