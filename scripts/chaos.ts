/**
 * Kills the server again and again under load, and reports what was lost, doubled or late, and how soon it was back.
 *
 *   bun run chaos                          50 kills, 100 runs, the compiled binary (built when it is out of date)
 *   bun run chaos --kills 1000 --runs 2000
 *   bun run chaos --sources                the sources instead of the binary
 *
 * Ends with 1 when anything was lost or doubled.
 */
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { builtBinary } from '../test/support/binary.ts'
import { chaos, told } from '../test/support/chaos.ts'

const { values } = parseArgs({
  args: Bun.argv.slice(2),
  options: { kills: { type: 'string', default: '50' }, runs: { type: 'string' }, sources: { type: 'boolean' } },
})
const kills = Number(values.kills)
const report = await chaos({
  kills,
  runs: Number(values.runs ?? 2 * kills),
  command: values.sources ? [process.execPath, join(import.meta.dir, '../src/main.ts')] : [await builtBinary()],
  note: console.log,
})
console.log(told(report))
for (const id of report.lost) console.error(`lost: ${id}`)
const { lost, doubleSubmits, secondIds, silent, unverified } = report
process.exit(lost.length + doubleSubmits + secondIds + silent + unverified === 0 ? 0 : 1)
