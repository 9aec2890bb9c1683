/** What the sandbox has on its books, read past it: as one would look at a provider's own page. */
import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Job } from '../../src/providers/sandbox/journal.ts'

/** Submits and states of all jobs of an installation. */
export async function readJobs(dataDir: string): Promise<Job[]> {
  const dir = join(dataDir, 'sandbox', 'jobs')
  const files = (await readdir(dir).catch(() => [])).filter(file => file.endsWith('.json'))
  const texts = await Promise.all(files.map(file => readFile(join(dir, file), 'utf8').catch(() => null)))
  // One that is gone by now was forgotten by the sandbox meanwhile.
  return texts.flatMap(text => (text === null ? [] : [JSON.parse(text) as Job]))
}
