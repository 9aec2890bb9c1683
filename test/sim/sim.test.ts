/**
 * Ten thousand histories from ten thousand seeds, within a budget of time: on a machine that is busy with other things
 * fewer are played, and the line at the end says how many. `bun run sim --seed N` tells the history of one.
 */
import { expect, test } from 'bun:test'
import { memoryDisk, sqliteDisk } from './disks.ts'
import { simulate } from './simulation.ts'

const SEEDS = Number(process.env.SIM_SEEDS ?? 10_000)
const BUDGET_MS = Number(process.env.SIM_BUDGET_MS ?? 120_000)
/** Even a slow machine plays so many, or the test says nothing. */
const LEAST = 1_000

/** Seeds whose history once broke a promise. */
const FOUND = [50, 112, 126, 168, 224, 294, 510, 601, 602, 809, 1_029, 1_312, 1_463, 3_444, 8_333, 9_756]

test('the same seed gives the same history', async () => {
  const tell = async (): Promise<string[]> => {
    const lines: string[] = []
    await simulate(42, memoryDisk(), line => lines.push(line))
    return lines
  }
  expect((await tell()).length).toBeGreaterThan(10)
  expect(await tell()).toEqual(await tell())
})

test('seeds that once broke a promise', async () => {
  for (const seed of FOUND) await simulate(seed, memoryDisk())
})

test('the real store keeps the promises as the one in memory does, and stays whole', async () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    const disk = sqliteDisk()
    await simulate(seed, disk)
    expect(disk.check()).toBe('ok')
  }
}, 60_000)

test(`${SEEDS} seeds break no promise`, async () => {
  const began = performance.now()
  let [seeds, runs, crashes, late, taken, calls, hours] = [0, 0, 0, 0, 0, 0, 0]
  const met = { budget: 0, running: 0, queue: 0 }
  while (seeds < SEEDS && (seeds < LEAST || performance.now() - began < BUDGET_MS)) {
    const history = await simulate(seeds + 1, memoryDisk())
    seeds += 1
    runs += history.runs
    crashes += history.crashes
    late += history.late
    taken += history.taken
    calls += history.calls
    hours += history.elapsed / 3_600_000
    for (const limit of ['budget', 'running', 'queue'] as const) met[limit] += history.met[limit]
  }
  const s = ((performance.now() - began) / 1_000).toFixed(1)
  console.log(
    `${seeds} seeds in ${s} s: ${runs} runs, ${crashes} crashes, ${late} late results, ${taken} jobs taken over, ${calls} port calls, ${Math.round(hours)} simulated hours; no promise broken`,
  )
  expect(seeds).toBeGreaterThanOrEqual(LEAST)
  expect(Math.min(late, taken)).toBeGreaterThan(0)
  // The limits of a key were reached, each of them.
  expect(Math.min(...Object.values(met))).toBeGreaterThan(0)
}, 600_000)
