/** Litestream 0.3.13 as npm brings it, for drills: it may corrupt a database in production (see docs/operations.md). */
import { writeFileSync } from 'node:fs'
import { join } from 'node:path'

const binary = join(import.meta.dir, '../../node_modules/@flydotio/litestream-linux-x64/litestream')
const shipped = join(import.meta.dir, '../../litestream.yml')

export interface ReplicaOrder {
  /** Folder for the configuration. */
  dir: string
  database: string
  /** How often Litestream looks at the WAL and sends it (ms). */
  syncMs: number
  /** A folder for a replica of files; else the bucket that the environment names. */
  folder?: string
  env?: Readonly<Record<string, string>>
  /** Where its metrics are to be had; by default nowhere. */
  metricsPort?: number
}

export class Litestream {
  readonly #order: ReplicaOrder
  readonly #config: string
  #child: Bun.Subprocess | null = null

  /** Writes the configuration that is shipped, with another database, pace and, if wanted, a folder for a replica. */
  static async prepare(order: ReplicaOrder): Promise<Litestream> {
    const { dir, database, syncMs, folder, metricsPort } = order
    let text = (await Bun.file(shipped).text())
      .replace(/^addr: \S+/m, metricsPort === undefined ? '' : `addr: 127.0.0.1:${metricsPort}`)
      .replace('path: /data/babychain.db', `path: ${database}`)
      .replace('monitor-interval: 250ms', `monitor-interval: ${Math.min(250, Math.round(syncMs / 5))}ms`)
      .replace('sync-interval: 1s', `sync-interval: ${syncMs}ms`)
    if (folder !== undefined) text = text.replace(/- type: s3\n[\s\S]*?force-path-style: true/, `- path: ${folder}`)
    const config = join(dir, 'litestream.yml')
    writeFileSync(config, text)
    return new Litestream(order, config)
  }

  private constructor(order: ReplicaOrder, config: string) {
    this.#order = order
    this.#config = config
  }

  replicate(): void {
    this.#child = this.#run('replicate', '-config', this.#config)
  }

  async kill(): Promise<void> {
    this.#child?.kill('SIGKILL')
    await this.#child?.exited
    this.#child = null
  }

  /** Restores the database to its place, which must be free; gives how long it took (ms). Throws with Litestream's words. */
  async restore(): Promise<number> {
    const began = performance.now()
    const child = this.#run('restore', '-config', this.#config, this.#order.database)
    const said = await new Response(child.stderr).text()
    if ((await child.exited) !== 0) throw new Error(`litestream restore: ${said}`)
    return performance.now() - began
  }

  #run(...args: string[]) {
    const env = { PATH: process.env.PATH ?? '', ...this.#order.env }
    return Bun.spawn([binary, ...args], { env, stdout: 'ignore', stderr: 'pipe' })
  }
}
