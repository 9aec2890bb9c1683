/**
 * Which deliveries a claim takes.
 *
 * 1. Rank by rank: every host has its first before any has its second; of each key, and of retries, no more than their share.
 * 2. What may not be claimed now (its key is at its limit, or it is a retry and they have no places) takes nobody's place:
 *    its host is read on behind it.
 * 3. A first look is a walk over the hosts that have waiting deliveries, and of each host no more rows than it has
 *    places: ten thousand deliveries for one dead host cost nothing.
 * 4. Reading on has a limit for each claim. Beyond it the next claims go on: within a host from where its reading ended,
 *    and with the hosts that had none of it before any other reads on again. The oldest rows are looked at each time.
 */
import type { Database } from 'bun:sqlite'
import type { ClaimOrder } from '../../core/delivery.ts'

/** A delivery that may be claimed. */
interface Candidate {
  rowid: number
  api_key_id: string
  ready_at: number
  attempts: number
}

/** A place in the order in which the deliveries of a host are read. */
type Place = Pick<Candidate, 'ready_at' | 'rowid'>

/** The due deliveries of a host, oldest first, as far as they are read. */
interface Line {
  host: string
  /** How many of them may be taken. */
  room: number
  taken: number
  /** When the next one was due. */
  readyAt: number
  rows: Candidate[]
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

export class Claims {
  readonly #sql: ReturnType<typeof statements>
  /** Where reading on ended without finding enough. A restart forgets it, and begins with the oldest ones again. */
  readonly #readTo = new Map<string, Place>()
  /** Hosts for which nothing was left to read on: until each had its turn, no other host reads on. */
  #waiting: ReadonlySet<string> = new Set()

  constructor(db: Database) {
    this.#sql = statements(db)
  }

  /** The rowids of those to lease. */
  choose(order: ClaimOrder): number[] {
    const { at, limit, perKey } = order
    const used = new Map(Object.entries(order.inFlightOfKeys))
    const reading = { at, left: READ_ON, denied: new Set<string>() }
    let retriesLeft = order.retries
    const mayTake = ({ api_key_id, attempts }: Candidate): boolean =>
      (used.get(api_key_id) ?? 0) < perKey && (attempts === 0 || retriesLeft > 0)
    const chosen: number[] = []
    let lines = this.#lines(order)
    while (lines.length > 0 && chosen.length < limit) {
      const again: Line[] = []
      for (const line of lines.sort((a, b) => a.readyAt - b.readyAt)) {
        if (chosen.length === limit) break
        const row = this.#first(line, mayTake, reading)
        if (!row) continue
        used.set(row.api_key_id, (used.get(row.api_key_id) ?? 0) + 1)
        if (row.attempts > 0) retriesLeft -= 1
        chosen.push(row.rowid)
        line.taken += 1
        line.readyAt = line.rows[line.next]?.ready_at ?? row.ready_at
        if (line.taken < line.room) again.push(line)
      }
      lines = again
    }
    this.#waiting = reading.denied
    return chosen
  }

  /** The hosts that have due deliveries, and places for them. */
  #lines({ at, perHost, inFlight, closed }: ClaimOrder): Line[] {
    const hosts = this.#sql.hosts.all()
    if (this.#readTo.size > 0) {
      const known = new Set(hosts.map(each => each.host))
      for (const host of this.#readTo.keys()) if (!known.has(host)) this.#readTo.delete(host)
    }
    const room = (host: string): number => (closed.includes(host) ? 0 : perHost - (inFlight[host] ?? 0))
    return hosts
      .filter(each => each.ready_at <= at && room(each.host) > 0)
      .map(({ host, ready_at: readyAt }) => {
        const unread = { rows: [], next: 0, looks: 0, isOver: false }
        return { host, room: room(host), taken: 0, readyAt, ...unread }
      })
  }

  /** The oldest one that may be taken, of those that are not passed yet. */
  #first(line: Line, mayTake: (row: Candidate) => boolean, reading: Reading): Candidate | null {
    for (;;) {
      const row = line.rows[line.next]
      if (row) {
        line.next += 1
        if (mayTake(row)) return row
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
      const from = looks === 1 ? later(last, this.#readTo.get(host)) : last
      line.rows = this.#sql.after.all(host, at, from.ready_at, from.rowid, STEP)
      line.isOver = line.rows.length < STEP
      reading.left -= Math.max(LEAST, line.rows.length)
    } else {
      if (looks > 1) this.#readTo.set(host, last)
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
    /** By a walk through the index: each host with deliveries that wait, and when its first one may be claimed. */
    hosts: db.prepare<{ host: string; ready_at: number }, []>(
      `WITH RECURSIVE hosts (host) AS (
         SELECT min(host) FROM deliveries WHERE status = 'pending'
         UNION ALL
         SELECT (SELECT min(d.host) FROM deliveries d WHERE d.status = 'pending' AND d.host > hosts.host)
         FROM hosts WHERE hosts.host IS NOT NULL
       )
       SELECT host, (SELECT min(d.ready_at) FROM deliveries d WHERE d.status = 'pending' AND d.host = hosts.host) AS ready_at
       FROM hosts WHERE host IS NOT NULL`,
    ),
    first: db.prepare<Candidate, [host: string, at: number, count: number]>(
      `SELECT rowid, api_key_id, ready_at, attempts FROM deliveries WHERE host = ? AND status = 'pending' AND ready_at <= ?
       ORDER BY ready_at, rowid LIMIT ?`,
    ),
    after: db.prepare<Candidate, [host: string, at: number, readyAt: number, rowid: number, count: number]>(
      `SELECT rowid, api_key_id, ready_at, attempts FROM deliveries WHERE host = ?1 AND status = 'pending'
         AND ready_at <= ?2 AND (ready_at, rowid) > (?3, ?4)
       ORDER BY ready_at, rowid LIMIT ?5`,
    ),
  }
}
