/**
 * fal's webhooks: Ed25519 over four lines, keys from a JWKS (providers.md 3.3, rules.md IN-1).
 *
 * 1. The raw bytes are verified before anything is parsed; clocks may differ by 300 s.
 * 2. Keys live for a day at most; an unknown key makes them be fetched again, at most once a minute, and one fetch
 *    serves all who wait for it.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto'
import type { Json } from '../core/json.ts'
import type { Hint, InboundRequest } from '../core/ports.ts'
import { idAt, jsonOf, listAt, textAt } from './protocol.ts'
import type { Asked } from './wire.ts'

const TOLERANCE_S = 300
const KEEP_MS = 24 * 3_600_000
const REFETCH_MS = 60_000
/** A key set holds a few keys; verification tries each. */
const MAX_KEYS = 16

export interface FalKeys {
  /** Whether any key made the signature. */
  verifies(message: Uint8Array, signature: Uint8Array): Promise<boolean>
}

export function createFalKeys(deps: { now(): number; load(signal: AbortSignal): Promise<Asked> }): FalKeys {
  let keys: readonly KeyObject[] = []
  let goodUntil = 0
  let triedAt = Number.NEGATIVE_INFINITY
  let loading: Promise<void> | null = null
  const load = async (): Promise<void> => {
    triedAt = deps.now()
    const asked = await deps.load(AbortSignal.timeout(15_000))
    const fresh = asked.type === 'answered' && asked.answer.status === 200 ? keysIn(asked.answer.json) : []
    if (fresh.length === 0) return
    keys = fresh
    goodUntil = deps.now() + KEEP_MS
  }
  const refresh = (): Promise<void> => {
    loading ??= load().finally(() => {
      loading = null
    })
    return loading
  }
  const mayLoad = (): boolean => loading !== null || deps.now() - triedAt >= REFETCH_MS
  return {
    async verifies(message, signature) {
      const tried = (): boolean => keys.some(key => verify(null, message, key, signature))
      if (deps.now() < goodUntil && tried()) return true
      if (!mayLoad()) return false
      await refresh()
      return deps.now() < goodUntil && tried()
    },
  }
}

function keysIn(json: Json | undefined): KeyObject[] {
  return listAt(json, 'keys')
    .slice(0, MAX_KEYS)
    .flatMap(key => {
      const x = textAt(key, 'x')
      if (x === undefined) return []
      try {
        return [createPublicKey({ key: { kty: 'OKP', crv: 'Ed25519', x }, format: 'jwk' })]
      } catch {
        return []
      }
    })
}

export async function readWebhook(request: InboundRequest, keys: FalKeys): Promise<Hint> {
  const header = (name: string): string => request.headers[`x-fal-webhook-${name}`] ?? ''
  const [id, user, timestamp, signature] = [
    header('request-id'),
    header('user-id'),
    header('timestamp'),
    header('signature'),
  ]
  const refused = (reason: string): Hint => ({ type: 'refused', reason })
  if (!/^[0-9a-f]{128}$/i.test(signature)) return refused('the signature is missing or malformed')
  if (!/^\d{1,12}$/.test(timestamp)) return refused('the timestamp is missing or malformed')
  if (Math.abs(Number(timestamp) - request.at / 1_000) > TOLERANCE_S) return refused('the timestamp is too far off')
  const message = messageOf(id, user, timestamp, request.body)
  if (!(await keys.verifies(message, Buffer.from(signature, 'hex')))) return refused('no key of fal made the signature')
  return { type: 'hint', jobRef: jobIn(request) }
}

/** What is signed: request id, user id, timestamp and the hex SHA-256 of the raw body, a line each. */
function messageOf(id: string, user: string, timestamp: string, body: Uint8Array): Uint8Array {
  return Buffer.from([id, user, timestamp, createHash('sha256').update(body).digest('hex')].join('\n'))
}

/** The job, if the address that we gave says at which endpoint it runs; else only its run is to be checked. */
function jobIn(request: InboundRequest): Json {
  const id = idAt(jsonOf(request.body), 'request_id')
  const app = request.query?.app
  return id === undefined || app === undefined ? null : { id, app, hooked: true }
}
