/** Claims of deliveries on a store of which some reading is counted. */
import { Database } from 'bun:sqlite'
import type { ClaimedDelivery, ClaimOrder, NewDelivery } from '../../src/core/delivery.ts'
import { cancelTurn, creation, deliveryOf, queuedRun, T0 } from './store-runs.ts'
import { openTempStore, type TempStore } from './store-temp.ts'

export interface CountedStore {
  temp: TempStore
  /** What the last claim, and all since, asked with the statements that are counted. */
  asked: { times: number; rows: number }
  /** Deliveries that wait to be sent, each of a run of its own. */
  deliver(wishes: Partial<NewDelivery>[]): Promise<NewDelivery[]>
  /** Claims at T0 and with places for many, unless told otherwise. */
  claim(more?: Partial<ClaimOrder>): Promise<ClaimedDelivery[]>
}

/** What is closed, or probed, at a claim: these hosts, for every key or for one. */
export function only(hosts: readonly string[] = [], apiKeyId?: string): ClaimOrder['closed'] {
  return host => ({ has: each => hosts.includes(host) && each === (apiKeyId ?? each) })
}

/** Counts the statements that `pattern` is found in. */
export async function openCountedStore(pattern: RegExp): Promise<CountedStore> {
  const asked = { times: 0, rows: 0 }
  const temp = await withCounted(pattern, asked, openTempStore)
  const deliver = (wishes: Partial<NewDelivery>[]) =>
    Promise.all(
      wishes.map(async wish => {
        const run = queuedRun()
        await temp.store.create(creation(run))
        const delivery = deliveryOf(run, wish)
        await temp.store.commit(cancelTurn(run, delivery))
        return delivery
      }),
    )
  const claim = (more: Partial<ClaimOrder> = {}) => {
    Object.assign(asked, { times: 0, rows: 0 })
    return temp.store.claim({
      ...{ at: T0, leaseUntil: T0 + 45_000, leaseToken: 'L', limit: 64, retries: 32, perHost: 4 },
      ...{ inFlight: {}, closed: only(), probed: only(), perKey: 48, inFlightOfKeys: {} },
      ...more,
    })
  }
  return { temp, asked, deliver, claim }
}

/** Statements that are prepared meanwhile are counted for as long as they live. */
async function withCounted<T>(pattern: RegExp, asked: CountedStore['asked'], work: () => Promise<T>): Promise<T> {
  const { prepare } = Database.prototype
  Database.prototype.prepare = function (this: Database, sql: string, ...more: []) {
    const statement = prepare.call(this, sql, ...more)
    if (!pattern.test(sql)) return statement
    const { all, get } = statement
    statement.all = (...values) => {
      const rows = all.apply(statement, values)
      asked.times += 1
      asked.rows += rows.length
      return rows
    }
    statement.get = (...values) => {
      asked.times += 1
      return get.apply(statement, values)
    }
    return statement
  } as typeof prepare
  try {
    return await work()
  } finally {
    Database.prototype.prepare = prepare
  }
}
