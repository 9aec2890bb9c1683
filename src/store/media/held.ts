/**
 * Outputs that were read whole while the bucket took nothing: they stay on this disk until it does. A provider's links live for
 * minutes, an outage may last for hours.
 *
 * 1. A file here is durable, under the id of its media, and outlives the process; the next one measures it anew, and lets go of
 *    what a crash left half.
 * 2. To hold one is a favor: where there is no room for it, it must be fetched again, and nothing else changes.
 * 3. What nobody asks for any more is removed a day later, as all strays are.
 */
import { readdir, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { StepKind } from '../../core/model.ts'
import { StorageUnavailable } from '../../core/ports.ts'
import { freshen, onDisk, requireSpace, type Vault } from './disk.ts'
import { type Caps, type Facts, measured } from './spool.ts'

/** In the vault on disk. */
const FOLDER = 'held'
/** Some hundred films; what comes beyond them is left to the provider's link. */
const MOST_BYTES = 4 * 2 ** 30

export interface HeldOutput {
  path: string
  facts: Facts
}

interface Limits {
  caps: Caps
  minFreeBytes: number
}

export class HeldOutputs {
  readonly #dir: string
  readonly #disk: Vault
  readonly #limits: Limits
  /** `facts` null: it was left by a process before this one. */
  readonly #files = new Map<string, { bytes: number; facts: Facts | null }>()

  private constructor(root: string, disk: Vault, limits: Limits) {
    this.#dir = join(root, FOLDER)
    this.#disk = disk
    this.#limits = limits
  }

  /** `root` is that of the vault on disk; its folder `held` is there. */
  static async open(root: string, disk: Vault, limits: Limits): Promise<HeldOutputs> {
    const held = new HeldOutputs(root, disk, limits)
    await onDisk('read a folder', () => held.#look())
    return held
  }

  /** Takes a file over, or the bytes of a small one, unless there is no room. */
  async hold(id: string, source: string | Uint8Array, facts: Facts): Promise<void> {
    const { bytes } = facts
    const others = [...this.#files].reduce((sum, [other, file]) => sum + (other === id ? 0 : file.bytes), 0)
    if (others + bytes > MOST_BYTES) return
    try {
      // A file lies on this disk already, and only gets another name.
      await requireSpace(this.#dir, this.#limits.minFreeBytes + (typeof source === 'string' ? 0 : bytes))
      await this.#disk.put(source, join(FOLDER, id), facts.mime)
      this.#files.set(id, { bytes, facts })
    } catch (error) {
      if (!(error instanceof StorageUnavailable)) throw error
    }
  }

  /** @throws StorageUnavailable when the disk does not give it back */
  async find(id: string, kind: StepKind): Promise<HeldOutput | null> {
    const file = this.#files.get(id)
    if (!file) return null
    const path = join(this.#dir, id)
    await freshen(path)
    if (file.facts) return { path, facts: file.facts }
    const again = await measured(path, kind, this.#limits.caps)
    if (!again.ok) {
      await this.drop(id)
      return null
    }
    this.#files.set(id, { bytes: again.file.bytes, facts: again.file })
    return { path, facts: again.file }
  }

  /** It is stored, or of no use. What cannot be removed now is a stray, for prune. */
  async drop(id: string): Promise<void> {
    if (this.#files.delete(id)) await rm(join(this.#dir, id), { force: true }).catch(() => {})
  }

  /** Forgets what prune has removed. */
  async refresh(): Promise<void> {
    const known = [...this.#files.keys()]
    const there = new Set(await readdir(this.#dir))
    for (const id of known) if (!there.has(id)) this.#files.delete(id)
  }

  get folder(): string {
    return this.#dir
  }

  async #look(): Promise<void> {
    for (const id of await readdir(this.#dir)) {
      const { size } = await stat(join(this.#dir, id))
      this.#files.set(id, { bytes: size, facts: null })
    }
  }
}
