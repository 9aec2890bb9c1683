/** What can be set: every variable with its meaning, and the providers that have one. */
import type { KeyedProvider } from '../providers/registry.ts'

export interface Variable {
  name: string
  meaning: string
  /** As shown in the README; empty when there is none. */
  default: string
  secret?: boolean
}

export const PROVIDERS = {
  bfl: { key: 'BFL_API_KEY', base: 'BFL_BASE_URL', url: 'https://api.bfl.ai', title: 'Black Forest Labs' },
  byteplus: {
    key: 'ARK_API_KEY',
    base: 'ARK_BASE_URL',
    url: 'https://ark.ap-southeast.bytepluses.com/api/v3',
    title: 'BytePlus ModelArk',
  },
  fal: { key: 'FAL_KEY', base: 'FAL_BASE_URL', url: 'https://queue.fal.run', title: 'fal' },
  replicate: {
    key: 'REPLICATE_API_TOKEN',
    base: 'REPLICATE_BASE_URL',
    url: 'https://api.replicate.com/v1',
    title: 'Replicate',
  },
  openai: { key: 'OPENAI_API_KEY', base: 'OPENAI_BASE_URL', url: 'https://api.openai.com/v1', title: 'OpenAI' },
  google: {
    key: 'GEMINI_API_KEY',
    base: 'GEMINI_BASE_URL',
    url: 'https://generativelanguage.googleapis.com/v1beta',
    title: 'Google Gemini',
  },
  runway: {
    key: 'RUNWAYML_API_SECRET',
    base: 'RUNWAYML_BASE_URL',
    url: 'https://api.dev.runwayml.com/v1',
    title: 'Runway',
  },
  dashscope: {
    key: 'DASHSCOPE_API_KEY',
    base: 'DASHSCOPE_BASE_URL',
    url: 'https://dashscope-intl.aliyuncs.com/api/v1',
    title: 'Alibaba Model Studio',
  },
} as const satisfies Readonly<Record<KeyedProvider, { key: string; base: string; url: string; title: string }>>

/** Every provider that may be named in a setting. */
export const PROVIDER_IDS: readonly string[] = [...Object.keys(PROVIDERS), 'comfyui', 'sandbox']

export const VARIABLES: readonly Variable[] = [
  { name: 'PORT', meaning: 'where to listen', default: '3000' },
  { name: 'HOST', meaning: 'the address to listen on; the Dockerfile sets 0.0.0.0', default: '127.0.0.1' },
  { name: 'BABYCHAIN_DATA_DIR', meaning: 'database and outputs', default: './data' },
  {
    name: 'BABYCHAIN_MODE',
    meaning: '`sandbox` (no keys, no cost) or `byok` (your own provider keys)',
    default: '`byok` if any provider key or `COMFYUI_URL` is set, else `sandbox`',
  },
  {
    name: 'BABYCHAIN_API_KEY',
    meaning: 'bootstrap API key: 20 to 512 characters of printable ASCII, no blanks and no commas',
    default: 'created and printed once',
    secret: true,
  },
  {
    name: 'BABYCHAIN_CALLBACK_SECRET',
    meaning: '`whsec_…`, signs the callbacks of the bootstrap key',
    default: 'created and printed once',
    secret: true,
  },
  {
    name: 'BABYCHAIN_MASTER_KEY',
    meaning: 'encrypts secrets at rest; 32 bytes in base64',
    default: 'created in the data directory, mode 0600',
    secret: true,
  },
  {
    name: 'BABYCHAIN_PUBLIC_URL',
    meaning:
      'where providers and readers reach us; without it no provider webhooks, and links on the listening address',
    default: '',
  },
  {
    name: 'BABYCHAIN_EGRESS_ALLOW',
    meaning:
      'exact `host:port` or `CIDR:port` entries, comma separated, that callbacks and downloads may reach although they are not public, also over http',
    default: '',
  },
  {
    name: 'BABYCHAIN_MEDIA',
    meaning: '`disk`, or `s3://bucket/prefix` with the usual `AWS_*` variables',
    default: '`disk`',
  },
  {
    name: 'BABYCHAIN_RETENTION_DAYS',
    meaning: 'how long outputs of ended runs are kept; `0` keeps them for ever',
    default: '30',
  },
  {
    name: 'BABYCHAIN_RESUBMIT_UNKNOWN',
    meaning: '`1` sends a job again when nobody can say whether the provider took it: may pay twice',
    default: '`0`',
  },
  {
    name: 'BABYCHAIN_RESUME',
    meaning: 'lets a restored database go on: the number that the refused start names (or type `serve --resume`)',
    default: '',
  },
  {
    name: 'BABYCHAIN_PROVIDER_ORDER',
    meaning: 'providers to prefer, comma separated; a run may say otherwise',
    default: "the catalogue's order",
  },
  {
    name: 'BABYCHAIN_CONCURRENCY',
    meaning: 'jobs at once per provider, such as `bfl=24,fal=10`',
    default: 'what the provider documents',
  },
  {
    name: 'BABYCHAIN_MODEL_IDS',
    meaning: "a provider's own ids, such as `byteplus:seedance-1-5-pro-251215=ep-123`, comma separated",
    default: '',
  },
  {
    name: 'BABYCHAIN_SANDBOX_LATENCY_MS',
    meaning: 'how long a sandbox job takes',
    default: '1500 for a picture, 4000 for a film',
  },
  ...Object.values(PROVIDERS).map(({ key, title }) => ({
    name: key,
    meaning: `key of ${title}`,
    default: '',
    secret: true,
  })),
  ...Object.values(PROVIDERS).map(({ base, url, title }) => ({
    name: base,
    meaning: `what is before the path of a call to ${title}`,
    default: url,
  })),
  { name: 'COMFYUI_URL', meaning: 'a ComfyUI server of your own, such as `http://127.0.0.1:8188`', default: '' },
  {
    name: 'COMFYUI_WORKFLOWS',
    meaning: 'your workflows in API format: a folder of JSON files, or one file for every model (docs/comfyui.md)',
    default: '',
  },
  {
    name: 'OTEL_EXPORTER_OTLP_ENDPOINT',
    meaning: 'an OpenTelemetry collector for traces, such as `http://127.0.0.1:4318`; without it there are none',
    default: '',
  },
  {
    name: 'OTEL_EXPORTER_OTLP_TRACES_ENDPOINT',
    meaning: 'the same, as the whole address to which traces are posted (OTLP/HTTP, JSON)',
    default: '`/v1/traces` of the endpoint',
  },
  {
    name: 'OTEL_EXPORTER_OTLP_HEADERS',
    meaning: 'headers for the collector, such as `x-api-key=…`, comma separated, values percent-encoded',
    default: '',
    secret: true,
  },
  { name: 'OTEL_SERVICE_NAME', meaning: 'what we are called in traces', default: '`babychain`' },
  { name: 'LOG_LEVEL', meaning: '`trace`, `debug`, `info`, `warn`, `error`, `fatal` or `silent`', default: '`info`' },
]
