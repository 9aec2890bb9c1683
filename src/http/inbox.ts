/** What the built-in receiver of the sandbox got, for the key that asks. Elsewhere there is no such route. */
import { Elysia } from 'elysia'
import { presentInbox } from './dto/inbox.ts'
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
      const { apiKeyId } = principal
      return json(200, presentInbox(inbox.urlOf(apiKeyId), inbox.messagesOf(apiKeyId)))
    }),
  )
}
