/**
 * API keys and what belongs to one, as data.
 *
 * 1. A key is an owner with limits; its text may change (rotation), its id never does, so that runs, secrets and budgets
 *    stay where they are.
 * 2. The text of a key is nowhere: its SHA-256 is.
 */

export type Scope = 'runs:read' | 'runs:write' | 'callbacks:manage' | 'keys:manage'

export const SCOPES: readonly Scope[] = ['runs:read', 'runs:write', 'callbacks:manage', 'keys:manage']

/** What a key may use; null is no limit. */
export interface KeyLimits {
  /** Requests a minute. */
  ratePerMinute: number | null
  /** Runs that have begun and not ended. */
  maxRunning: number | null
  /** Runs that have not begun. */
  maxQueued: number | null
  /** US dollars a day (UTC). */
  dailyBudgetUsd: number | null
}

export interface ApiKey extends KeyLimits {
  id: string
  name: string
  /** SHA-256 (hex) of the text. */
  hash: string
  /** What may be shown of the text. */
  prefix: string
  last4: string
  scopes: readonly Scope[]
  createdAt: number
  expiresAt: number | null
  revokedAt: number | null
  lastUsedAt: number | null
  /** The text before the newest rotation, and until when it still works. */
  previous: { hash: string; until: number } | null
}

/** A signing secret of a key, sealed under the master key. */
export interface WebhookSecret {
  id: string
  apiKeyId: string
  sealed: Uint8Array
  createdAt: number
  /** Until then it signs beside a newer one; null for the newest. */
  retiresAt: number | null
}

/** What a key has spent on some attempts: one row for those that have ended, one for each that has not. */
export interface Spending {
  apiKeyId: string
  usd: number
  /** Null for the sum of the ended ones. */
  attempt: { stepId: string; no: number; startedAt: number } | null
}
