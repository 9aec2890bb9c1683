/**
 * Breaks the engine on purpose, one way at a time, and shows who notices: the simulation with the seed, or a test file.
 *
 *   npm run mutations              all of test/sim/mutations.ts
 *   npm run mutations -- cancel    those whose name has the word
 *
 * Works on a copy in a temporary directory. Ends with 1 when a mutation goes unnoticed or no longer fits the sources.
 */
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { MUTATIONS, type Mutation } from '../test/sim/mutations.ts'

const root = join(import.meta.dir, '..')
/** More seeds than any mutation has needed; one that survives them all is unnoticed. */
const SEEDS = 10_000
const LIMIT_MS = 240_000

/** Says who noticed, or null. */
async function notice(copy: string, mutation: Mutation): Promise<string | null> {
  const store = mutation.by === 'sqlite' ? ['--store', 'sqlite'] : []
  const isSim = mutation.by === 'sim' || mutation.by === 'sqlite'
  const command = isSim
    ? ['scripts/sim.ts', '--seeds', String(SEEDS), '--most', '1', ...store]
    : ['test', '--bail', mutation.by]
  const child = Bun.spawn([process.execPath, ...command], { cwd: copy, stdout: 'pipe', stderr: 'pipe' })
  const limit = setTimeout(() => child.kill('SIGKILL'), LIMIT_MS)
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ])
  clearTimeout(limit)
  if (code === 0) return null
  const text = out + err
  const told = isSim ? /broken: (.*)/.exec(text)?.[1] : /\(fail\) (.*?)(?: \[[\d.]+ms\])?$/m.exec(text)?.[1]
  return told ?? `it did not end well (${code}): ${text.trim().split('\n').at(-1)}`
}

async function mutate(copy: string, mutation: Mutation): Promise<boolean> {
  const { name, file, from, to } = mutation
  const path = join(copy, file)
  const source = readFileSync(path, 'utf8')
  if (source.split(from).length !== 2) {
    console.log(`${name}: ${file} has changed, the mutation fits ${source.split(from).length - 1} places`)
    return false
  }
  writeFileSync(
    path,
    source.replace(from, () => to),
  )
  const began = performance.now()
  const noticed = await notice(copy, mutation)
  writeFileSync(path, source)
  const seconds = ((performance.now() - began) / 1_000).toFixed(1)
  const by = mutation.by === 'sqlite' ? 'sim on sqlite' : mutation.by
  console.log(
    noticed === null
      ? `${name}: NOT NOTICED by ${by} (${seconds} s)`
      : `${name}: ${by} (${seconds} s): ${noticed.slice(0, 160)}`,
  )
  return noticed !== null
}

const word = Bun.argv[2] ?? ''
const copy = mkdtempSync(join(tmpdir(), 'babychain-mutations-'))
try {
  for (const part of ['src', 'test', 'scripts', 'drizzle', 'package.json', 'tsconfig.json', 'bunfig.toml'])
    cpSync(join(root, part), join(copy, part), { recursive: true })
  symlinkSync(join(root, 'node_modules'), join(copy, 'node_modules'))
  const chosen = MUTATIONS.filter(({ name }) => name.includes(word))
  let noticed = 0
  for (const mutation of chosen) if (await mutate(copy, mutation)) noticed += 1
  console.log(`${noticed} of ${chosen.length} mutations noticed`)
  process.exitCode = noticed === chosen.length ? 0 : 1
} finally {
  rmSync(copy, { recursive: true, force: true })
}
