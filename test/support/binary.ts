/** The compiled binary of these sources, built when it is missing or older than they are. */
import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dir, '../..')
const binary = join(root, 'dist/babychain')
let building: Promise<string> | null = null

/** Gives its path. Throws with the builder's words when the build fails. */
export function builtBinary(): Promise<string> {
  building ??= build()
  return building
}

async function build(): Promise<string> {
  const sources = ['src', 'drizzle', 'scripts/build.ts', 'package.json'].map(part => newest(join(root, part)))
  const built = statSync(binary, { throwIfNoEntry: false })?.mtimeMs ?? 0
  if (built > Math.max(...sources)) return binary
  const child = Bun.spawn([process.execPath, join(root, 'scripts/build.ts')], { stdout: 'ignore', stderr: 'pipe' })
  const said = await new Response(child.stderr).text()
  if ((await child.exited) !== 0) throw new Error(`the build failed:\n${said}`)
  return binary
}

function newest(path: string): number {
  const facts = statSync(path)
  if (!facts.isDirectory()) return facts.mtimeMs
  return Math.max(facts.mtimeMs, ...readdirSync(path).map(name => newest(join(path, name))))
}
