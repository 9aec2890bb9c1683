/**
 * Plays seeded simulations of the engine.
 *
 *   bun run sim                      10,000 seeds from 1
 *   bun run sim --seeds 1000000      a long night
 *   bun run sim --from 5000          begins elsewhere
 *   bun run sim --seed 42            tells the history of one seed, and stops with an error when it breaks a promise
 *   bun run sim --store sqlite       on the real store
 *   bun run sim --most 1             ends with the first seed that breaks a promise (else with the tenth)
 *
 * Ends with 1 when a promise was broken, with the line that tells its history, or when nothing was played; with 2 when it was mistyped.
 */
import { parseArgs } from 'node:util'
import { memoryDisk, sqliteDisk } from '../test/sim/disks.ts'
import { type History, simulate } from '../test/sim/simulation.ts'
import { named, positive } from './arguments.ts'

const { values } = parseArgs({
  args: Bun.argv.slice(2),
  options: {
    seed: { type: 'string' },
    seeds: { type: 'string', default: '10000' },
    from: { type: 'string', default: '1' },
    store: { type: 'string', default: 'memory' },
    most: { type: 'string', default: '10' },
  },
})
const { seed, store } = values
const disk = named('store', { memory: memoryDisk, sqlite: sqliteDisk }, store)
const most = positive('most', values.most)

/** Plays one seed; a broken promise is told with its history. */
async function play(seed: number, loud: boolean): Promise<History | null> {
  try {
    return await simulate(seed, disk(), loud ? console.log : undefined)
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error)
    console.error(`\nbroken: ${message}\nbun run sim --seed ${seed} --store ${store} tells the whole history`)
    return null
  }
}

async function many(from: number, count: number): Promise<number> {
  const began = performance.now()
  const broken: number[] = []
  let [runs, crashes] = [0, 0]
  for (let seed = from; seed < from + count; seed += 1) {
    const history = await play(seed, false)
    if (!history) broken.push(seed)
    runs += history?.runs ?? 0
    crashes += history?.crashes ?? 0
    if (broken.length >= most) break
  }
  const seconds = ((performance.now() - began) / 1_000).toFixed(1)
  console.log(
    `seeds ${from} to ${from + count - 1} in ${seconds} s: ${runs} runs, ${crashes} crashes, ${broken.length} broken${broken.length > 0 ? ` (${broken.join(', ')})` : ''}`,
  )
  return broken.length === 0 && runs > 0 ? 0 : 1
}

if (seed !== undefined) process.exit((await play(positive('seed', seed), true)) ? 0 : 1)
process.exit(await many(positive('from', values.from), positive('seeds', values.seeds)))
