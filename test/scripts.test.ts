/** The scripts as they are typed: what is mistyped plays nothing, and must not end well. */
import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const scratch = mkdtempSync(join(tmpdir(), 'babychain-scripts-'))
afterAll(() => rmSync(scratch, { recursive: true, force: true }))
const root = join(import.meta.dir, '..')

function script(words: string) {
  const ran = Bun.spawnSync([process.execPath, ...words.split(' ')], {
    cwd: root,
    env: { PATH: process.env.PATH ?? '' },
  })
  return { code: ran.exitCode, out: `${ran.stdout}`, err: `${ran.stderr}` }
}

test.each([
  ['sim.ts --seeds abc', '--seeds must be a whole number from 1; it is "abc"'],
  ['sim.ts --seeds 0', '--seeds must be a whole number from 1; it is "0"'],
  ['sim.ts --seeds 1.5', '--seeds must be a whole number from 1; it is "1.5"'],
  ['sim.ts --seed abc', '--seed must be a whole number from 1; it is "abc"'],
  ['sim.ts --from=-3', '--from must be a whole number from 1; it is "-3"'],
  ['sim.ts --most none', '--most must be a whole number from 1; it is "none"'],
  ['sim.ts --seeds 1 --store sqllite', '--store must be one of memory, sqlite; it is "sqllite"'],
  ['sim.ts --seeds 1 --store toString', '--store must be one of memory, sqlite; it is "toString"'],
  ['chaos.ts --sources --kills abc', '--kills must be a whole number from 1; it is "abc"'],
  ['chaos.ts --sources --kills 1 --runs 0', '--runs must be a whole number from 1; it is "0"'],
])('%s is refused with a sentence', (words, sentence) => {
  expect(script(`scripts/${words}`)).toEqual({ code: 2, out: '', err: `${sentence}\n` })
})

test('the line that replays a broken seed names the store that broke it', () => {
  const broken = join(scratch, 'broken.ts')
  writeFileSync(
    broken,
    `import { SqliteStore } from '${join(root, 'src/store/sqlite/store.ts')}'
     SqliteStore.prototype.due = async () => { throw new Error('broken on purpose') }`,
  )
  const { code, err } = script(`--preload ${broken} scripts/sim.ts --seeds 1 --from 7 --store sqlite`)
  expect([code, err]).toEqual([1, expect.stringContaining('bun run sim --seed 7 --store sqlite tells')])
})

test('seeds that are played well end well', () => {
  expect(script('scripts/sim.ts --seeds 2')).toEqual({
    code: 0,
    out: expect.stringMatching(/^seeds 1 to 2 .* 0 broken\n$/),
    err: '',
  })
})
