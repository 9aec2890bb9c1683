/** What the built-in receiver of the sandbox got, for the key that asks. Elsewhere there is no such route. */
import { Elysia } from 'elysia'
import type { Json } from '../core/json.ts'
import { iso } from './dto/run.ts'
import { type Context, guarded, json } from './exchange.ts'
import { ApiProblem } from './problem.ts'

export interface InboxMessage {
  /** The webhook-id. */
  id: string
  at: number
  /** Whether a receiver with the secret of this key would trust it. */
  verified: boolean
  headers: Readonly<Record<string, string>>
  /** The body as it came. */
  body: string
}

export interface Inbox {
  /** The webhook_url that leads here. */
  urlOf(apiKeyId: string): string
  /** Newest first. */
  messagesOf(apiKeyId: string): readonly InboxMessage[]
}

export function inboxRoutes(context: Context) {
  return new Elysia({ name: 'inbox' }).get(
    '/api/v1/inbox',
    guarded(context, 'runs:read', ({ principal }) => {
      const { inbox } = context.deps
      if (!inbox) throw new ApiProblem('not_found', 'There is an inbox in the sandbox only.')
      const data = inbox.messagesOf(principal.apiKeyId).map(message => ({
        ...message,
        at: iso(message.at),
        body: JSON.parse(message.body) as Json,
      }))
      return json(200, { object: 'list', url: inbox.urlOf(principal.apiKeyId), data })
    }),
  )
}
