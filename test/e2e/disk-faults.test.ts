/**
 * The binary on a disk that refuses, fails, fills up or dawdles, by the kernel's own answers (strace): nothing is lost or
 * paid twice, callers are told, and the same process goes on. `bun run chaos --disk` prints the same as a table.
 */
import { beforeAll, describe, expect, test } from 'bun:test'
import { builtBinary } from '../support/binary.ts'
import { DISK_DRILLS, type DiskReport, playDisks } from '../support/disk-faults.ts'
import { whyNoMount } from '../support/small-disk.ts'
import { whyNoStrace } from '../support/strace.ts'

const missing = whyNoStrace() ?? whyNoMount()
const drill = process.env.CI || missing === null ? describe : describe.skip
const because = missing === null ? '' : ` (not here: ${missing})`

drill(`a disk at fault${because}`, () => {
  let reports: DiskReport[] = []
  beforeAll(async () => {
    if (missing) throw new Error(missing)
    reports = await playDisks([await builtBinary()])
    for (const { name, told } of reports) console.log(`${name}: ${told}`)
  }, 180_000)

  test.each(DISK_DRILLS.map((name, n) => [name, n] as const))('%s', (name, n) => {
    expect(reports[n]).toMatchObject({ name, wrong: [] })
  })
})
