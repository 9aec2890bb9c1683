/**
 * The environment, read once into a frozen Config.
 *
 * 1. Every variable stands in VARIABLES (config/variables.ts); the README's table is compared with it by a test.
 * 2. A wrong value stops the start with a sentence that says what is expected; all wrong values are told at once.
 * 3. A Config prints itself without secrets.
 */
import { PROVIDER_IDS, PROVIDERS, VARIABLES } from './config/variables.ts'
import type { Mode } from './core/run.ts'
import { type AllowEntry, parseAllow } from './net/egress/allow.ts'
import { parseSecret } from './net/signature.ts'
import type { KeyedProvider } from './providers/registry.ts'
import { type S3Access, s3Access, s3Address } from './store/media/s3.ts'

export interface Config {
  port: number
  host: string
  dataDir: string
  mode: Mode
  /** Whether the operator named the mode; else it follows from the provider keys that are set. */
  isModeNamed: boolean
  apiKey: string | null
  callbackSecret: string | null
  masterKey: Uint8Array | null
  publicUrl: string | null
  egressAllow: readonly AllowEntry[]
  media: { type: 'disk' } | { type: 's3'; bucket: string; prefix: string }
  /** From the usual AWS_* variables. */
  s3: S3Access
  retentionMs: number | null
  resubmitUnknown: boolean
  /** The operator's word that a restored database may go on: the number that the refused start names, or `now` (`serve --resume`). */
  resume: string | null
  providerOrder: readonly string[]
  concurrency: Readonly<Record<string, number>>
  modelIds: Readonly<Record<string, string>>
  sandboxLatencyMs: { image: number; video: number }
  providers: Readonly<Record<KeyedProvider, { key: string | null; baseUrl: string; variable: string }>>
  comfyui: { url: string | null; workflows: string | null }
  /** Where spans go; null: none are made. */
  tracing: { url: string; headers: Readonly<Record<string, string>>; serviceName: string } | null
  logLevel: string
  /** The variables that name a proxy. None is used (main.ts). */
  proxies: readonly string[]
}

export type ConfigResult = { ok: true; config: Config } | { ok: false; problems: string[] }

/** What the API reads from the header Authorization (http/exchange.ts): any other key would be refused for ever. */
const API_KEY = /^[\x21-\x2b\x2d-\x7e]{20,512}$/

type Env = Readonly<Record<string, string | undefined>>

/** Reads the environment. Every problem is a sentence that names the variable and what is expected. */
export function readConfig(env: Env): ConfigResult {
  const read = new Reader(env)
  const providers = Object.fromEntries(
    Object.entries(PROVIDERS).map(([id, { key, base, url }]) => [
      id,
      { key: read.providerKey(key), baseUrl: read.url(base) ?? url, variable: key },
    ]),
  ) as Config['providers']
  const comfyui = { url: read.url('COMFYUI_URL'), workflows: read.text('COMFYUI_WORKFLOWS') }
  const anyKey = comfyui.url !== null || Object.values(providers).some(provider => provider.key !== null)
  const named = read.oneOf('BABYCHAIN_MODE', ['sandbox', 'byok'] as const)
  const mode = named ?? (anyKey ? 'byok' : 'sandbox')
  if (mode === 'byok' && !anyKey)
    read.problem('BABYCHAIN_MODE is byok, but no provider key is set; set one, such as BFL_API_KEY, or use sandbox')
  const latency = read.integer('BABYCHAIN_SANDBOX_LATENCY_MS', 0, 3_600_000)
  const days = read.integer('BABYCHAIN_RETENTION_DAYS', 0, 36_500) ?? 30
  const config: Config = {
    port: read.integer('PORT', 0, 65_535) ?? 3_000,
    host: read.text('HOST') ?? '127.0.0.1',
    dataDir: read.text('BABYCHAIN_DATA_DIR') ?? './data',
    mode,
    isModeNamed: named !== null,
    apiKey: read.apiKey(),
    callbackSecret: read.callbackSecret(),
    masterKey: read.masterKey(),
    publicUrl: read.url('BABYCHAIN_PUBLIC_URL'),
    egressAllow: read.allow(),
    media: read.media(),
    s3: s3Access(env),
    retentionMs: days === 0 ? null : days * 86_400_000,
    resubmitUnknown: read.oneOf('BABYCHAIN_RESUBMIT_UNKNOWN', ['0', '1'] as const) === '1',
    resume: read.resume(),
    providerOrder: read.providerOrder(),
    concurrency: read.concurrency(),
    modelIds: read.pairs('BABYCHAIN_MODEL_IDS'),
    sandboxLatencyMs: { image: latency ?? 1_500, video: latency ?? 4_000 },
    providers,
    comfyui,
    tracing: read.tracing(),
    logLevel:
      read.oneOf('LOG_LEVEL', ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const) ?? 'info',
    proxies: ['HTTP_PROXY', 'HTTPS_PROXY', 'http_proxy', 'https_proxy'].filter(name => read.text(name) !== null),
  }
  read.unknown()
  return read.problems.length > 0 ? { ok: false, problems: read.problems } : { ok: true, config: Object.freeze(config) }
}

/** A Config as it may be shown: secrets say only whether they are set. */
export function redacted(config: Config): Record<string, unknown> {
  const shown = (value: unknown): string => (value === null ? 'not set' : 'set')
  const providers = Object.entries(config.providers).map(([id, { key, baseUrl }]) => [id, { key: shown(key), baseUrl }])
  return {
    ...config,
    apiKey: shown(config.apiKey),
    callbackSecret: shown(config.callbackSecret),
    masterKey: shown(config.masterKey),
    s3: shown(config.s3.accessKeyId ?? null),
    providers: Object.fromEntries(providers),
    tracing: config.tracing && { ...config.tracing, headers: Object.keys(config.tracing.headers) },
  }
}

class Reader {
  readonly problems: string[] = []
  readonly #env: Env

  constructor(env: Env) {
    this.#env = env
  }

  problem(sentence: string): void {
    this.problems.push(sentence)
  }

  text(name: string): string | null {
    const value = this.#env[name]?.trim()
    return value === undefined || value === '' ? null : value
  }

  oneOf<T extends string>(name: string, values: readonly T[]): T | null {
    const value = this.text(name)
    if (value === null) return null
    const found = values.find(each => each === value)
    if (found === undefined) this.problem(`${name} must be one of ${values.join(', ')}; it is ${JSON.stringify(value)}`)
    return found ?? null
  }

  integer(name: string, min: number, max: number): number | null {
    const value = this.text(name)
    if (value === null) return null
    const number = Number(value)
    if (/^\d+$/.test(value) && number >= min && number <= max) return number
    this.problem(`${name} must be a whole number from ${min} to ${max}; it is ${JSON.stringify(value)}`)
    return null
  }

  /** An http(s) URL without a trailing slash. */
  url(name: string): string | null {
    const value = this.text(name)
    if (value === null) return null
    const url = URL.parse(value)
    if (url && /^https?:$/.test(url.protocol) && !url.username && !url.search && !url.hash)
      return value.replace(/\/+$/, '')
    this.problem(`${name} must be an http or https URL without credentials, query or fragment`)
    return null
  }

  list(name: string): string[] {
    return (this.text(name) ?? '')
      .split(',')
      .map(part => part.trim())
      .filter(part => part !== '')
  }

  pairs(name: string): Record<string, string> {
    return Object.fromEntries(
      this.list(name).flatMap(part => {
        const cut = part.lastIndexOf('=')
        if (cut > 0 && cut < part.length - 1) return [[part.slice(0, cut).trim(), part.slice(cut + 1).trim()] as const]
        this.problem(`${name} must hold entries name=value; ${JSON.stringify(part)} is none`)
        return []
      }),
    )
  }

  /** A name that nobody has would be silently without effect. */
  #known(name: string, ids: readonly string[]): void {
    for (const id of ids)
      if (!PROVIDER_IDS.includes(id))
        this.problem(`${name}: there is no provider ${JSON.stringify(id)}; there are ${PROVIDER_IDS.join(', ')}`)
  }

  providerOrder(): string[] {
    const ids = this.list('BABYCHAIN_PROVIDER_ORDER')
    this.#known('BABYCHAIN_PROVIDER_ORDER', ids)
    return ids
  }

  concurrency(): Record<string, number> {
    const name = 'BABYCHAIN_CONCURRENCY'
    const entries = Object.entries(this.pairs(name)).map(([key, value]) => [key, Number(value)] as const)
    for (const [key, value] of entries) {
      if (!Number.isInteger(value) || value < 1) this.problem(`${name}: ${key} must be a whole number from 1`)
    }
    this.#known(
      name,
      entries.map(([key]) => key),
    )
    return Object.fromEntries(entries)
  }

  /** It travels in a header, which takes nothing else. */
  providerKey(name: string): string | null {
    const key = this.text(name)
    if (key !== null && !/^[\x20-\x7e]+$/.test(key))
      this.problem(`${name} must be one line of printable ASCII, as the provider shows it`)
    return key
  }

  apiKey(): string | null {
    const key = this.text('BABYCHAIN_API_KEY')
    if (key !== null && !API_KEY.test(key))
      this.problem(
        'BABYCHAIN_API_KEY must have 20 characters or more and 512 at most, of printable ASCII without blanks and commas',
      )
    return key
  }

  /** The number only: `now` would stay in the environment and be the word for every restore to come. */
  resume(): string | null {
    const starts = this.integer('BABYCHAIN_RESUME', 1, Number.MAX_SAFE_INTEGER)
    return starts === null ? null : String(starts)
  }

  callbackSecret(): string | null {
    const secret = this.text('BABYCHAIN_CALLBACK_SECRET')
    if (secret === null) return null
    const parsed = parseSecret(secret)
    if (!parsed.ok) this.problem(`BABYCHAIN_CALLBACK_SECRET: ${parsed.problem}`)
    return secret
  }

  masterKey(): Uint8Array | null {
    const text = this.text('BABYCHAIN_MASTER_KEY')
    if (text === null) return null
    const bytes = Buffer.from(text, 'base64')
    if (bytes.length === 32) return bytes
    this.problem('BABYCHAIN_MASTER_KEY must be 32 bytes in base64, as `openssl rand -base64 32` makes them')
    return null
  }

  allow(): readonly AllowEntry[] {
    const parsed = parseAllow(this.text('BABYCHAIN_EGRESS_ALLOW') ?? '')
    if (parsed.ok) return parsed.entries
    this.problem(`BABYCHAIN_EGRESS_ALLOW: ${parsed.problem}`)
    return []
  }

  tracing(): Config['tracing'] {
    const base = this.url('OTEL_EXPORTER_OTLP_ENDPOINT')
    const url = this.url('OTEL_EXPORTER_OTLP_TRACES_ENDPOINT') ?? (base && `${base}/v1/traces`)
    const headers = this.headers('OTEL_EXPORTER_OTLP_HEADERS')
    return url ? { url, headers, serviceName: this.text('OTEL_SERVICE_NAME') ?? 'babychain' } : null
  }

  /** `name=value` entries; the value may hold `=`, and is secret: a problem does not quote it. */
  headers(name: string): Record<string, string> {
    const entries = this.list(name).map(part => {
      const [name = '', ...value] = part.split('=')
      return [name.trim().toLowerCase(), value.length > 0 ? decoded(value.join('=').trim()) : null] as const
    })
    const isHeader = ([key, value]: readonly [string, string | null]) =>
      /^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(key) && value !== null && /^[\t\x20-\x7e]+$/.test(value)
    const bad = entries.findIndex(entry => !isHeader(entry))
    if (bad >= 0) this.problem(`${name} must hold entries name=value, comma separated; entry ${bad + 1} is none`)
    return Object.fromEntries(entries.map(([key, value]) => [key, value ?? '']))
  }

  media(): Config['media'] {
    const value = this.text('BABYCHAIN_MEDIA') ?? 'disk'
    if (value === 'disk') return { type: 'disk' }
    const address = s3Address(value)
    if (address) return { type: 's3', ...address }
    const rule =
      'a bucket has 3 to 63 lower-case letters, digits, dots and hyphens, with a letter or digit at both ends, and a prefix no ? or #'
    // Some tools take credentials in front of the bucket, others behind it.
    const shown = JSON.stringify(value.replace(/^([a-z0-9]+:\/\/)?.*@/s, '$1…@').replace(/([?#]).*/s, '$1…'))
    this.problem(`BABYCHAIN_MEDIA must be disk or s3://bucket/prefix, where ${rule}; it is ${shown}`)
    return { type: 'disk' }
  }

  /** A misspelled setting would be silently without effect. */
  unknown(): void {
    const known = new Set(VARIABLES.map(variable => variable.name))
    for (const name of Object.keys(this.#env)) {
      if (name.startsWith('BABYCHAIN_') && !known.has(name))
        this.problem(`${name} is not a variable of BabyChain; see the table in the README`)
    }
  }
}

function decoded(text: string): string | null {
  try {
    return decodeURIComponent(text)
  } catch {
    return null
  }
}
