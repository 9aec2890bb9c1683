/**
 * The vault in an S3 bucket, by Bun.S3Client.
 *
 * 1. A file goes up from the local disk, in parts, after it was measured and checked: a bad or broken output never
 *    reaches the bucket, and a bucket that is busy costs no second download.
 * 2. Few uploads at once, of few parts: 64 outputs that arrive together must not fill the memory with parts.
 * 3. A busy bucket (503, 500, a lost connection) is asked again a few times, then it is `StorageUnavailable`.
 * 4. No key, endpoint or query of a link is ever in a message.
 */
import type { S3Client } from 'bun'
import { StorageUnavailable } from '../../core/ports.ts'
import { errorCode, type Vault } from './disk.ts'

export interface S3Address {
  bucket: string
  /** Without slashes at its ends; may be empty. */
  prefix: string
}

/** What the client needs to sign; absent fields are taken from Bun's own reading of the environment. */
export interface S3Access {
  accessKeyId?: string
  secretAccessKey?: string
  sessionToken?: string
  region?: string
  endpoint?: string
}

export interface S3Options extends S3Access {
  /** Waits between tries (ms). */
  wait?: (ms: number) => Promise<unknown>
}

/** Parses `s3://bucket/prefix`; null for anything else. */
export function s3Address(url: string): S3Address | null {
  const match = /^s3:\/\/([a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:\/([^?#]*))?$/.exec(url)
  if (!match?.[1]) return null
  return { bucket: match[1], prefix: (match[2] ?? '').replace(/^\/+|\/+$/g, '') }
}

/** The usual AWS_* variables, in the order in which AWS's own tools read them. */
export function s3Access(env: Readonly<Record<string, string | undefined>>): S3Access {
  const found: S3Access = {}
  const take = (field: keyof S3Access, ...names: string[]) => {
    const value = names.map(name => env[name]).find(value => value)
    if (value) found[field] = value
  }
  take('accessKeyId', 'AWS_ACCESS_KEY_ID')
  take('secretAccessKey', 'AWS_SECRET_ACCESS_KEY')
  take('sessionToken', 'AWS_SESSION_TOKEN')
  take('region', 'AWS_REGION', 'AWS_DEFAULT_REGION')
  take('endpoint', 'AWS_ENDPOINT_URL_S3', 'AWS_ENDPOINT_URL', 'AWS_ENDPOINT')
  return found
}

/** Keeps files as `s3://bucket/prefix/ab/cd/<id>.<ext>`. */
export function s3Vault({ bucket, prefix }: S3Address, { wait = Bun.sleep, ...access }: S3Options = {}): Vault {
  const client = new Bun.S3Client({ ...access, bucket })
  const small = limiter(SMALL_UPLOADS)
  const large = limiter(LARGE_UPLOADS)
  const key = (location: string): string => location.slice(`s3://${bucket}/`.length)
  const again = <T>(doing: string, run: () => Promise<T>, ms = DEADLINE_MS): Promise<T> =>
    withRetries(doing, run, wait, ms)
  return {
    place: (id, ext) =>
      ['s3:/', bucket, prefix, id.slice(-4, -2), id.slice(-2), `${id}.${ext}`].filter(part => part !== '').join('/'),
    owns: location => location.startsWith(`s3://${bucket}/`),
    put: (source, location, type) => {
      const file = typeof source === 'string' ? Bun.file(source) : source
      const upload = (file instanceof Uint8Array ? file.length : file.size) <= PART_BYTES ? small : large
      return upload(() =>
        again('store a file', async () => {
          await client.write(key(location), file, { type, partSize: PART_BYTES, queueSize: PARTS_AT_ONCE })
        }),
      )
    },
    read: (location, range) => again('read a file', () => openObject(client, key(location), range)),
    remove: location => again('remove a file', () => client.delete(key(location))),
    probe: () =>
      again(
        'write a file',
        async () => {
          const name = [prefix, `probe-${crypto.randomUUID()}`].filter(part => part !== '').join('/')
          await client.write(name, 'BabyChain can write here\n')
          await client.delete(name)
        },
        PROBE_DEADLINE_MS,
      ),
  }
}

/** S3's smallest part; its 10,000 parts make 48 GiB, far above what is kept. */
const PART_BYTES = 5 * 2 ** 20
const PARTS_AT_ONCE = 2
/** With the lines above: at most 20 MiB of parts and 40 MiB of small files on their way, and the client's copies of them. */
const LARGE_UPLOADS = 2
const SMALL_UPLOADS = 8

/** The first chunk is awaited: only then is it known whether the object exists. */
async function openObject(
  client: S3Client,
  key: string,
  range?: { start: number; end: number },
): Promise<ReadableStream<Uint8Array> | null> {
  const file = client.file(key)
  const reader = (range ? file.slice(range.start, range.end + 1) : file).stream().getReader()
  let first: Awaited<ReturnType<typeof reader.read>> | null
  try {
    first = await reader.read()
  } catch (error) {
    if (errorCode(error) === 'NoSuchKey') return null
    throw error
  }
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = first ?? (await reader.read())
      first = null
      if (done) controller.close()
      else controller.enqueue(value)
    },
    cancel: reason => reader.cancel(reason),
  })
}

async function withRetries<T>(
  doing: string,
  run: () => Promise<T>,
  wait: (ms: number) => Promise<unknown>,
  deadlineMs: number,
): Promise<T> {
  for (const pause of [...PAUSES_MS, null]) {
    try {
      return await within(deadlineMs, run())
    } catch (error) {
      const code = errorCode(error)
      if (code === '' && !(error instanceof Late)) throw error
      if (pause === null || FINAL[code]) {
        throw new StorageUnavailable(
          `cannot ${doing} in the bucket: ${FINAL[code] ?? 'it does not answer as it should'} (${code || 'timeout'})`,
          {
            cause: error,
          },
        )
      }
      await wait(pause)
    }
  }
  throw new Error('unreachable')
}

const PAUSES_MS = [200, 800, 2_400]

/** A gigabyte at 2 MB/s. Bun's client has no deadline of its own, and a hung upload would hold its place for ever. */
const DEADLINE_MS = 10 * 60_000

/** A few bytes: somebody waits to hear whether the bucket answers at all. */
const PROBE_DEADLINE_MS = 5_000

/** Errors that another try cannot mend. */
const FINAL: Record<string, string> = {
  ERR_S3_MISSING_CREDENTIALS: 'set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY',
  ERR_S3_INVALID_ENDPOINT: 'AWS_ENDPOINT_URL_S3 is not a URL',
  ENOENT: 'the local file is gone',
  NoSuchBucket: 'there is no such bucket',
  AccessDenied: 'the key may not do this',
  InvalidAccessKeyId: 'the access key is not known there',
  SignatureDoesNotMatch: 'the secret key is wrong',
}

class Late extends Error {}

async function within<T>(ms: number, work: Promise<T>): Promise<T> {
  const { promise, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Late()), ms)
  try {
    return await Promise.race([work, promise])
  } finally {
    clearTimeout(timer)
  }
}

/** Lets `max` tasks run at once; the others wait in line. */
function limiter(max: number): <T>(task: () => Promise<T>) => Promise<T> {
  const waiting: (() => void)[] = []
  let running = 0
  return async task => {
    if (running >= max) await new Promise<void>(resolve => waiting.push(resolve))
    else running += 1
    try {
      return await task()
    } finally {
      // The place goes straight to the next in line, so that a newcomer cannot take it in between.
      const next = waiting.shift()
      if (next) next()
      else running -= 1
    }
  }
}
