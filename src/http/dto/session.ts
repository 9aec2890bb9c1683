/** What our own pages learn of their session. They are its only readers: it is no part of the public document. */
import type { Scope } from '../../core/keys.ts'
import type { Mode } from '../../core/run.ts'
import { iso } from './time.ts'

export interface SessionDto {
  object: 'session'
  signed_in: boolean
  mode: Mode
  version: string
  /** The key that the session is of. */
  key_id?: string
  scopes?: readonly Scope[]
  /** When the server began. */
  started_at?: string
  /** The webhook_url of the built-in receiver, in the sandbox. */
  inbox_url?: string | null
}

/** What only those who have signed in are told. */
interface SignedIn {
  keyId: string
  scopes: readonly Scope[]
  startedAt: number
  inboxUrl: string | null
}

export function presentSession(server: { mode: Mode; version: string }, signedIn: SignedIn | null): SessionDto {
  const { mode, version } = server
  const known: SessionDto = { object: 'session', signed_in: signedIn !== null, mode, version }
  if (signedIn === null) return known
  const { keyId, scopes, startedAt, inboxUrl } = signedIn
  return { ...known, key_id: keyId, scopes, started_at: iso(startedAt), inbox_url: inboxUrl }
}
