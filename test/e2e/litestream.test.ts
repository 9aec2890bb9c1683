/**
 * The drill: a server under load with Litestream beside it; both die, the disk is gone, the replica is restored into an
 * empty directory, and the runs go on. What the provider has on its books survives, as a provider's books do.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { cpSync, mkdirSync, renameSync } from 'node:fs'
import { join } from 'node:path'
import { builtBinary } from '../support/binary.ts'
import { smallRun } from '../support/chaos.ts'
import { freePort } from '../support/free-port.ts'
import { Litestream, type ReplicaOrder } from '../support/litestream.ts'
import { type MiniS3, miniS3 } from '../support/mini-s3.ts'
import { readJobs } from '../support/sandbox-jobs.ts'
import { Receiver, ServerProcess, until } from '../support/server.ts'

const PATH = '/api/v1/chains/chain101/runs'
/** Beyond this no drill may lose anything, however busy the machine; what was measured is printed. */
const SLACK_MS = 1_500

interface Seen {
  id: string
  status: string
  steps: { status: string }[]
}

let s3: MiniS3
let receiver: Receiver
let command: string[]
beforeAll(async () => {
  s3 = miniS3()
  receiver = new Receiver()
  command = [await builtBinary()]
}, 120_000)
afterAll(async () => {
  await receiver.stop()
  await s3.close()
})

const bucket = (): Record<string, string> => ({
  AWS_ACCESS_KEY_ID: 'drill',
  AWS_SECRET_ACCESS_KEY: 'drill-secret',
  AWS_ENDPOINT_URL_S3: s3.endpoint,
  AWS_REGION: 'us-east-1',
  BUCKET_NAME: 'drill',
})

function server(media: string): ServerProcess {
  const env = {
    ...bucket(),
    BABYCHAIN_EGRESS_ALLOW: receiver.host,
    BABYCHAIN_MEDIA: `s3://drill/${media}`,
    BABYCHAIN_SANDBOX_LATENCY_MS: '400',
    // Kept elsewhere, as it must be: a restored database is read with the same key.
    BABYCHAIN_MASTER_KEY: Buffer.alloc(32, 9).toString('base64'),
  }
  return new ServerProcess({ command, env })
}

async function post(to: ServerProcess, seed: number, words = ''): Promise<string> {
  const answer = await to.post(PATH, smallRun(seed, receiver.url, words))
  if (answer.status !== 202) throw new Error(`${answer.status}: ${await answer.text()}`)
  return ((await answer.json()) as Seen).id
}

/** Posts runs that end at once, so that the database is always being written, until told to stop. */
function writing(to: ServerProcess): { acked: { id: string; at: number }[]; stop(): Promise<void> } {
  const acked: { id: string; at: number }[] = []
  let goes = true
  const loop = (async () => {
    for (let n = 0; goes; n += 1) {
      const id = await post(to, n, '#moderate').catch(() => null)
      if (id !== null) acked.push({ id, at: performance.now() })
    }
  })()
  return {
    acked,
    async stop() {
      goes = false
      await loop
    },
  }
}

/** What is promised to be lost at most (ms), at the pace that is shipped and at a shorter one. */
const DRILLS: {
  name: string
  syncMs: number
  mostMs: number
  replica: (dir: string) => Pick<ReplicaOrder, 'folder' | 'env'>
}[] = [
  { name: 'files, every second', syncMs: 1_000, mostMs: 1_000, replica: dir => ({ folder: join(dir, 'replica') }) },
  { name: 'a bucket, every 250 ms', syncMs: 250, mostMs: 300, replica: () => ({ env: bucket() }) },
]
/** A machine that is busy with other tests may send late, so a promise may need a second and a third drill. */
const MOST_DRILLS = 3

describe.each(DRILLS)('a replica of $name', ({ name, syncMs, mostMs, replica }) => {
  /** Gives what was lost (ms). */
  async function drill(n: number): Promise<number> {
    const s = server(`media-${syncMs}-${n}`)
    let litestream: Litestream | null = null
    try {
      await s.start()
      const database = join(s.dataDir, 'babychain.db')
      litestream = await Litestream.prepare({ dir: s.dir, database, syncMs, ...replica(s.dir) })
      litestream.replicate()
      await until('the first snapshot is out', () => post(s, 0, '#moderate').then(() => snapshotIsOut(s.dir)), 30_000)

      const slow = await Promise.all([1, 2, 3, 4].map(seed => post(s, seed, '#slow=4s')))
      const load = writing(s)
      await Bun.sleep(2_500)
      await until('enough is written', async () => load.acked.length > 20)
      await Promise.all([s.kill(), litestream.kill()])
      const died = performance.now()
      await load.stop()

      renameSync(s.dataDir, `${s.dataDir}.gone`)
      mkdirSync(s.dataDir)
      const restoredMs = await litestream.restore()
      // The provider is somewhere else: its books are not on our disk.
      cpSync(join(`${s.dataDir}.gone`, 'sandbox'), join(s.dataDir, 'sandbox'), { recursive: true })

      const refusal = await refusedStart(s)
      expect(refusal).toContain('restored')
      const word = /BABYCHAIN_RESUME=(\d+)/.exec(refusal)?.[1] ?? ''
      const readyMs = await s.start({ BABYCHAIN_RESUME: word })

      const firstLost = await firstMissing(s, load.acked)
      const lostMs = firstLost === null ? 0 : died - firstLost.at
      for (const id of slow) {
        const run = await until(`${id} ends`, () => ended(s, id), 60_000)
        expect(run.status).toBe('succeeded')
      }
      const paidTwice = await twice(s.dataDir)
      console.log(
        `replica of ${name}: ${load.acked.length} runs written, lost ${(lostMs / 1_000).toFixed(2)} s; restored in ${Math.round(restoredMs)} ms, ready in ${Math.round(readyMs)} ms; ${slow.length} open runs ended; ${paidTwice} steps submitted again`,
      )
      expect(load.acked.length).toBeGreaterThan(20)
      expect(lostMs).toBeLessThanOrEqual(syncMs + SLACK_MS)
      expect(paidTwice).toBe(0)
      return lostMs
    } finally {
      await litestream?.kill()
      await s.close()
    }
  }

  test('gives everything back but the last moment, and the restored runs end', async () => {
    let least = Number.POSITIVE_INFINITY
    for (let n = 0; n < MOST_DRILLS && least > mostMs; n += 1) {
      // What the drill before left would be taken for this one's.
      s3.objects.clear()
      least = Math.min(least, await drill(n))
    }
    expect(least).toBeLessThanOrEqual(mostMs)
  }, 360_000)
})

test('a bucket that takes nothing shows in what the alert asks for, and not beside the database', async () => {
  const dying = miniS3()
  const s = server('media-dying')
  const metricsPort = freePort()
  let litestream: Litestream | null = null
  try {
    await s.start()
    const env = { ...bucket(), AWS_ENDPOINT_URL_S3: dying.endpoint }
    const database = join(s.dataDir, 'babychain.db')
    litestream = await Litestream.prepare({ dir: s.dir, database, syncMs: 250, env, metricsPort })
    litestream.replicate()
    const metrics = async () => (await fetch(`http://127.0.0.1:${metricsPort}/metrics`)).text()
    const look = async () => {
      const text = await metrics()
      const taken = Number(/^litestream_replica_operation_total\{operation="PUT".* (\S+)$/m.exec(text)?.[1] ?? 0)
      const written = Number(/^litestream_total_wal_bytes\{.* (\S+)$/m.exec(text)?.[1] ?? 0)
      return { taken, written, tried: dying.requests.PUT ?? 0 }
    }
    await until('it answers', () => metrics().catch(() => null))
    await until('the bucket takes', () => post(s, 0, '#moderate').then(async () => (await look()).taken > 1), 30_000)
    const asked =
      (await Bun.file(join(import.meta.dir, '../../ops/alerts.yml')).text()).match(/\blitestream_\w+/g) ?? []
    expect(asked.length).toBeGreaterThan(1)
    for (const name of asked) expect(await metrics()).toContain(`\n${name}{`)

    dying.failNext(Number.POSITIVE_INFINITY)
    /** Writes until it is copied beside the database, and a PUT of it is refused. */
    const refused = async () => {
      const before = await look()
      const isRefused = async () => {
        await post(s, 1, '#moderate')
        const { written, tried } = await look()
        return written > before.written && tried > before.tried
      }
      await until('a PUT is refused', isRefused, 30_000)
      return (await look()).taken
    }
    // What was on its way when the bucket died may still be counted.
    const taken = await refused()
    expect(await refused()).toBe(taken)
    // What lies on this disk is as fresh as ever, so of the bucket nothing is said.
    const { checks } = await s.json<{ checks: { name: string; detail?: string }[] }>('/readyz')
    expect(checks.find(({ name }) => name === 'replica')?.detail).toMatch(
      /^Litestream's copy beside the database (has|is \d s older than) its last write .*; whether it reached the bucket,/,
    )
  } finally {
    await litestream?.kill()
    await s.close()
    await dying.close()
  }
}, 90_000)

test('an answer takes hardly longer with Litestream beside the server', async () => {
  const s = server('media-latency')
  try {
    await s.start()
    for (let n = 0; n < 20; n += 1) await post(s, n, '#moderate')
    const alone = await answers(s)
    const database = join(s.dataDir, 'babychain.db')
    const litestream = await Litestream.prepare({ dir: s.dir, database, syncMs: 1_000, folder: join(s.dir, 'replica') })
    litestream.replicate()
    await until('the first snapshot is out', () => post(s, 0, '#moderate').then(() => snapshotIsOut(s.dir)), 30_000)
    const beside = await answers(s)
    await litestream.kill()
    console.log(
      `202 after p50 ${alone.p50.toFixed(1)} ms, p99 ${alone.p99.toFixed(1)} ms alone; p50 ${beside.p50.toFixed(1)} ms, p99 ${beside.p99.toFixed(1)} ms with Litestream`,
    )
    expect(beside.p50).toBeLessThan(alone.p50 * 3 + 25)
  } finally {
    await s.close()
  }
}, 60_000)

async function answers(s: ServerProcess): Promise<{ p50: number; p99: number }> {
  const times: number[] = []
  for (let n = 0; n < 150; n += 1) {
    const began = performance.now()
    await post(s, n, '#moderate')
    times.push(performance.now() - began)
  }
  times.sort((a, b) => a - b)
  return { p50: times[75] ?? 0, p99: times[148] ?? 0 }
}

/** A snapshot lies in the folder or in the bucket. */
async function snapshotIsOut(dir: string): Promise<boolean> {
  const files = await Array.fromAsync(new Bun.Glob('replica/**/*.snapshot.lz4').scan({ cwd: dir }))
  return files.length > 0 || [...s3.objects.keys()].some(key => key.endsWith('.snapshot.lz4'))
}

/** Starts a server that must refuse; gives its sentence. */
async function refusedStart(s: ServerProcess): Promise<string> {
  const env = { PATH: process.env.PATH ?? '', PORT: '0', BABYCHAIN_DATA_DIR: s.dataDir }
  const child = Bun.spawn([...command, 'serve'], { env, stdout: 'ignore', stderr: 'pipe' })
  const said = await new Response(child.stderr).text()
  expect(await child.exited).toBe(1)
  return said
}

async function firstMissing<T extends { id: string }>(s: ServerProcess, acked: readonly T[]): Promise<T | null> {
  for (const each of acked) if ((await s.request(`/api/v1/runs/${each.id}`)).status === 404) return each
  return null
}

async function ended(s: ServerProcess, id: string): Promise<Seen | null> {
  const run = await s.json<Seen>(`/api/v1/runs/${id}`)
  return ['succeeded', 'failed', 'canceled'].includes(run.status) ? run : null
}

/** Steps that the provider was given more than once. */
async function twice(dataDir: string): Promise<number> {
  const jobs = (await readJobs(dataDir)).filter(job => !job.refused)
  const perStep = Map.groupBy(jobs, job => job.stepId)
  return [...perStep.values()].filter(list => list.length > 1 || list.some(job => job.submits > 1)).length
}
