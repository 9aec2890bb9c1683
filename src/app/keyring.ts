/**
 * The API keys of this installation, all in memory: who owns a text, and what a key may use.
 *
 * 1. A change counts from its commit on, for the very next request: there is no other copy.
 * 2. Texts are shown once and known by their SHA-256. A text that cannot be a key is refused before it is hashed.
 * 3. The bootstrap key has all scopes, and no limits but those that it gives itself. Where the environment gives its text,
 *    only the environment changes it, and brings it back where it was revoked or has ended.
 * 4. The last use is written now and then, never by the request that it was.
 * 5. Changes of keys come one after the other: what a revocation has ended, no change beside it brings back.
 */
import { randomBytes } from 'node:crypto'
import { type ApiKey, type KeyLimits, SCOPES } from '../core/keys.ts'
import type { Clock, Store } from '../core/ports.ts'
import type {
  KeyBounds,
  KeyDesk,
  KeyOrder,
  KeyPatch,
  Locked,
  MadeKey,
  MadeSecret,
  Overlapping,
  Principal,
} from '../http/deps.ts'
import { isPossible, KEY_PREFIX, newKeyText } from './key-text.ts'
import { sha256 } from './secrets.ts'

export const BOOTSTRAP = 'bootstrap'

export interface KeyringDeps {
  store: Pick<Store, 'apiKeys' | 'saveApiKey' | 'touchApiKeys' | 'webhookSecrets'>
  clock: Clock
  /** The wall clock, for expiries: ours may be ahead of it for a while, and no text ends early, or late, for that. */
  wall(): number
  /** The bootstrap key of the environment. */
  given: string | null
  secrets: { fresh(apiKeyId: string): MadeSecret }
  /** What a key has spent today, in US dollars. */
  spentUsd(apiKeyId: string): number
  /** Resolves when `spentUsd` knows of the whole day. */
  counted(): Promise<void>
  /** The limits of a key were changed. */
  changed(apiKeyId: string): void
}

const NO_LIMITS: KeyLimits = { ratePerMinute: null, maxRunning: null, maxQueued: null, dailyBudgetUsd: null }
/** All of them are in memory and in one list; a customer each is more than one machine serves. */
const MOST_KEYS = 10_000
/** Last uses are written together, this long after the first of them. */
const TOUCH_MS = 60_000

/** What was made at the first start and is shown once; null for what was given or is known. */
export interface MadeBootstrap {
  text: string | null
  secret: string | null
}

export class Keyring implements KeyDesk {
  readonly bootstrap = BOOTSTRAP
  readonly #deps: KeyringDeps
  readonly #keys = new Map<string, ApiKey>()
  /** Which key a text belongs to, by its hash. */
  readonly #owners = new Map<string, string>()
  readonly #givenHash: string | null
  /** Settles when the newest change has. */
  #changed: Promise<unknown> = Promise.resolve()
  #used: Record<string, number> = {}
  #disarm: (() => void) | null = null

  private constructor(deps: KeyringDeps) {
    this.#deps = deps
    this.#givenHash = deps.given === null ? null : sha256(deps.given)
  }

  /** @throws KeyTextTaken where the environment gives the text of another key */
  static async open(deps: KeyringDeps): Promise<Keyring> {
    const ring = new Keyring(deps)
    for (const key of await deps.store.apiKeys()) ring.#take(key)
    const hash = ring.#givenHash
    if (hash === null || deps.given === null) return ring
    const owner = ring.#keys.get(ring.#owners.get(hash) ?? '')
    if (owner && owner.id !== BOOTSTRAP) throw new KeyTextTaken(owner)
    const stored = ring.#keys.get(BOOTSTRAP)
    if (stored?.hash !== hash || !isAlive(stored, deps.wall()))
      ring.#take({ ...bootstrap(deps.given, deps.clock.now()), createdAt: stored?.createdAt ?? deps.clock.now() })
    return ring
  }

  /** Stores the bootstrap key. At the first start without one in the environment, makes it: then its text and its secret are given, once. */
  async ensure(): Promise<MadeBootstrap> {
    const { store, clock, given, secrets } = this.#deps
    const known = this.#keys.get(BOOTSTRAP)
    if (given === null && known) return { text: null, secret: null }
    const text = given ?? newKeyText(bytes => randomBytes(bytes))
    const key = known ?? bootstrap(text, clock.now())
    const hasSecret = (await store.webhookSecrets(BOOTSTRAP)).length > 0
    const made = hasSecret ? null : secrets.fresh(BOOTSTRAP)
    await store.saveApiKey(key, made?.secret)
    this.#take(key)
    return { text: given === null ? text : null, secret: made?.text ?? null }
  }

  /** The owner of a text; null for unknown, expired and revoked ones alike. */
  auth(text: string): Principal | null {
    if (!isPossible(text) && text !== this.#deps.given) return null
    const hash = sha256(text)
    const key = this.#keys.get(this.#owners.get(hash) ?? '')
    const { clock, wall } = this.#deps
    const now = wall()
    if (!key || !isAlive(key, now)) return null
    if (key.hash !== hash && (key.previous?.hash !== hash || key.previous.until <= now)) return null
    this.#touch(key.id, clock.now())
    const { id: apiKeyId, scopes, ratePerMinute, dailyBudgetUsd } = key
    return { apiKeyId, scopes, ratePerMinute, dailyBudgetUsd }
  }

  /** What a key may use. One that is no more (of a run from an older database) has no limits of its own. */
  limits(apiKeyId: string): KeyLimits {
    return this.#keys.get(apiKeyId) ?? NO_LIMITS
  }

  bounds(id: string): KeyBounds {
    const key = id === BOOTSTRAP ? undefined : this.#keys.get(id)
    return key ?? { ...NO_LIMITS, expiresAt: null }
  }

  list(): ApiKey[] {
    return [...this.#keys.values()].map(key => this.#shown(key))
  }

  find(id: string): ApiKey | null {
    const key = this.#keys.get(id)
    return key ? this.#shown(key) : null
  }

  spentUsd(id: string): number {
    return this.#deps.spentUsd(id)
  }

  async create(order: KeyOrder): Promise<MadeKey | Locked> {
    const { store, clock, secrets } = this.#deps
    if (this.#keys.size >= MOST_KEYS) return { locked: `There are ${MOST_KEYS} keys, and no more are kept.` }
    const text = newKeyText(bytes => randomBytes(bytes))
    const id = `key_${clock.id().replaceAll('-', '')}`
    const key: ApiKey = { ...FRESH, ...order, ...textFacts(text), id, createdAt: clock.now() }
    const made = secrets.fresh(id)
    await store.saveApiKey(key, made.secret)
    this.#take(key)
    return { key, text, secret: made.text }
  }

  async change(id: string, patch: KeyPatch): Promise<ApiKey | Locked | null> {
    if (patch.dailyBudgetUsd) await this.#deps.counted()
    return this.#change(id, async known => {
      await this.#save({ ...known, ...patch })
      this.#deps.changed(id)
      return this.#shown(this.#keys.get(id) ?? known)
    })
  }

  async rotate(id: string, overlapMs: number): Promise<{ key: ApiKey; text: string } | Locked | Overlapping | null> {
    return this.#change(id, async known => {
      const now = this.#deps.wall()
      if (overlapMs > 0 && known.previous && known.previous.until > now) return { overlapsUntil: known.previous.until }
      const text = newKeyText(bytes => randomBytes(bytes))
      const previous = overlapMs > 0 ? { hash: known.hash, until: now + overlapMs } : null
      const key = { ...known, ...textFacts(text), previous }
      await this.#save(key)
      return { key, text }
    })
  }

  async revoke(id: string): Promise<ApiKey | Locked | null> {
    return this.#change(id, async known => {
      if (known.revokedAt === null) await this.#save({ ...known, revokedAt: this.#deps.clock.now(), previous: null })
      return this.#shown(this.#keys.get(id) ?? known)
    })
  }

  /** Writes what was last used when. */
  async flush(): Promise<void> {
    this.#disarm?.()
    this.#disarm = null
    const used = this.#used
    this.#used = {}
    if (Object.keys(used).length > 0) await this.#deps.store.touchApiKeys(used)
  }

  /** Changes a key as the change before has left it; null when there is none. */
  #change<T>(id: string, act: (known: ApiKey) => Promise<T>): Promise<T | Locked | null> {
    const turn = this.#changed.then(async () => {
      const known = this.#keys.get(id)
      if (!known) return null
      const locked = this.#lock(known)
      return locked ? { locked } : act(known)
    })
    this.#changed = turn.catch(() => {}) // told to who asked for it
    return turn
  }

  /** Why a key cannot be changed here. */
  #lock(key: ApiKey): string | null {
    if (key.id === BOOTSTRAP && this.#givenHash !== null)
      return 'The key comes from BABYCHAIN_API_KEY: change it there and restart.'
    return key.revokedAt === null || key.id !== BOOTSTRAP ? null : 'The key is revoked.'
  }

  async #save(key: ApiKey): Promise<void> {
    await this.#deps.store.saveApiKey(key)
    this.#take(key)
  }

  #take(key: ApiKey): void {
    const before = this.#keys.get(key.id)
    for (const hash of before ? [before.hash, before.previous?.hash ?? ''] : []) this.#owners.delete(hash)
    this.#keys.set(key.id, key)
    this.#owners.set(key.hash, key.id)
    if (key.previous) this.#owners.set(key.previous.hash, key.id)
  }

  #shown(key: ApiKey): ApiKey {
    const used = this.#used[key.id]
    return used === undefined ? key : { ...key, lastUsedAt: used }
  }

  #touch(id: string, at: number): void {
    this.#used[id] = at
    const { clock } = this.#deps
    // What cannot be written now is written with the next uses: it is a help for people, not a fact to rely on.
    this.#disarm ??= clock.at(at + TOUCH_MS, () => void this.flush().catch(() => {}))
  }
}

const FRESH = { expiresAt: null, revokedAt: null, lastUsedAt: null, previous: null }

function bootstrap(text: string, at: number): ApiKey {
  return { id: BOOTSTRAP, name: 'bootstrap', ...textFacts(text), scopes: SCOPES, ...NO_LIMITS, ...FRESH, createdAt: at }
}

/** What may be known of a text: enough to recognise it, too little to use it. */
function textFacts(text: string): Pick<ApiKey, 'hash' | 'prefix' | 'last4'> {
  const shown = text.startsWith(KEY_PREFIX) ? KEY_PREFIX.length + 4 : 4
  return { hash: sha256(text), prefix: text.slice(0, shown), last4: text.slice(-4) }
}

function isAlive(key: ApiKey, at: number): boolean {
  return key.revokedAt === null && (key.expiresAt === null || key.expiresAt > at)
}

class KeyTextTaken extends Error {
  override name = 'KeyTextTaken'

  constructor({ id, name, revokedAt }: ApiKey) {
    super(
      `BABYCHAIN_API_KEY is the text of another key: ${JSON.stringify(name)} (${id}${revokedAt === null ? '' : ', revoked'}). It becomes the bootstrap key, which may do everything: set it to a text of its own, or leave it out.`,
    )
  }
}
