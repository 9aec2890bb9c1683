/**
 * Which hosts have something due, so that a claim finds them without a walk over all hosts that wait.
 *
 * 1. What became due since the last claim is read by age before anything else, and its host is known from then on; what is
 *    written due is known at once. What was due before, at the start and once a minute, is read in parts with what is left.
 *    A host with nothing due is not looked at, however many wait.
 * 2. Hosts are known by key, and apart for first attempts and for retries: those of a key at its limit, and retries that
 *    have no places, are passed over together.
 * 3. Hosts that are closed to a key, or have no place left, are kept aside: they stand before nobody.
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
  /** How many hosts it is known of, with those that are kept aside. */
  known: number
}

/** A host that has something due, and places for it. */
export interface DueHost {
  room: number
  /** When its oldest one was due. */
  readyAt: number
  /** The groups that it was found in. */
  groups: Group[]
}

/** Rows that a claim reads by age, about two milliseconds: there are so many only after a start or an outage. */
const READ = 2_048
/** Hosts of a group that a claim gets beyond those that it may take, since not all of them give something. */
const SPARE = 16
/** Hosts that it gets of all groups, where those are many. */
const FOUND = 512
/** Groups that a claim looks at, of first attempts and of retries each: a host that everybody calls has one for every key. */
const LOOKED = 256
/** Hosts of a group that a claim passes, and of those kept aside that it asks about for a group. */
const PASSED = 512
/** Groups for which it asks about one of those: by any of them a host that has places is found, and all that it has due. */
const BACK = 16
/** Hosts that are known of a group: a key that has callbacks due at more of them waits for itself. */
const KNOWN = 20_000
/** So often all that is due is read again (ms). */
const ANEW_MS = 60_000
const START = Number.MIN_SAFE_INTEGER

export class DueHosts {
  readonly #sql: ReturnType<typeof statements>
  readonly #firsts = new Lane()
  readonly #retries = new Lane()
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
    const lanes = [this.#firsts, this.#retries]
    for (const lane of lanes) lane.bringBack(order, room)
    const groups = lanes.reduce((sum, lane) => sum + lane.looked, 0)
    const share = Math.max(1, Math.floor(FOUND / groups))
    for (const lane of lanes) lane.find({ order, room, mayTake, most: Math.min(share, order.limit + SPARE) }, found)
    return found
  }

  /** What a claim left of a host: as far as it read, or all; with `hadTurn` the others of its groups come before it. */
  served(host: string, { groups }: DueHost, left: readonly DueRow[], isAll: boolean, hadTurn: boolean): void {
    const oldest = [new Map<string, number>(), new Map<string, number>()] as const
    for (const { api_key_id, attempts, ready_at } of left) {
      const since = oldest[attempts > 0 ? 1 : 0]
      if (!since.has(api_key_id)) since.set(api_key_id, ready_at)
    }
    for (const group of groups) {
      const { api_key_id, isRetry } = group.kind
      const next = oldest[isRetry ? 1 : 0].get(api_key_id)
      const since = next ?? group.open.get(host)
      if (isAll && next === undefined) this.#lane(isRetry).forget(group, host)
      else if (hadTurn && since !== undefined) {
        group.open.delete(host)
        group.open.set(host, since)
      }
    }
  }

  #read(at: number): void {
    const before = this.#readTo
    this.#readTo = at
    let left = READ
    if (at > before && before !== START) {
      const rows = this.#readFrom({ readyAt: before, rowid: Number.MAX_SAFE_INTEGER }, at, left)
      const last = rows.at(-1)
      if (last && rows.length === left) this.readAgain(last.ready_at)
      left -= rows.length
    }
    // A clock that was set back does not put it off. What was forgotten as not yet due is read as it becomes due once more.
    this.#anewAt = Math.min(this.#anewAt, at + ANEW_MS)
    // One that is not at its end is not begun anew: it would never get there.
    if (this.#again === null && at >= this.#anewAt) {
      this.readAgain()
      this.#anewAt = at + ANEW_MS
    }
    if (this.#again === null || left === 0) return
    const rows = this.#readFrom(this.#again, at, left)
    const last = rows.at(-1)
    this.#again = last && rows.length === left ? { readyAt: last.ready_at, rowid: last.rowid } : null
  }

  #readFrom({ readyAt, rowid }: { readyAt: number; rowid: number }, at: number, most: number): DueRow[] {
    const rows = this.#sql.due.all(at, readyAt, rowid, most)
    for (const row of rows) this.#know(row.host, row.api_key_id, row.attempts > 0, row.ready_at)
    return rows
  }

  #know(host: string, apiKeyId: string, isRetry: boolean, since: number): void {
    this.#lane(isRetry).know(host, { api_key_id: apiKeyId, isRetry }, since)
  }

  #lane(isRetry: boolean): Lane {
    return isRetry ? this.#retries : this.#firsts
  }
}

type Found = Map<string, DueHost>
/** Of hosts that are kept aside: the groups that have something due there, and since when. */
type Aside = Map<string, Map<Group, number>>
type Stays = (host: string, kind: Kind) => boolean

/** What a claim asks a lane for. */
interface Search {
  order: ClaimOrder
  room: (host: string) => number
  mayTake: (kind: Kind) => boolean
  /** Hosts of each group. */
  most: number
}

/** The groups of first attempts, or those of retries. */
class Lane {
  /** All groups, by key. */
  readonly #groups = new Map<string, Group>()
  /** Those that have a host that is not kept aside; the one that was looked at longest ago comes first. */
  readonly #turns = new Set<Group>()
  /** Hosts that were closed to the key when a claim came across them. */
  readonly #closed: Aside = new Map()
  /** Those that had no place: never many more than there are places, so that one that has a place is found at once. */
  readonly #full: Aside = new Map()

  /** How many groups a claim looks at. */
  get looked(): number {
    return Math.min(LOOKED, this.#turns.size)
  }

  know(host: string, kind: Kind, since: number): void {
    const group = this.#groups.get(kind.api_key_id) ?? { kind, open: new Map(), known: 0 }
    const full = this.#full.get(host)
    const isClosed = this.#closed.get(host)?.has(group)
    const known = group.open.get(host)
    if (known !== undefined) group.open.set(host, Math.min(known, since))
    if (known !== undefined || isClosed || full?.has(group) || group.known >= KNOWN) return
    this.#groups.set(kind.api_key_id, group)
    group.known += 1
    if (full) full.set(group, since)
    else this.#open(group, host, since)
  }

  /** Nothing more of the group is due at this host. */
  forget(group: Group, host: string): void {
    if (!group.open.delete(host)) return
    group.known -= 1
    if (group.open.size === 0) this.#turns.delete(group)
    if (group.known === 0) this.#groups.delete(group.kind.api_key_id)
  }

  /** Has those back that are closed no longer, and those that have places again. */
  bringBack({ closed }: ClaimOrder, room: (host: string) => number): void {
    this.#bringBack(this.#closed, (host, { api_key_id }) => closed(host).has(api_key_id))
    this.#bringBack(this.#full, host => room(host) <= 0)
  }

  find({ order, room, mayTake, most }: Search, found: Found): void {
    let left = this.looked
    for (const group of this.#turns) {
      if (left === 0) return
      left -= 1
      this.#turns.delete(group)
      if (mayTake(group.kind)) this.#findOf(group, order, room, most, found)
      if (group.open.size > 0) this.#turns.add(group)
    }
  }

  #findOf(group: Group, { closed }: ClaimOrder, room: (host: string) => number, most: number, found: Found): void {
    let wanted = most
    let left = PASSED
    for (const [host, since] of group.open) {
      if (wanted === 0 || left === 0) return
      left -= 1
      const places = room(host)
      const aside = closed(host).has(group.kind.api_key_id) ? this.#closed : places <= 0 ? this.#full : null
      if (aside) {
        group.open.delete(host)
        aside.set(host, (aside.get(host) ?? new Map<Group, number>()).set(group, since))
        continue
      }
      const known = found.get(host)
      if (known) {
        known.readyAt = Math.min(known.readyAt, since)
        known.groups.push(group)
      } else found.set(host, { room: places, readyAt: since, groups: [group] })
      wanted -= 1
    }
  }

  #bringBack(aside: Aside, stays: Stays): void {
    let hosts = aside.size
    let left = PASSED
    for (const [host, groups] of aside) {
      if (hosts === 0 || left <= 0) return
      hosts -= 1
      left -= Math.min(BACK, groups.size)
      aside.delete(host)
      this.#openSome(host, groups, stays)
      if (groups.size > 0) aside.set(host, groups)
    }
  }

  #openSome(host: string, groups: Map<Group, number>, stays: Stays): void {
    let left = Math.min(BACK, groups.size)
    for (const [group, since] of groups) {
      if (left === 0) return
      left -= 1
      groups.delete(group)
      if (stays(host, group.kind)) groups.set(group, since)
      else this.#open(group, host, since)
    }
  }

  #open(group: Group, host: string, since: number): void {
    group.open.set(host, since)
    this.#turns.add(group)
  }
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
