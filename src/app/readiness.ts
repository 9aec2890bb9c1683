/**
 * Whether this installation can take a run, and what an operator wants to know beside it.
 *
 * 1. Only what stops a run makes it not ready; the rest is told and changes nothing: a replica that lags must not get
 *    the one server restarted.
 * 2. Of the replica only the half on this disk can be seen. Whether the bucket has it nobody can tell from here, and it is not said.
 * 3. Asking is cheap: a probe write each to database and storage, a few file facts.
 */
import { readdirSync, statfsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import type { Media, Store } from '../core/ports.ts'
import type { Readiness } from '../http/deps.ts'
import type { LoopLag } from '../http/metrics.ts'

export interface ReadinessDeps {
  store: Pick<Store, 'probe'>
  media: Pick<Media, 'probe'>
  dataDir: string
  draining: AbortSignal
  loopLag(): LoopLag
  now(): number
}

type Check = Readiness['checks'][number]

/** Makes the question behind `/readyz`. */
export function readinessOf(deps: ReadinessDeps): () => Promise<Readiness> {
  return async () => {
    // Before the probe, which writes: Litestream has had no time for that yet.
    const copy = localCopy(deps.dataDir, deps.now())
    const checks = [
      await probe('database', () => deps.store.probe()),
      await probe('storage', () => deps.media.probe()),
      { name: 'accepting', ok: !deps.draining.aborted },
      disk(deps.dataDir),
      { name: 'replica', ok: true, detail: copy.detail },
      eventLoop(deps.loopLag()),
    ]
    return { ok: checks.every(check => check.ok), checks }
  }
}

async function probe(name: string, run: () => Promise<void>): Promise<Check> {
  try {
    await run()
    return { name, ok: true }
  } catch (error) {
    return { name, ok: false, detail: error instanceof Error ? error.message : String(error) }
  }
}

function disk(dataDir: string): Check {
  try {
    const { bavail, blocks, bsize } = statfsSync(dataDir)
    const database = sizeOf(join(dataDir, 'babychain.db')) + sizeOf(join(dataDir, 'babychain.db-wal'))
    return {
      name: 'disk',
      ok: true,
      detail: `database ${mib(database)}; ${mib(bavail * bsize)} of ${mib(blocks * bsize)} free`,
    }
  } catch {
    return { name: 'disk', ok: true, detail: 'unknown' }
  }
}

/**
 * What Litestream keeps beside the database, held against the last write of the database: an idle server's does not grow old.
 * `behind` (s) is null where Litestream was never seen.
 */
export function localCopy(dataDir: string, now: number): { behind: number | null; detail: string } {
  const copied = newestIn(join(dataDir, '.babychain.db-litestream'), 4)
  if (copied === 0) return { behind: null, detail: 'no Litestream seen' }
  const written = lastWrite(join(dataDir, 'babychain.db'))
  const seconds = (ms: number): number => Math.max(0, Math.round(ms / 1_000))
  const behind = seconds(written - copied)
  const holds = behind === 0 ? 'has its last write' : `is ${behind} s older than its last write`
  const detail = `Litestream's copy beside the database ${holds} (${seconds(now - written)} s ago); whether it reached the bucket, Litestream's log and metrics tell`
  return { behind, detail }
}

/** A write goes to the WAL; a checkpoint, which writes to the file, adds nothing. */
function lastWrite(file: string): number {
  const wal = statSync(`${file}-wal`, { throwIfNoEntry: false })
  if (wal && wal.size > 0) return wal.mtimeMs
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? 0
}

function eventLoop({ p99Ms, maxMs }: LoopLag): Check {
  const detail = `lag p99 ${Math.round(p99Ms)} ms, max ${Math.round(maxMs)} ms in the last minutes`
  return { name: 'event loop', ok: true, detail }
}

/** The newest change (ms) below a folder; 0 without one. */
function newestIn(folder: string, depth: number): number {
  try {
    const entries = readdirSync(folder, { withFileTypes: true })
    const times = entries.map(entry => {
      const path = join(folder, entry.name)
      return entry.isDirectory() && depth > 0 ? newestIn(path, depth - 1) : statSync(path).mtimeMs
    })
    return Math.max(0, ...times)
  } catch {
    return 0
  }
}

function sizeOf(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.size ?? 0
}

const mib = (bytes: number): string =>
  bytes < 1 << 30 ? `${(bytes / 2 ** 20).toFixed(1)} MiB` : `${(bytes / 2 ** 30).toFixed(1)} GiB`
