/** Callbacks: what is sent (composed once, when the run ends) and how (signed, through the guarded egress). */
import type { ClaimedDelivery, NewDelivery, SendOutcome } from '../core/delivery.ts'
import type { Notifier } from '../core/ports.ts'
import type { Run } from '../core/run.ts'
import type { PostRequest, PostResult } from '../net/egress.ts'
import { retryAfterMs } from '../net/provider-http.ts'
import { sign } from '../net/signature.ts'

/** Whoever takes a message to its receiver: the guarded egress, which asks not whose it is, or an inbox, which does. */
export interface Postman {
  post(url: string, request: PostRequest, apiKeyId: string): Promise<PostResult>
}

export interface NotifierDeps {
  egress: Postman
  /** Secrets that sign for a key, newest first. */
  secretsOf(apiKeyId: string): Promise<Uint8Array[]>
  /** The terminal message, as the very bytes to send. */
  present(run: Run, at: number): Uint8Array
  id(): string
  /** The wall clock: receivers hold the time of a signature against theirs. */
  wall(): number
  version: string
}

export function createNotifier(deps: NotifierDeps): Notifier {
  return {
    compose: (run, at) => compose(deps, run, at),
    send: (delivery, signal) => send(deps, delivery, deps.wall(), signal),
  }
}

function compose(deps: NotifierDeps, run: Run, at: number): NewDelivery | null {
  if (!run.callback) return null
  return {
    id: `msg_${deps.id().replaceAll('-', '')}`,
    runId: run.id,
    apiKeyId: run.apiKeyId,
    type: `run.${run.status}`,
    url: run.callback.url,
    host: hostOf(run.callback.url),
    body: deps.present(run, at),
    dueAt: at,
    createdAt: at,
  }
}

/** `host:port` of a URL. */
export function hostOf(text: string): string {
  const url = new URL(text)
  return `${url.hostname}:${url.port || (url.protocol === 'http:' ? '80' : '443')}`
}

/** Signs and posts once; the same for a delivery and for a ping. `at` is what the receiver's clock should say now. */
export async function send(
  deps: Pick<NotifierDeps, 'egress' | 'secretsOf' | 'version'>,
  delivery: Pick<ClaimedDelivery, 'id' | 'body' | 'apiKeyId' | 'url'>,
  at: number,
  signal?: AbortSignal,
): Promise<SendOutcome> {
  const { id, body } = delivery
  const timestampS = Math.floor(at / 1_000)
  const secrets = await deps.secretsOf(delivery.apiKeyId)
  const headers = {
    'content-type': 'application/json',
    'user-agent': `BabyChain-webhooks/${deps.version}`,
    'webhook-id': id,
    'webhook-timestamp': String(timestampS),
    'webhook-signature': sign({ id, timestampS, body, secrets }),
  }
  const answer = await deps.egress.post(delivery.url, { headers, body, signal }, delivery.apiKeyId)
  if (answer.type === 'failed')
    return { type: 'failed', errorClass: answer.errorClass, ip: answer.ip, durationMs: answer.ms }
  return {
    type: 'answered',
    status: answer.status,
    reply: answer.text,
    retryAfterMs: retryAfterMs(answer.headers, at),
    ip: answer.ip,
    durationMs: answer.ms,
    location: answer.location ?? null,
  }
}
