/**
 * What every key has spent today (UTC), and whether the next attempt still fits its daily budget.
 *
 * 1. Synchronous and in memory: an attempt is booked with its estimate when it is routed, before any other is looked at,
 *    so that attempts side by side cannot pass the budget together.
 * 2. A booking is replaced by what the attempt cost in the end, and counts on the day on which the attempt began. What a late
 *    result cost replaces that.
 * 3. After a start the ledger is read from the store, up to that start; booking the same attempt again changes nothing. A late
 *    result that comes while it is read may count twice: too much until the day ends or the next start, never too little.
 * 4. Without a known price there is no promise: a key with a budget does not begin such an attempt.
 */
import { type StepError, stepError } from '../core/errors.ts'
import { isWithin } from '../core/money.ts'
import type { Store } from '../core/ports.ts'

const DAY_MS = 86_400_000

interface Day {
  startsAt: number
  /** What ended attempts cost, and what those under way are estimated at. */
  usd: number
  /** Estimates of attempts under way, by attempt. */
  booked: Map<string, number>
}

export interface Booking {
  apiKeyId: string
  stepId: string
  /** Number of the attempt. */
  no: number
  /** When it begins or began (ms). */
  startedAt: number
}

export class Budget {
  readonly #days = new Map<string, Day>()
  readonly #limitOf: (apiKeyId: string) => number | null

  /** `limitOf` gives the daily budget of a key in US dollars, or null. */
  constructor(limitOf: (apiKeyId: string) => number | null) {
    this.#limitOf = limitOf
  }

  /** Takes up what the store knows of the day of `at`, until `at`: what begins later is booked as it begins. It rests after each piece. */
  async load(store: Pick<Store, 'spending'>, at: number, rest: () => Promise<void> = async () => {}): Promise<void> {
    for await (const piece of store.spending(dayOf(at), at + 1)) {
      for (const { apiKeyId, usd, attempt } of piece) {
        if (attempt) this.book({ apiKeyId, ...attempt }, usd)
        else this.#add(this.#day(apiKeyId, at), usd)
      }
      await rest()
    }
  }

  /** Why the next attempt would pass the budget of its key; null when it may be made, and then is to be booked. */
  refuses(booking: Booking, estimateUsd: number | null): StepError | null {
    const limit = this.#limitOf(booking.apiKeyId)
    if (limit === null) return null
    const day = this.#day(booking.apiKeyId, booking.startedAt)
    // The same attempt, routed again: its first booking is not a second attempt.
    const spent = day.usd - (day.booked.get(keyOf(booking)) ?? 0)
    const fits = estimateUsd !== null && isWithin(spent + estimateUsd, limit)
    return fits ? null : refusal(estimateUsd, spent, limit, day.startsAt + DAY_MS)
  }

  /** Books an attempt that begins, or is under way. */
  book(booking: Booking, usd: number): void {
    const day = this.#day(booking.apiKeyId, booking.startedAt)
    const key = keyOf(booking)
    this.#add(day, usd - (day.booked.get(key) ?? 0))
    day.booked.set(key, usd)
  }

  /** An attempt has ended, or was never begun (`usd` 0). */
  settle(booking: Booking, usd: number): void {
    const day = this.#days.get(booking.apiKeyId)
    const key = keyOf(booking)
    const booked = day?.booked.get(key)
    if (day?.startsAt !== dayOf(booking.startedAt) || booked === undefined) return
    day.booked.delete(key)
    this.#add(day, usd - booked)
  }

  /** An attempt that was settled cost so much more, or less. */
  correct(apiKeyId: string, startedAt: number, byUsd: number): void {
    if (byUsd !== 0) this.#add(this.#day(apiKeyId, startedAt), byUsd)
  }

  /** What a key has spent and booked on the day of `at`, in US dollars. */
  spent(apiKeyId: string, at: number): number {
    const day = this.#days.get(apiKeyId)
    return day?.startsAt === dayOf(at) ? day.usd : 0
  }

  /** To a billionth of a dollar: what a million additions leave behind must not add up. */
  #add(day: Day, usd: number): void {
    day.usd = Math.round((day.usd + usd) * 1e9) / 1e9
  }

  /** The day of a key; an earlier one is over. An attempt of an earlier day counts nowhere any more. */
  #day(apiKeyId: string, at: number): Day {
    const startsAt = dayOf(at)
    const known = this.#days.get(apiKeyId)
    if (known?.startsAt === startsAt) return known
    const fresh = { startsAt, usd: 0, booked: new Map<string, number>() }
    if (known === undefined || known.startsAt < startsAt) this.#days.set(apiKeyId, fresh)
    return fresh
  }
}

function refusal(estimate: number | null, spent: number, limit: number, endsAt: number): StepError {
  const next = estimate === null ? 'has no known price' : `costs ${estimate.toFixed(4)} USD`
  const used = `${spent.toFixed(4)} USD of the key's daily budget of ${limit.toFixed(4)} USD are spent or under way`
  const detail = `the next attempt ${next}; ${used}; a new day begins at ${new Date(endsAt).toISOString()}`
  return stepError('budget_exceeded', detail, { hint: hintFor(estimate, limit) })
}

/** Waiting is advised only where a whole day is enough. */
function hintFor(estimate: number | null, limit: number): string {
  if (estimate === null)
    return 'Resume the run with a model that has a listed price, or with no daily budget on the key.'
  const raise = 'raise the daily budget of the key'
  return isWithin(estimate, limit)
    ? `Resume the run on the next day (UTC), or ${raise} and resume it now; finished steps are kept.`
    : `The whole budget of a day is less than this: ${raise}, or resume the run with a cheaper model or parameters in input.`
}

/** When the day (UTC) of a time began. */
function dayOf(at: number): number {
  return Math.floor(at / DAY_MS) * DAY_MS
}

function keyOf({ stepId, no }: Booking): string {
  return `${stepId}/${no}`
}
