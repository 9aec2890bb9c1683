/**
 * The tables, as drizzle knows them: the source of `drizzle/` (npm run db:generate) and the dictionary of SQL names.
 *
 * 1. Times are integers of milliseconds since the epoch (UTC). SQLite would take a text for a number: `whole` refuses it.
 * 2. What a run was asked is written once (`run_inputs`), apart from what becomes of it, so that a commit never
 *    rewrites a megabyte of input.
 * 3. A run is open exactly while it has a wake time: a run that nobody owns cannot be written.
 * 4. One callback per run: a second terminal delivery breaks an index.
 * 5. Every query of the running server is served by an index; a test explains each of them.
 */
import { type SQL, sql } from 'drizzle-orm'
import {
  blob,
  check,
  foreignKey,
  index,
  integer,
  primaryKey,
  real,
  type SQLiteColumn,
  sqliteTable,
  text,
  uniqueIndex,
} from 'drizzle-orm/sqlite-core'

/** Frozen copies of chain templates, addressed by what they hold: runs of one template share one row. */
export const chains = sqliteTable('chains', {
  /** `slug@version#hash` */
  id: text('id').primaryKey(),
  slug: text('slug').notNull(),
  version: text('version').notNull(),
  /** SHA-256 (hex) of `body`. */
  hash: text('hash').notNull(),
  body: text('body').notNull(),
  createdAt: integer('created_at').notNull(),
})

export const runs = sqliteTable(
  'runs',
  {
    id: text('id').primaryKey(),
    apiKeyId: text('api_key_id').notNull(),
    /** The slug that the caller used; `chain_slug` is the template's own. */
    slug: text('slug').notNull(),
    chainSlug: text('chain_slug').notNull(),
    chainId: text('chain_id')
      .notNull()
      .references(() => chains.id),
    mode: text('mode').notNull(),
    status: text('status').notNull(),
    maxCostUsd: real('max_cost_usd'),
    createdAt: integer('created_at').notNull(),
    updatedAt: integer('updated_at').notNull(),
    deadlineAt: integer('deadline_at').notNull(),
    cancelRequestedAt: integer('cancel_requested_at'),
    resumedFrom: text('resumed_from'),
    error: text('error'),
    revision: integer('revision').notNull(),
    lastSeq: integer('last_seq').notNull(),
    /** When the run next needs attention: all that the sweeper needs. */
    wakeAt: integer('wake_at'),
  },
  t => [
    // One index for every list: a page is merged from a few (chain, status) ranges, each read in order of time.
    index('runs_list').on(t.apiKeyId, t.chainSlug, t.status, t.createdAt, t.id),
    index('runs_due').on(t.wakeAt, t.id).where(sql`wake_at is not null`),
    check('runs_status', oneOf(t.status, ['queued', 'running', 'succeeded', 'failed', 'canceled'])),
    check('runs_mode', oneOf(t.mode, ['sandbox', 'byok'])),
    check('runs_open_has_wake', sql`(${t.wakeAt} is not null) = (${t.status} in ('queued', 'running'))`),
    check('runs_whole', whole(t.createdAt, t.updatedAt, t.deadlineAt, t.cancelRequestedAt, t.wakeAt, t.revision)),
  ],
)

/** What a run was asked to do, word for word. Never updated. */
export const runInputs = sqliteTable('run_inputs', {
  runId: text('run_id')
    .primaryKey()
    .references(() => runs.id, { onDelete: 'cascade' }),
  input: text('input').notNull(),
  metadata: text('metadata').notNull(),
  callback: text('callback'),
  providerOrder: text('provider_order').notNull(),
  /** The planned steps: an array in the order of `steps.step_index`. */
  plan: text('plan').notNull(),
})

/** The metadata of runs, one row a key, so that a list by the caller's own ids does not read every run. */
export const runMetadata = sqliteTable(
  'run_metadata',
  {
    apiKeyId: text('api_key_id').notNull(),
    key: text('key').notNull(),
    value: text('value').notNull(),
    createdAt: integer('created_at').notNull(),
    runId: text('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
  },
  t => [
    index('run_metadata_list').on(t.apiKeyId, t.key, t.value, t.createdAt, t.runId),
    index('run_metadata_run').on(t.runId),
  ],
)

export const steps = sqliteTable(
  'steps',
  {
    runId: text('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    stepIndex: integer('step_index').notNull(),
    id: text('id').notNull(),
    /** For readers of the table; the run takes key and model from its plan. */
    stepKey: text('step_key').notNull(),
    model: text('model').notNull(),
    status: text('status').notNull(),
    /** What only this status has (JSON), without its live attempt. */
    state: text('state').notNull(),
    inherited: integer('inherited', { mode: 'boolean' }).notNull(),
    createdAt: integer('created_at').notNull(),
    updatedAt: integer('updated_at').notNull(),
    startedAt: integer('started_at'),
    completedAt: integer('completed_at'),
  },
  t => [
    primaryKey({ columns: [t.runId, t.stepIndex] }),
    check(
      'steps_status',
      oneOf(t.status, [
        ...['queued', 'submitting', 'running', 'waiting', 'keeping'],
        ...['succeeded', 'failed', 'canceled', 'skipped'],
      ]),
    ),
    check('steps_whole', whole(t.stepIndex, t.createdAt, t.updatedAt, t.startedAt, t.completedAt)),
  ],
)

export const attempts = sqliteTable(
  'attempts',
  {
    runId: text('run_id').notNull(),
    stepIndex: integer('step_index').notNull(),
    no: integer('no').notNull(),
    provider: text('provider').notNull(),
    providerModel: text('provider_model').notNull(),
    token: text('token').notNull(),
    /** True for the copy of an attempt in a resumed run; its token still belongs to the first run. */
    inherited: integer('inherited', { mode: 'boolean' }).notNull(),
    startedAt: integer('started_at').notNull(),
    submittedAt: integer('submitted_at'),
    endedAt: integer('ended_at'),
    outcome: text('outcome').notNull(),
    jobRef: text('job_ref').notNull(),
    error: text('error'),
    estimatedUsd: real('estimated_usd'),
    actualUsd: real('actual_usd'),
    costBasis: text('cost_basis').notNull(),
    adjustments: text('adjustments').notNull(),
    providerCancel: text('provider_cancel'),
    reopenAt: integer('reopen_at'),
    /** What came after the attempt was over for us (JSON). */
    lateResult: text('late_result'),
  },
  t => [
    primaryKey({ columns: [t.runId, t.stepIndex, t.no] }),
    foreignKey({ columns: [t.runId, t.stepIndex], foreignColumns: [steps.runId, steps.stepIndex] }).onDelete('cascade'),
    uniqueIndex('attempts_token').on(t.token).where(sql`inherited = 0`),
    index('attempts_started').on(t.startedAt).where(sql`inherited = 0`),
    check('attempts_outcome', oneOf(t.outcome, ['pending', 'succeeded', 'failed', 'canceled', 'unknown'])),
    check('attempts_basis', oneOf(t.costBasis, ['metered', 'listed', 'upper_bound', 'unknown'])),
    check('attempts_whole', whole(t.no, t.startedAt, t.submittedAt, t.endedAt, t.reopenAt)),
  ],
)

/** Append-only: what a reader of the run saw, numbered from 1. */
export const events = sqliteTable(
  'events',
  {
    runId: text('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    seq: integer('seq').notNull(),
    at: integer('at').notNull(),
    type: text('type').notNull(),
    stepKey: text('step_key'),
    data: text('data').notNull(),
  },
  t => [primaryKey({ columns: [t.runId, t.seq] }), check('events_whole', whole(t.seq, t.at))],
)

/** Lives as long as its run: a key guards money. */
export const idempotencyKeys = sqliteTable(
  'idempotency_keys',
  {
    key: text('key').primaryKey(),
    fingerprint: text('fingerprint').notNull(),
    runId: text('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    response: text('response').notNull(),
    createdAt: integer('created_at').notNull(),
  },
  t => [index('idempotency_keys_run').on(t.runId)],
)

export const media = sqliteTable(
  'media',
  {
    id: text('id').primaryKey(),
    /** Null for an upload. */
    runId: text('run_id').references(() => runs.id, { onDelete: 'set null' }),
    stepId: text('step_id'),
    apiKeyId: text('api_key_id').notNull(),
    mime: text('mime').notNull(),
    bytes: integer('bytes').notNull(),
    sha256: text('sha256').notNull(),
    width: integer('width'),
    height: integer('height'),
    seconds: real('seconds'),
    location: text('location').notNull(),
    createdAt: integer('created_at').notNull(),
    /** The upload, or the last end of a run that used it; null from the begin of a run that uses it to the next such end. */
    idleSince: integer('idle_since'),
  },
  t => [
    index('media_run').on(t.runId),
    index('media_idle').on(t.idleSince, t.id).where(sql`idle_since is not null`),
    check('media_whole', whole(t.bytes, t.width, t.height, t.createdAt, t.idleSince)),
  ],
)

export const deliveries = sqliteTable(
  'deliveries',
  {
    id: text('id').primaryKey(),
    runId: text('run_id')
      .notNull()
      .references(() => runs.id, { onDelete: 'cascade' }),
    apiKeyId: text('api_key_id').notNull(),
    type: text('type').notNull(),
    url: text('url').notNull(),
    host: text('host').notNull(),
    body: blob('body', { mode: 'buffer' }).notNull(),
    status: text('status').notNull(),
    attempts: integer('attempts').notNull(),
    /** When the next attempt is wished for. */
    dueAt: integer('due_at').notNull(),
    /** When it may be claimed: `due_at`, or the end of the lease while someone holds one. */
    readyAt: integer('ready_at').notNull(),
    leaseToken: text('lease_token'),
    createdAt: integer('created_at').notNull(),
    updatedAt: integer('updated_at').notNull(),
    deliveredAt: integer('delivered_at'),
    lastError: text('last_error'),
    /** Why the next attempt is made; for one that somebody asked for, what its failure brings back. */
    trigger: text('trigger').notNull().default('schedule'),
    priorStatus: text('prior_status'),
    priorDueAt: integer('prior_due_at'),
  },
  t => [
    index('deliveries_ready').on(t.readyAt).where(sql`status = 'pending'`),
    index('deliveries_host').on(t.host, t.readyAt).where(sql`status = 'pending'`),
    index('deliveries_leased').on(t.leaseToken).where(sql`lease_token is not null`),
    index('deliveries_run').on(t.runId, t.createdAt, t.id),
    index('deliveries_list').on(t.apiKeyId, t.createdAt, t.id),
    index('deliveries_list_status').on(t.apiKeyId, t.status, t.createdAt, t.id),
    index('deliveries_list_host').on(t.apiKeyId, t.host, t.createdAt, t.id),
    uniqueIndex('deliveries_terminal').on(t.runId).where(sql`type in ('run.succeeded', 'run.failed', 'run.canceled')`),
    check('deliveries_status', oneOf(t.status, ['pending', 'delivered', 'exhausted', 'gone'])),
    check('deliveries_whole', whole(t.attempts, t.dueAt, t.readyAt, t.createdAt, t.updatedAt, t.deliveredAt)),
  ],
)

export const deliveryAttempts = sqliteTable(
  'delivery_attempts',
  {
    /** The order of writing: an attempt that did not count shares its number with the next one. */
    id: integer('id').primaryKey({ autoIncrement: true }),
    deliveryId: text('delivery_id')
      .notNull()
      .references(() => deliveries.id, { onDelete: 'cascade' }),
    no: integer('no').notNull(),
    trigger: text('trigger').notNull(),
    startedAt: integer('started_at').notNull(),
    durationMs: real('duration_ms').notNull(),
    ip: text('ip'),
    httpStatus: integer('http_status'),
    errorClass: text('error_class'),
    reply: text('reply'),
    nextAt: integer('next_at'),
    reason: text('reason'),
    /** True when the lease was lost before the answer came: the attempt was made but decided nothing. */
    late: integer('late', { mode: 'boolean' }).notNull(),
  },
  t => [
    index('delivery_attempts_delivery').on(t.deliveryId, t.id),
    check('delivery_attempts_trigger', oneOf(t.trigger, ['schedule', 'manual', 'recover'])),
    check('delivery_attempts_whole', whole(t.no, t.startedAt, t.nextAt)),
  ],
)

/** Callback hosts that failed a key too often, so that a restart goes on leaving them alone; few, and forgotten when they answer. */
export const closedHosts = sqliteTable(
  'closed_hosts',
  {
    /** API key and host:port, in one name: older rows, without a key, are asked for by nobody and forgotten after a day. */
    host: text('host').primaryKey(),
    until: integer('until').notNull(),
    /** For how long the next failure closes it. */
    pauseMs: integer('pause_ms').notNull(),
  },
  t => [index('closed_hosts_until').on(t.until), check('closed_hosts_whole', whole(t.until, t.pauseMs))],
)

export const apiKeys = sqliteTable(
  'api_keys',
  {
    id: text('id').primaryKey(),
    name: text('name').notNull(),
    /** SHA-256 (hex) of the key; the key itself is shown once and kept nowhere. */
    hash: text('hash').notNull(),
    prefix: text('prefix').notNull(),
    last4: text('last4').notNull(),
    scopes: text('scopes', { mode: 'json' }).$type<readonly string[]>().notNull(),
    createdAt: integer('created_at').notNull(),
    expiresAt: integer('expires_at'),
    revokedAt: integer('revoked_at'),
    lastUsedAt: integer('last_used_at'),
    ratePerMinute: integer('rate_per_minute'),
    maxRunning: integer('max_running'),
    maxQueued: integer('max_queued'),
    dailyBudgetUsd: real('daily_budget_usd'),
    /** The key's text before its rotation, and until when it still works. */
    previousHash: text('previous_hash'),
    previousUntil: integer('previous_until'),
  },
  t => [
    uniqueIndex('api_keys_hash').on(t.hash),
    index('api_keys_created').on(t.createdAt, t.id),
    check('api_keys_whole', whole(t.createdAt, t.expiresAt, t.revokedAt, t.lastUsedAt)),
  ],
)

export const webhookSecrets = sqliteTable(
  'webhook_secrets',
  {
    id: text('id').primaryKey(),
    apiKeyId: text('api_key_id')
      .notNull()
      .references(() => apiKeys.id, { onDelete: 'cascade' }),
    /** Sealed under the master key. */
    secret: blob('secret', { mode: 'buffer' }).notNull(),
    createdAt: integer('created_at').notNull(),
    /** Until then it still signs beside a newer one; null for the newest. */
    retiresAt: integer('retires_at'),
  },
  t => [
    index('webhook_secrets_key').on(t.apiKeyId, t.createdAt),
    check('webhook_secrets_whole', whole(t.createdAt, t.retiresAt)),
  ],
)

/** Small facts of this installation. */
export const settings = sqliteTable('settings', {
  name: text('name').primaryKey(),
  value: text('value').notNull(),
  createdAt: integer('created_at').notNull(),
})

/**
 * How many runs and deliveries there are by status, kept in the transaction that changes them: counting a million
 * finished runs would stop the process for as long as it takes.
 */
export const counters = sqliteTable(
  'counters',
  { name: text('name').primaryKey(), value: integer('value').notNull() },
  t => [check('counters_value', sql`${t.value} >= 0`)],
)

function oneOf(column: SQLiteColumn, values: readonly string[]): SQL {
  return sql`${column} in (${sql.raw(values.map(value => `'${value}'`).join(', '))})`
}

/** Integers, or null where the column allows it. */
function whole(...columns: readonly SQLiteColumn[]): SQL {
  return sql.join(
    columns.map(column => sql`typeof(${column}) in ('integer', 'null')`),
    sql` and `,
  )
}
