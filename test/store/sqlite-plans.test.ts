/** Every statement of the store is served by an index: nothing that a million runs would make slow. */
import { Database } from 'bun:sqlite'
import { expect, test } from 'bun:test'
import { only } from '../support/claims.ts'
import {
  apiKey,
  cancelTurn,
  creation,
  deliveryOf,
  output,
  queuedRun,
  T0,
  webhookSecret,
} from '../support/store-runs.ts'
import { openTempStore } from '../support/store-temp.ts'

/** What may be read from end to end: lists that a statement makes itself, and tables of a few rows. */
const SMALL = ['hosts', 'page', 'used', 'm', 'chains', 'counters', 'api_keys']

test('no statement reads a large table from end to end, and pages are read in order', async () => {
  const statements = new Set<string>()
  const { prepare } = Database.prototype
  Database.prototype.prepare = function (this: Database, sql: string, ...more: []) {
    statements.add(sql)
    return prepare.call(this, sql, ...more)
  } as typeof prepare
  const temp = await openTempStore()
  try {
    await useEverything(temp.store)
  } finally {
    Database.prototype.prepare = prepare
  }
  const plans = [...statements].filter(sql => /^\s*(select|insert|update|delete|with)\b/i.test(sql))
  expect(plans.length).toBeGreaterThan(40)
  for (const sql of plans) {
    const plan = temp.store.db
      .query<{ detail: string }, []>(`EXPLAIN QUERY PLAN ${sql}`)
      .all()
      .map(row => row.detail)
    const scans = plan.filter(line => /^SCAN /.test(line) && !/VIRTUAL TABLE|CONSTANT ROW|^SCAN \(subquery/.test(line))
    expect([sql, scans.filter(line => !SMALL.includes(line.split(' ')[1] ?? ''))]).toEqual([sql, []])
    const sorts = plan.filter(line => line.includes('TEMP B-TREE FOR ORDER BY'))
    expect([sql, sorts]).toEqual([sql, []])
  }
  await temp.dispose()
})

async function useEverything(store: Awaited<ReturnType<typeof openTempStore>>['store']): Promise<void> {
  const run = queuedRun({ metadata: { a: 'b' } })
  await store.create(creation(run, { idempotency: { key: 'k', fingerprint: 'f', response: '{}' } }))
  const delivery = deliveryOf(run)
  await store.commit(cancelTurn(run, delivery))
  await store.run(run.id)
  await store.runs({ apiKeyId: 'key_a', chain: 'line', limit: 5 })
  await store.runs({ apiKeyId: 'key_a', metadata: { a: 'b' }, limit: 5 })
  await store.due(T0, 5, run.id)
  await store.attemptByToken('t')
  for await (const _ of store.watch(run.id, 0, new AbortController().signal));
  const places = {
    limit: 5,
    retries: 5,
    perHost: 4,
    inFlight: {},
    closed: only(),
    probed: only(),
    perKey: 5,
    inFlightOfKeys: {},
  }
  await store.claim({ at: T0, leaseUntil: T0, leaseToken: 'L', ...places })
  await store.freeLeases()
  await store.nextDeliveryAt()
  await store.deliveriesOf(run.id)
  await store.deliveryAttempts(delivery.id)
  await store.delivery(delivery.id)
  for (const more of [{}, { runId: run.id }, { host: 'h:443' }, { status: ['gone'] as const }])
    await store.deliveries({ apiKeyId: 'key_a', limit: 5, ...more })
  await store.recover({ apiKeyId: 'key_a', since: 0, until: T0, at: T0, spacingMs: 1, limit: 5 })
  await store.resend(delivery.id, T0)
  await store.apiKeys()
  const key = apiKey()
  await store.saveApiKey(key, webhookSecret(key.id))
  await store.touchApiKeys({ [key.id]: T0 })
  await store.webhookSecrets(key.id)
  await store.rotateWebhookSecret(webhookSecret(key.id), T0)
  for await (const _ of store.spending(0, T0));
  const attempt = { no: 1, trigger: 'schedule' as const, startedAt: T0, durationMs: 1, ip: null, httpStatus: 200 }
  const rest = { errorClass: null, reply: null, nextAt: null, reason: null }
  const settlement = { deliveryId: delivery.id, leaseToken: 'L', at: T0, dueAt: null, counts: true, hostChange: null }
  await store.settle({ ...settlement, status: 'delivered', attempt: { ...attempt, ...rest } })
  await store.closedHosts(T0)
  const row = { ...output(), runId: run.id, stepId: null, apiKeyId: 'key_a', createdAt: T0, location: 'l' }
  await store.addMedia(row)
  await store.media(row.mediaId)
  await store.staleMedia(T0, 5)
  await store.removeMedia([row.mediaId], T0)
  await store.counts()
  await store.probe()
}
