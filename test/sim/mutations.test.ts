/** A simulation that finds nothing proves nothing: every known way to break the engine must be noticed. */
import { expect, test } from 'bun:test'
import { join } from 'node:path'

test('every mutation of the engine is noticed', async () => {
  const script = join(import.meta.dir, '../../scripts/mutations.ts')
  const child = Bun.spawn([process.execPath, script], { stdout: 'pipe', stderr: 'inherit' })
  const list = await new Response(child.stdout).text()
  console.log(list)
  expect(await child.exited).toBe(0)
}, 600_000)
