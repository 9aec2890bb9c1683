import type { StoredMedia } from '../../src/core/ports.ts'

/** The media part of a Store, in memory. */
export class MemoryRows {
  rows = new Map<string, StoredMedia>()
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
  async removeMedia(ids: readonly string[]): Promise<void> {
    this.#break('removeMedia', 'before')
    for (const id of ids) this.rows.delete(id)
    this.#break('removeMedia', 'after')
  }
  #break(method: string, when: string): void {
    const { breakOnce } = this
    if (breakOnce?.method !== method || breakOnce.when !== when) return
    this.breakOnce = null
    throw breakOnce.error
  }
}
