/** What the built-in receiver of the sandbox got, as the Lab shows it: no part of the public document. */
import type { InboxMessage } from '../inbox.ts'
import { iso } from './time.ts'

export interface InboxMessageDto {
  /** The webhook-id. */
  id: string
  at: string
  /** Whether a receiver with the secret of this key would trust it. */
  verified: boolean
  headers: Readonly<Record<string, string>>
  body: { type: string; data?: { id?: string } }
}

export interface InboxDto {
  object: 'list'
  /** The webhook_url that leads here. */
  url: string
  /** Newest first. */
  data: InboxMessageDto[]
}

export function presentInbox(url: string, messages: readonly InboxMessage[]): InboxDto {
  return { object: 'list', url, data: messages.map(presentMessage) }
}

function presentMessage({ id, at, verified, headers, body }: InboxMessage): InboxMessageDto {
  return { id, at: iso(at), verified, headers, body: JSON.parse(body) as InboxMessageDto['body'] }
}
