/**
 * The built-in receiver of callbacks, for the sandbox: a newcomer sees a signed message arrive without setting up a server.
 *
 * 1. It is not dialled: a callback to its address is handed over in this process, so the guarded egress keeps refusing
 *    every address of ours. What is handed over is what would be sent: the same headers, the same bytes.
 * 2. It takes what its own key sends. Whatever another key sends there is answered 404 and not kept, as if there were none.
 * 3. It verifies as any receiver should, and answers 401 to what it cannot verify.
 * 4. It holds the newest `MOST` messages of each of `MOST_KEYS` keys in memory, and forgets them with the process.
 */
import { remember } from '../core/remember.ts'
import type { Inbox, InboxMessage } from '../http/inbox.ts'
import type { PostRequest, PostResult } from '../net/egress.ts'
import { verify } from '../net/signature.ts'
import type { Postman } from './notifier.ts'

const MOST = 50
const MOST_KEYS = 200

export interface InboxOptions {
  baseUrl(): string
  secretsOf(apiKeyId: string): Promise<Uint8Array[]>
  now(): number
}

export type Receiver = Inbox & Postman & { owns(url: string): boolean }

export function createInbox({ baseUrl, secretsOf, now }: InboxOptions): Receiver {
  const messages = new Map<string, InboxMessage[]>()
  const prefix = (): string => `${baseUrl()}/lab/inbox/`
  const keep = (apiKeyId: string, message: InboxMessage): void => {
    remember(messages, apiKeyId, [message, ...(messages.get(apiKeyId) ?? [])].slice(0, MOST), MOST_KEYS)
  }
  const urlOf = (apiKeyId: string): string => prefix() + encodeURIComponent(apiKeyId)
  return {
    urlOf,
    owns: url => url.startsWith(prefix()) && KEY_NAME.test(url.slice(prefix().length)),
    messagesOf: apiKeyId => messages.get(apiKeyId) ?? [],
    async post(url: string, { headers, body }: PostRequest, apiKeyId: string): Promise<PostResult> {
      if (url !== urlOf(apiKeyId)) return answer(404)
      const verified = verify({
        id: headers['webhook-id'] ?? null,
        timestamp: headers['webhook-timestamp'] ?? null,
        signature: headers['webhook-signature'] ?? null,
        body,
        secrets: await secretsOf(apiKeyId),
        nowS: Math.floor(now() / 1000),
      }).ok
      const text = new TextDecoder().decode(body)
      keep(apiKeyId, { id: headers['webhook-id'] ?? '', at: now(), verified, headers, body: text })
      return answer(verified ? 204 : 401)
    },
  }
}

/** What can name a key in an address: whoever writes addresses by hand may write anything. */
const KEY_NAME = /^[\w-]+$/

const answer = (status: number): PostResult => ({
  type: 'answered',
  status,
  headers: {},
  text: '',
  ip: 'this process',
  ms: 0,
})
