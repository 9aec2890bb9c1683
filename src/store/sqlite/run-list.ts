/**
 * Pages of a key's runs, newest first, in the same order under every filter.
 *
 * 1. A page reads index ranges that are already in order (one a chain and status), never the runs that do not fit.
 * 2. Metadata that many runs share is searched in chunks, and other work gets its turn between them.
 */
import type { Database } from 'bun:sqlite'
import type { RunFilter } from '../../core/ports.ts'
import type { RunStatus } from '../../core/run.ts'

interface Place {
  id: string
  created_at: number
}

/** Runs looked at between two turns of the loop: about a millisecond. */
const CHUNK = 500
const STATUSES: readonly RunStatus[] = ['queued', 'running', 'succeeded', 'failed', 'canceled']

export class RunList {
  readonly #sql: ReturnType<typeof statements>

  constructor(db: Database) {
    this.#sql = statements(db)
  }

  /** Ids of a page. */
  async page(filter: RunFilter): Promise<string[]> {
    const chains = this.#chains(filter)
    const statuses = filter.status && filter.status.length > 0 ? [...new Set(filter.status)] : STATUSES
    const [first, ...others] = Object.entries(filter.metadata ?? {})
    if (first) return this.#byMetadata(filter, first, { chains, statuses, others })
    const top = topOf(filter)
    const found = chains.flatMap(chain =>
      statuses.flatMap(status =>
        this.#sql.range.all(
          ...[filter.apiKeyId, chain, status, filter.createdFrom ?? 0],
          ...[top.created_at, top.id, filter.limit],
        ),
      ),
    )
    return found
      .sort(newestFirst)
      .slice(0, filter.limit)
      .map(place => place.id)
  }

  async #byMetadata(
    filter: RunFilter,
    [key, value]: [string, string],
    fits: { chains: readonly string[]; statuses: readonly string[]; others: readonly [string, string][] },
  ): Promise<string[]> {
    const ids: string[] = []
    const [chains, statuses] = [JSON.stringify(fits.chains), JSON.stringify(fits.statuses)]
    const others = JSON.stringify(fits.others.map(([name, text]) => ({ name, text })))
    let top = topOf(filter)
    for (;;) {
      const chunk = this.#sql.tagged.all(
        ...[filter.apiKeyId, key, value, filter.createdFrom ?? 0, top.created_at, top.id, CHUNK],
        ...[statuses, chains, others],
      )
      for (const place of chunk) if (place.fits === 1) ids.push(place.id)
      const last = chunk.at(-1)
      if (!last || chunk.length < CHUNK || ids.length >= filter.limit) return ids.slice(0, filter.limit)
      top = last
      await new Promise<void>(resolve => setImmediate(resolve))
    }
  }

  /** The chains that a filter names, by slug or alias, among those that the key has used. */
  #chains(filter: RunFilter): string[] {
    const used = this.#sql.used.all(filter.apiKeyId).map(row => row.slug)
    if (filter.chain === undefined) return used
    const named = new Set(this.#sql.named.all(filter.chain).map(row => row.slug))
    return used.filter(slug => named.has(slug))
  }
}

/** The first place after which the page begins; the end of `createdTo` is part of it. */
function topOf({ before, createdTo }: RunFilter): Place {
  const end = { created_at: createdTo ?? Number.MAX_SAFE_INTEGER, id: '\u{10ffff}' }
  return before && before.createdAt <= end.created_at ? { created_at: before.createdAt, id: before.id } : end
}

function newestFirst(a: Place, b: Place): number {
  return b.created_at - a.created_at || (a.id < b.id ? 1 : -1)
}

function statements(db: Database) {
  return {
    range: db.prepare<Place, (string | number)[]>(
      `SELECT id, created_at FROM runs
       WHERE api_key_id = ? AND chain_slug = ? AND status = ? AND created_at >= ? AND (created_at, id) < (?, ?)
       ORDER BY created_at DESC, id DESC LIMIT ?`,
    ),
    tagged: db.prepare<Place & { fits: number }, (string | number)[]>(
      `SELECT r.id, r.created_at,
         r.status IN (SELECT value FROM json_each(?8)) AND r.chain_slug IN (SELECT value FROM json_each(?9))
         AND NOT EXISTS (
           SELECT 1 FROM json_each(?10) o WHERE NOT EXISTS (
             SELECT 1 FROM run_metadata x
             WHERE x.run_id = r.id AND x.key = o.value ->> 'name' AND x.value = o.value ->> 'text')) AS fits
       FROM (
         SELECT run_id, created_at FROM run_metadata
         WHERE api_key_id = ?1 AND key = ?2 AND value = ?3 AND created_at >= ?4 AND (created_at, run_id) < (?5, ?6)
         ORDER BY created_at DESC, run_id DESC LIMIT ?7
       ) m CROSS JOIN runs r ON r.id = m.run_id
       ORDER BY m.created_at DESC, m.run_id DESC`,
    ),
    /** A walk from slug to slug through the index: as many steps as the key has used chains. */
    used: db.prepare<{ slug: string }, [string]>(
      `WITH RECURSIVE used (slug) AS (
         SELECT min(chain_slug) FROM runs WHERE api_key_id = ?1
         UNION ALL
         SELECT (SELECT min(chain_slug) FROM runs WHERE api_key_id = ?1 AND chain_slug > used.slug)
         FROM used WHERE used.slug IS NOT NULL
       ) SELECT slug FROM used WHERE slug IS NOT NULL`,
    ),
    named: db.prepare<{ slug: string }, [string]>(
      `SELECT DISTINCT slug FROM chains
       WHERE slug = ?1 OR EXISTS (SELECT 1 FROM json_each(body, '$.aliases') WHERE value = ?1)`,
    ),
  }
}
