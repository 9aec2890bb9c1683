/** A disk of a few megabytes that can be filled and emptied (tmpfs): for tests of what happens when there is no room. */
import { mkdirSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import type { DiskReport } from './disk-faults.ts'
import { PointWorld } from './point-world.ts'
import { until } from './server.ts'

/** Why no disk can be mounted here, in a sentence; null when it can. */
export function whyNoMount(): string | null {
  const isRoot = process.platform === 'linux' && process.getuid?.() === 0
  return isRoot && Bun.which('mount') !== null ? null : 'only root on Linux can mount a small disk'
}

export class SmallDisk {
  readonly #dir: string

  /** Mounts it at a directory, which is made. */
  constructor(dir: string, mebibytes: number) {
    this.#dir = dir
    mkdirSync(dir, { recursive: true })
    const mounted = Bun.spawnSync(['mount', '-t', 'tmpfs', '-o', `size=${mebibytes}m`, 'tmpfs', dir])
    if (mounted.exitCode !== 0) throw new Error(`mount: ${mounted.stderr.toString()}`)
  }

  /** Writes until nothing more fits, but for so many bytes. */
  fill(left = 0): void {
    for (const size of [1 << 20, 1 << 12, 1]) {
      for (;;) {
        try {
          writeFileSync(this.#filler, Buffer.alloc(size), { flag: 'a' })
        } catch {
          break
        }
      }
    }
    truncateSync(this.#filler, Math.max(0, statSync(this.#filler).size - left))
  }

  empty(): void {
    rmSync(this.#filler, { force: true })
  }

  unmount(): void {
    Bun.spawnSync(['umount', '-l', this.#dir])
  }

  get #filler(): string {
    return join(this.#dir, 'filler')
  }
}

/** The disk is full when an output comes that was paid: it is fetched again when there is room, and not made again. */
export async function fullWhileKeeping(command: readonly string[]): Promise<DiskReport> {
  let disk: SmallDisk | undefined
  const prepare = (dir: string): void => {
    disk = new SmallDisk(dir, 24)
  }
  const world = await PointWorld.open(command, { jobMs: 600, prepare })
  const wrong: string[] = []
  try {
    await world.post()
    // The job must be known to be there: what a full disk does to a submit is another story.
    await until('the film is under way', async () => (await world.runs())[0]?.steps[1]?.attempts[0]?.submitted_at)
    disk?.fill()
    await until('the film was fetched', async () => world.jobs[1]?.opens)
    const fullAt = performance.now()
    await Bun.sleep(FULL_MS)
    const [during] = await world.runs()
    if (during?.status !== 'running') wrong.push(`the run is ${during?.status} while the disk is full`)
    disk?.empty()
    const freeAt = performance.now()
    const run = await world.ended()
    const tookMs = Math.round(performance.now() - freeAt)
    if (run.status !== 'succeeded') wrong.push(`the run ${run.status}: ${run.error?.code}`)
    if (world.jobs.length !== 2) wrong.push(`${world.jobs.length} jobs were paid for 2 steps`)
    if (new Set(world.receiver.callbacks.map(each => each.id)).size !== 1) wrong.push('more than one callback id')
    if ((await world.server.terminate()) !== 0) wrong.push('the server did not stop with 0')
    const fetched = world.jobs[1]?.opens
    const told = `full for ${Math.round(freeAt - fullAt)} ms, the film fetched ${fetched} times, ended ${tookMs} ms after there was room`
    return { name: FULL, wrong, told }
  } catch (error) {
    return {
      name: FULL,
      wrong: [...wrong, `the drill broke: ${error instanceof Error ? error.message : error}`],
      told: '',
    }
  } finally {
    await world.server.kill()
    disk?.unmount()
    await world.close()
  }
}

export const FULL = 'the disk is full when a paid output comes'
const FULL_MS = 3_000
