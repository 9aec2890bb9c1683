/**
 * The secrets that sign callbacks: one for each API key, two while a rotation overlaps.
 *
 * 1. A secret is shown once, when it is made, and lies sealed under the master key.
 * 2. While a rotation overlaps both sign, the newest first. Another one is made then only to end both at once: whoever asks
 *    again may not have had the answer, and the receiver still has the older one.
 * 3. The bootstrap key's secret may come from the environment. Then only the environment changes it; the one before
 *    signs along for a day.
 */
import { randomBytes } from 'node:crypto'
import type { WebhookSecret } from '../core/keys.ts'
import type { Clock, Store } from '../core/ports.ts'
import type { Locked, MadeSecret, Overlapping, SecretDesk } from '../http/deps.ts'
import { newSecret, parseSecret } from '../net/signature.ts'
import { LOST, seal, unseal } from './secrets.ts'

export interface WebhookSecretDeps {
  store: Pick<Store, 'webhookSecrets' | 'rotateWebhookSecret'>
  clock: Pick<Clock, 'now' | 'id'>
  /** 32 bytes, derived from the master key. */
  key: Uint8Array
  /** Of the environment: whose secret it is, and its text. */
  given: { apiKeyId: string; text: string } | null
}

/** How long the secret before signs along when the environment has a new one. */
const OVERLAP_MS = 86_400_000

type Open = { bytes: Uint8Array; retiresAt: number | null }

export class WebhookSecrets implements SecretDesk {
  readonly #deps: WebhookSecretDeps
  readonly #opened = new Map<string, readonly Open[]>()
  /** Settles when the newest rotation has. */
  #rotated: Promise<unknown> = Promise.resolve()

  constructor(deps: WebhookSecretDeps) {
    this.#deps = deps
  }

  /** What signs for a key now, newest first. @throws Error with a sentence when a secret was sealed under another master key */
  async of(apiKeyId: string): Promise<Uint8Array[]> {
    const opened = this.#opened.get(apiKeyId) ?? (await this.#open(apiKeyId))
    // None yet: the key is about to get its first one.
    if (opened.length > 0) this.#opened.set(apiKeyId, opened)
    const now = this.#deps.clock.now()
    return opened.filter(({ retiresAt }) => retiresAt === null || retiresAt > now).map(({ bytes }) => bytes)
  }

  /** A secret to be stored with a new key: the environment's where it is for this key. */
  fresh(apiKeyId: string): MadeSecret {
    const { given } = this.#deps
    const text = given?.apiKeyId === apiKeyId ? given.text : newSecret(bytes => randomBytes(bytes))
    return this.#make(apiKeyId, text)
  }

  /** Takes the environment's secret over. */
  async adopt(): Promise<void> {
    const { given, store, clock } = this.#deps
    if (!given) return
    const parsed = parseSecret(given.text)
    if (!parsed.ok) throw new Error(`BABYCHAIN_CALLBACK_SECRET: ${parsed.problem}`)
    const [newest] = await this.#open(given.apiKeyId)
    if (newest && Buffer.compare(newest.bytes, parsed.bytes) === 0) return
    await store.rotateWebhookSecret(this.#make(given.apiKeyId, given.text).secret, clock.now() + OVERLAP_MS)
    this.#opened.delete(given.apiKeyId)
  }

  async list(apiKeyId: string): Promise<WebhookSecret[]> {
    const { store, clock } = this.#deps
    const now = clock.now()
    return (await store.webhookSecrets(apiKeyId)).filter(({ retiresAt }) => retiresAt === null || retiresAt > now)
  }

  /** One after the other: of two at once the second must know of the first. */
  rotate(apiKeyId: string, overlapMs: number): Promise<MadeSecret | Locked | Overlapping> {
    const turn = this.#rotated.then(() => this.#rotate(apiKeyId, overlapMs))
    this.#rotated = turn.catch(() => {}) // told to who asked for it
    return turn
  }

  async #rotate(apiKeyId: string, overlapMs: number): Promise<MadeSecret | Locked | Overlapping> {
    const { store, clock, given } = this.#deps
    if (given?.apiKeyId === apiKeyId)
      return { locked: 'The secret comes from BABYCHAIN_CALLBACK_SECRET: change it there and restart.' }
    const overlapsUntil = (await this.list(apiKeyId)).find(({ retiresAt }) => retiresAt !== null)?.retiresAt
    if (overlapMs > 0 && overlapsUntil) return { overlapsUntil }
    const made = this.fresh(apiKeyId)
    await store.rotateWebhookSecret(made.secret, clock.now() + overlapMs)
    this.#opened.delete(apiKeyId)
    return made
  }

  #make(apiKeyId: string, text: string): MadeSecret {
    const { clock, key } = this.#deps
    const parsed = parseSecret(text)
    if (!parsed.ok) throw new Error(parsed.problem)
    const id = `sec_${clock.id().replaceAll('-', '')}`
    const sealed = seal(parsed.bytes, key, placeOf(apiKeyId, id))
    return { secret: { id, apiKeyId, sealed, createdAt: clock.now(), retiresAt: null }, text }
  }

  async #open(apiKeyId: string): Promise<Open[]> {
    const secrets = await this.list(apiKeyId)
    return secrets.map(({ id, sealed, retiresAt }) => {
      const bytes = unseal(sealed, this.#deps.key, placeOf(apiKeyId, id))
      if (!bytes)
        throw new SecretUnreadable(`the callback secret ${id} was sealed under another master key: restore it. ${LOST}`)
      return { bytes, retiresAt }
    })
  }

  /** Gives a key a new secret where its own cannot be opened; null where it can. */
  async reseal(apiKeyId: string): Promise<MadeSecret | null> {
    try {
      await this.#open(apiKeyId)
      return null
    } catch (error) {
      if (!(error instanceof SecretUnreadable)) throw error
    }
    const made = this.fresh(apiKeyId)
    await this.#deps.store.rotateWebhookSecret(made.secret, this.#deps.clock.now())
    this.#opened.delete(apiKeyId)
    return made
  }
}

class SecretUnreadable extends Error {
  override name = 'SecretUnreadable'
}

function placeOf(apiKeyId: string, id: string): string {
  return `${apiKeyId}/${id}`
}
