/**
 * Which deliveries a claim takes.
 *
 * 1. Rank by rank: every host has its first before any has its second; of each key, and of retries, no more than their share.
 * 2. What may not be claimed now (its key is at its limit, or its host closed to it, or it is a retry and they have no places)
 *    takes nobody's place: its host is read on behind it.
 * 3. A first look is at the hosts that have something due, and of each host at no more rows than it has places: neither
 *    ten thousand deliveries for one dead host cost anything, nor one for each of ten thousand (`due-hosts.ts`).
 * 4. Reading on has a limit for each claim. Beyond it the next claims go on: within a host from where its reading ended,
 *    and with the hosts that had none of it before any other reads on again. The oldest rows are looked at each time.
 */
import type { Database } from 'bun:sqlite'
import type { ClaimOrder } from '../../core/delivery.ts'
import { remember } from '../../core/remember.ts'
import { type DueHost, DueHosts, type DueRow, type Kind } from './due-hosts.ts'

/** A place in the order in which the deliveries of a host are read. */
type Place = Pick<DueRow, 'ready_at' | 'rowid'>

/** The due deliveries of a host, oldest first, as far as they are read. */
interface Line extends DueHost {
  host: string
  /** Keys to which it is closed, and those whose probe is among the chosen: they may have nothing of it. */
  closed: Pick<ReadonlySet<string>, 'has'>
  probes: Set<string>
  /** Where the first one begins that is not shut out, as far as that is known, once one that is was passed. */
  skipTo: Place | undefined
  taken: number
  rows: DueRow[]
  next: number
  /** How often it was read: the first look, and then on. */
  looks: number
  /** True when no more are due. */
  isOver: boolean
}

/** Rows that all hosts of a claim may be read on over, about a millisecond; and those of one step. */
const READ_ON = 512
const STEP = 32
/** What a step counts for at least: to ask for no row is work as well. */
const LEAST = 16
/** Before the first row of its time. */
const START = Number.MIN_SAFE_INTEGER
/** Hosts of which it is remembered where reading on ended. */
const REMEMBERED = 1_000

export class Claims {
  readonly #sql: ReturnType<typeof statements>
  /** To be told of what is written. */
  readonly due: DueHosts
  /** Where reading on ended without finding enough. A restart forgets it, and begins with the oldest ones again. */
  readonly #readTo = new Map<string, Place>()
  /** Hosts for which nothing was left to read on: until each had its turn, no other host reads on. */
  #waiting: ReadonlySet<string> = new Set()

  constructor(db: Database) {
    this.#sql = statements(db)
    this.due = new DueHosts(db)
  }

  /** The rowids of those to lease. */
  choose(order: ClaimOrder): number[] {
    const { at, limit, perKey, probed } = order
    const used = new Map(Object.entries(order.inFlightOfKeys))
    const reading = { at, left: READ_ON, denied: new Set<string>() }
    let retriesLeft = order.retries
    const mayTake = ({ api_key_id, isRetry }: Kind): boolean =>
      (used.get(api_key_id) ?? 0) < perKey && (!isRetry || retriesLeft > 0)
    const chosen: number[] = []
    const all = this.#lines(order, mayTake)
    let lines = all
    while (lines.length > 0 && chosen.length < limit) {
      const again: Line[] = []
      for (const line of lines.sort((a, b) => a.readyAt - b.readyAt)) {
        if (chosen.length === limit) break
        const row = this.#first(line, mayTake, reading)
        if (!row) continue
        used.set(row.api_key_id, (used.get(row.api_key_id) ?? 0) + 1)
        if (row.attempts > 0) retriesLeft -= 1
        if (probed(line.host).has(row.api_key_id)) line.probes.add(row.api_key_id)
        chosen.push(row.rowid)
        line.taken += 1
        line.readyAt = line.rows[line.next]?.ready_at ?? row.ready_at
        if (line.taken < line.room) again.push(line)
      }
      lines = again
    }
    this.#waiting = reading.denied
    const taken = new Set(chosen)
    for (const line of all) {
      if (line.looks === 0) continue
      const isAll = line.looks === 1 && line.isOver
      const left = line.rows.filter(row => !taken.has(row.rowid))
      const hadTurn = line.taken > 0 || line.looks > 1 || reading.denied.has(line.host)
      this.due.served(line.host, line, left, isAll, hadTurn)
    }
    return chosen
  }

  /** Hosts that have due deliveries, and places for them. */
  #lines(order: ClaimOrder, mayTake: (kind: Kind) => boolean): Line[] {
    const { perHost, inFlight, closed } = order
    const room = (host: string): number => perHost - (inFlight[host] ?? 0)
    const found = this.due.find(order, room, mayTake)
    this.#waiting = new Set([...this.#waiting].filter(host => found.has(host)))
    return [...found].map(([host, due]) => {
      const unread = { rows: [], next: 0, looks: 0, isOver: false, skipTo: undefined }
      return { ...due, host, closed: closed(host), probes: new Set(), taken: 0, ...unread }
    })
  }

  /** The oldest one that may be taken, of those that are not passed yet. */
  #first(line: Line, mayTake: (kind: Kind) => boolean, reading: Reading): DueRow | null {
    const { closed, probes } = line
    // What it was found for may have no places left by now.
    if (!line.groups.some(({ kind }) => mayTake(kind) && !probes.has(kind.api_key_id))) return null
    for (;;) {
      const row = line.rows[line.next]
      if (row) {
        line.next += 1
        const { api_key_id, attempts } = row
        if (closed.has(api_key_id)) line.skipTo = { ready_at: line.readyAt, rowid: START }
        else if (!probes.has(api_key_id) && mayTake({ api_key_id, isRetry: attempts > 0 })) return row
      } else if (line.isOver || !this.#look(line, reading)) return null
    }
  }

  /** Reads more of a host; false when that is not for this claim. */
  #look(line: Line, reading: Reading): boolean {
    const { host, room, rows, looks } = line
    const { at } = reading
    const last = rows.at(-1)
    if (!last) {
      line.rows = this.#sql.first.all(host, at, room)
      line.isOver = line.rows.length < room
    } else if (this.#mayReadOn(line, reading)) {
      const from = looks === 1 ? later(later(last, this.#readTo.get(host)), line.skipTo) : last
      line.rows = this.#sql.after.all(host, at, from.ready_at, from.rowid, STEP)
      line.isOver = line.rows.length < STEP
      reading.left -= Math.max(LEAST, line.rows.length)
    } else {
      if (looks > 1) remember(this.#readTo, host, last, REMEMBERED)
      return false
    }
    line.next = 0
    line.looks += 1
    if (line.isOver) this.#readTo.delete(host)
    return true
  }

  #mayReadOn({ host, looks }: Line, reading: Reading): boolean {
    const isFirst = looks === 1
    if (this.#waiting.size > 0 && !(isFirst && this.#waiting.has(host))) return false
    if (reading.left > 0) return true
    if (isFirst) reading.denied.add(host)
    return false
  }
}

/** What a claim has read on. */
interface Reading {
  at: number
  left: number
  denied: Set<string>
}

function later(a: Place, b: Place = a): Place {
  return a.ready_at > b.ready_at || (a.ready_at === b.ready_at && a.rowid > b.rowid) ? a : b
}

function statements(db: Database) {
  return {
    first: db.prepare<DueRow, [host: string, at: number, count: number]>(
      `SELECT rowid, api_key_id, ready_at, attempts FROM deliveries WHERE host = ? AND status = 'pending' AND ready_at <= ?
       ORDER BY ready_at, rowid LIMIT ?`,
    ),
    after: db.prepare<DueRow, [host: string, at: number, readyAt: number, rowid: number, count: number]>(
      `SELECT rowid, api_key_id, ready_at, attempts FROM deliveries WHERE host = ?1 AND status = 'pending'
         AND ready_at <= ?2 AND (ready_at, rowid) > (?3, ?4)
       ORDER BY ready_at, rowid LIMIT ?5`,
    ),
  }
}
