import type { StoredMedia } from '../../src/core/ports.ts'

/** The media part of a Store, in memory. */
export class MemoryRows {
  rows = new Map<string, StoredMedia>()
  /** A run takes this one up between the look for stale ones and their removal. */
  takenMeanwhile: string | null = null
  /** Thrown once, before or after the write. */
  breakOnce: { method: 'addMedia' | 'removeMedia'; when: 'before' | 'after'; error: Error } | null = null

  async addMedia(row: StoredMedia): Promise<void> {
    this.#break('addMedia', 'before')
    if (this.rows.has(row.mediaId)) throw new Error('UNIQUE constraint failed: media.id')
    this.rows.set(row.mediaId, structuredClone(row))
    this.#break('addMedia', 'after')
  }
  async media(id: string): Promise<StoredMedia | null> {
    return this.rows.get(id) ?? null
  }
  async staleMedia(before: number, limit: number): Promise<StoredMedia[]> {
    return [...this.rows.values()].filter(row => row.createdAt < before).slice(0, limit)
  }
  async removeMedia(ids: readonly string[], before: number): Promise<readonly string[]> {
    this.#break('removeMedia', 'before')
    const taken = this.rows.get(this.takenMeanwhile ?? '')
    if (taken) this.rows.set(taken.mediaId, { ...taken, createdAt: Number.MAX_SAFE_INTEGER })
    const removed = ids.filter(id => (this.rows.get(id)?.createdAt ?? before) < before)
    for (const id of removed) this.rows.delete(id)
    this.#break('removeMedia', 'after')
    return removed
  }
  #break(method: string, when: string): void {
    const { breakOnce } = this
    if (breakOnce?.method !== method || breakOnce.when !== when) return
    this.breakOnce = null
    throw breakOnce.error
  }
}
