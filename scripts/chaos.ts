/**
 * Kills the server again and again under load, and reports what was lost, doubled or late, and how soon it was back.
 *
 *   bun run chaos                          50 kills, 100 runs, the compiled binary (built when it is out of date)
 *   bun run chaos --kills 1000 --runs 500  a quarter of an hour
 *   bun run chaos --points                 at the named points C1 to C11, and at every commit of a run (Linux, strace)
 *   bun run chaos --disk                   a disk that refuses, fails, fills up or dawdles (Linux, strace, root)
 *   bun run chaos --sources                the sources instead of the binary
 *
 * Ends with 1 when anything was lost or doubled, or when nothing was played; with 2 when it was mistyped.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { builtBinary } from '../test/support/binary.ts'
import { chaos, spread, told } from '../test/support/chaos.ts'
import { playDisks } from '../test/support/disk-faults.ts'
import { killAtEveryCommit } from '../test/support/kill-commits.ts'
import { POINTS, playPoints } from '../test/support/kill-points.ts'
import { positive } from './arguments.ts'

const { values } = parseArgs({
  args: Bun.argv.slice(2),
  options: {
    kills: { type: 'string', default: '50' },
    runs: { type: 'string' },
    sources: { type: 'boolean' },
    points: { type: 'boolean' },
    disk: { type: 'boolean' },
  },
})
const count = positive('kills', values.kills)
const runs = values.runs === undefined ? 2 * count : positive('runs', values.runs)
const command = values.sources ? [process.execPath, join(import.meta.dir, '../src/main.ts')] : [await builtBinary()]
const wrong: string[] = []
if (values.points) wrong.push(...(await points()))
if (values.disk) wrong.push(...(await disk()))
if (!values.points && !values.disk) wrong.push(...(await kills()))
for (const each of wrong) console.error(`WRONG  ${each}`)
process.exit(wrong.length === 0 ? 0 : 1)

async function kills(): Promise<string[]> {
  const report = await chaos({ kills: count, runs, command, note: console.log })
  console.log(told(report))
  const { lost, doubleSubmits, secondIds, silent, unverified } = report
  const counts = Object.entries({ doubleSubmits, secondIds, silent, unverified }).filter(([, n]) => n > 0)
  const none = report.kills === 0 || report.runs === 0 ? ['nothing was played'] : []
  return [...none, ...lost.map(id => `lost: ${id}`), ...counts.map(([name, n]) => `${name}: ${n}`)]
}

async function points(): Promise<string[]> {
  const reports = await playPoints(POINTS, command)
  for (const { row, name, left, readyMs, endedMs, lateMs, wrong: found } of reports) {
    const spans = `ready after ${Math.round(readyMs)} ms, ended after ${Math.round(endedMs)} ms`
    const late = lateMs === null ? '' : `, callback ${Math.round(lateMs)} ms after it was due`
    console.log(
      `${found.length === 0 ? 'ok   ' : 'WRONG'}  ${row.padEnd(3)}  ${name}\n            left: ${left}; ${spans}${late}`,
    )
  }
  const commits = await killAtEveryCommit(command)
  const { p50, max } = spread(commits.readyMs)
  const sides = `${commits.kills} kills on both sides of the ${commits.commits} commits of a run`
  console.log(
    `${commits.wrong.length === 0 ? 'ok   ' : 'WRONG'}  C11  ${sides}; ready after p50 ${p50} ms, max ${max} ms`,
  )
  return [...reports.flatMap(each => each.wrong.map(text => `${each.row} ${each.name}: ${text}`)), ...commits.wrong]
}

async function disk(): Promise<string[]> {
  const reports = await playDisks(command)
  for (const { name, told: figures, wrong: found } of reports)
    console.log(`${found.length === 0 ? 'ok   ' : 'WRONG'}  ${name}: ${figures}`)
  return reports.flatMap(each => each.wrong.map(text => `${each.name}: ${text}`))
}
