/**
 * Which hosts have something due, so that a claim finds them without a walk over all hosts that wait.
 *
 * 1. What became due since the last claim is read by age, and its host is known from then on; what is written due is known
 *    at once. What was due before the start is read in parts. A host with nothing due is not looked at, however many wait.
 * 2. Hosts are known by key, and apart for first attempts and for retries: those of a key at its limit, and retries that
 *    have no places, are passed over together.
 * 3. Closed hosts are kept aside: they stand before nobody.
 * 4. What is known is a hint: the claim reads the host before it takes anything, and forgets it when nothing more of it is
 *    due. A write that is taken back leaves a hint too many; after a claim that is taken back, all that is due is read anew.
 * 5. All that a claim does here has a limit; what is beyond it has its turn in the next ones.
 */
import type { Database } from 'bun:sqlite'
import type { ClaimOrder } from '../../core/delivery.ts'

/** A delivery that is due. */
export interface DueRow {
  rowid: number
  api_key_id: string
  ready_at: number
  attempts: number
}

/** By what it is decided whether there is a place for a delivery, where its host has one. */
export interface Kind {
  api_key_id: string
  isRetry: boolean
}

/** Deliveries of one key, all first attempts or all retries: as far as keys and retries go, any may be taken or none. */
interface Group {
  /** What all of them have in common. */
  kind: Kind
  /** Hosts that have some of them due, and since when; the one that was served longest ago comes first. */
  open: Map<string, number>
  /** Those that were closed when a claim came across them. */
  closed: Map<string, number>
}

/** A host that has something due, and places for it. */
export interface DueHost {
  room: number
  /** When its oldest one was due. */
  readyAt: number
  /** The groups that it was found in. */
  groups: readonly Group[]
}

/** Rows that a claim reads by age, about two milliseconds: there are so many only after a start or an outage. */
const READ = 2_048
/** Hosts of a group that a claim gets beyond those that it may take, since not all of them give something. */
const SPARE = 16
/** Hosts that it gets of all groups, where those are many. */
const FOUND = 512
/** Hosts of a group that a claim passes. */
const PASSED = 512
/** Hosts that are known of a group: a key that has callbacks due at more of them waits for itself. */
const KNOWN = 20_000
/** So often all that is due is read again (ms). */
const ANEW_MS = 60_000
const START = Number.MIN_SAFE_INTEGER

export class DueHosts {
  readonly #sql: ReturnType<typeof statements>
  readonly #groups = new Map<string, Group>()
  /** Whatever was due at this time is known, but for what is yet to be read again. */
  #readTo = START
  /** From where on that is. */
  #again: { readyAt: number; rowid: number } | null = null
  #anewAt = START

  constructor(db: Database) {
    this.#sql = statements(db)
  }

  /** A delivery was written that may be claimed at `readyAt`. */
  add(host: string, apiKeyId: string, attempts: number, readyAt: number): void {
    if (readyAt <= this.#readTo) this.#know(host, apiKeyId, attempts > 0, readyAt)
  }

  /** Something was written that may be claimed at `readyAt`; without a time: what was forgotten is to be known again. */
  readAgain(readyAt = START): void {
    if (readyAt <= this.#readTo && readyAt < (this.#again?.readyAt ?? Infinity)) this.#again = { readyAt, rowid: START }
  }

  /** Hosts with places and with something due that this claim may take. */
  find(order: ClaimOrder, room: (host: string) => number, mayTake: (kind: Kind) => boolean): Found {
    this.#read(order.at)
    const found: Found = new Map()
    const share = Math.max(1, Math.floor(FOUND / this.#groups.size))
    for (const [name, group] of this.#groups) {
      if (!mayTake(group.kind)) continue
      this.#reopen(group, order)
      this.#findOf(group, order, room, share, found)
      if (group.open.size + group.closed.size === 0) this.#groups.delete(name)
    }
    return found
  }

  /** What a claim left of a host: as far as it read, or all; with `hadTurn` the others of its groups come before it. */
  served(host: string, { groups }: DueHost, left: readonly DueRow[], isAll: boolean, hadTurn: boolean): void {
    for (const { kind, open } of groups) {
      const next = left.find(row => isOf(row, kind))
      const since = next?.ready_at ?? open.get(host)
      if (hadTurn || (isAll && !next)) open.delete(host)
      if (hadTurn && since !== undefined && !(isAll && !next)) open.set(host, since)
    }
  }

  #findOf(group: Group, order: ClaimOrder, room: (host: string) => number, most: number, found: Found): void {
    const { open, closed: aside } = group
    let wanted = Math.min(most, order.limit + SPARE)
    let left = PASSED
    for (const [host, since] of open) {
      if (wanted === 0 || left === 0) return
      left -= 1
      if (order.closed.includes(host)) {
        open.delete(host)
        aside.set(host, since)
        continue
      }
      const places = room(host)
      if (places <= 0) continue
      const { readyAt, groups } = found.get(host) ?? { readyAt: since, groups: [] }
      found.set(host, { room: places, readyAt: Math.min(readyAt, since), groups: [...groups, group] })
      wanted -= 1
    }
  }

  /** Brings back those that are closed no longer. */
  #reopen({ open, closed: aside }: Group, { closed }: ClaimOrder): void {
    let left = Math.min(aside.size, PASSED)
    for (const [host, since] of aside) {
      if (left === 0) return
      left -= 1
      aside.delete(host)
      if (closed.includes(host)) aside.set(host, since)
      else open.set(host, since)
    }
  }

  #read(at: number): void {
    const before = this.#readTo
    this.#readTo = at
    // After a clock was set back, what was forgotten as not yet due is due once more.
    if (at < before || at >= this.#anewAt) {
      this.readAgain()
      this.#anewAt = at + ANEW_MS
    } else {
      const last = this.#readFrom({ readyAt: before, rowid: Number.MAX_SAFE_INTEGER }, at)
      if (last) this.readAgain(last.ready_at)
    }
    if (!this.#again) return
    const last = this.#readFrom(this.#again, at)
    this.#again = last ? { readyAt: last.ready_at, rowid: last.rowid } : null
  }

  /** Gives the last row where there may be more. */
  #readFrom({ readyAt, rowid }: { readyAt: number; rowid: number }, at: number): DueRow | null {
    const rows = this.#sql.due.all(at, readyAt, rowid, READ)
    for (const row of rows) this.#know(row.host, row.api_key_id, row.attempts > 0, row.ready_at)
    return rows.length < READ ? null : (rows.at(-1) ?? null)
  }

  #know(host: string, apiKeyId: string, isRetry: boolean, since: number): void {
    const name = `${isRetry} ${apiKeyId}`
    const kind = { api_key_id: apiKeyId, isRetry }
    const group = this.#groups.get(name) ?? { kind, open: new Map(), closed: new Map() }
    this.#groups.set(name, group)
    const { open, closed } = group
    if (open.size + closed.size < KNOWN && !open.has(host) && !closed.has(host)) open.set(host, since)
  }
}

type Found = Map<string, DueHost>

function isOf({ api_key_id, attempts }: DueRow, kind: Kind): boolean {
  return api_key_id === kind.api_key_id && attempts > 0 === kind.isRetry
}

function statements(db: Database) {
  return {
    due: db.prepare<DueRow & { host: string }, [at: number, readyAt: number, rowid: number, count: number]>(
      `SELECT rowid, host, api_key_id, ready_at, attempts FROM deliveries INDEXED BY deliveries_ready
       WHERE status = 'pending' AND ready_at <= ?1 AND (ready_at, rowid) > (?2, ?3)
       ORDER BY ready_at, rowid LIMIT ?4`,
    ),
  }
}
