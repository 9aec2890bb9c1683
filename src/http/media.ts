/**
 * Media: outputs to read, input pictures to upload.
 *
 * 1. A media is read with its owner's key or with a signed link, and with nothing else. Bytes of strangers are shown as
 *    what their bytes are, never as a page: nosniff, and a sandbox that may do nothing.
 * 2. A media never changes: its SHA-256 is its ETag, and a cache may keep it.
 * 3. An upload is capped while it streams in, and kept only when its bytes are a picture. What a key may upload in an hour,
 *    and what it may have under way of what costs memory, is bounded.
 */
import { Elysia } from 'elysia'
import type { StepError } from '../core/errors.ts'
import type { StoredMedia } from '../core/ports.ts'
import { LIMITS } from '../core/run.ts'
import { capped, mediaType } from './body.ts'
import type { ApiDeps } from './deps.ts'
import type { MediaDto } from './dto/catalog.ts'
import { iso } from './dto/time.ts'
import {
  type Authorized,
  authenticate,
  type Context,
  type Exchange,
  guarded,
  isUuid,
  json,
  matches,
  open,
  unauthenticated,
} from './exchange.ts'
import * as docs from './openapi/catalog.ts'
import { ApiProblem, bodyProblem, type RequestError } from './problem.ts'
import { createQuota, type Quota } from './quota.ts'
import { parseRange } from './range.ts'
import { createShares, type Shares } from './shares.ts'

export function mediaRoutes(context: Context) {
  const limits = {
    quota: createQuota(() => context.deps.clock.now()),
    forms: createShares({ perKey: MOST_FORMS_OF_A_KEY, inAll: MOST_FORMS }),
  }
  return new Elysia({ name: 'media' })
    .post(
      '/api/v1/media',
      guarded(context, 'runs:write', exchange => upload(context.deps, exchange, limits)),
      { parse: 'none', detail: docs.upload },
    )
    .get(
      '/api/v1/media/:mediaId',
      open(context, exchange => read(context.deps, exchange)),
      { detail: docs.download },
    )
}

// ── Reading ───────────────────────────────────────────────────────────────────────────────────────────────────────

async function read(deps: ApiDeps, exchange: Exchange): Promise<Response> {
  const { request } = exchange
  const stored = await readable(deps, exchange)
  const etag = `"${stored.sha256}"`
  const headers = {
    etag,
    'accept-ranges': 'bytes',
    'cache-control': 'private, max-age=86400, immutable',
    'content-disposition': `inline; filename="${stored.mediaId}.${EXTENSIONS[stored.mime] ?? 'bin'}"`,
    'content-security-policy': SANDBOX,
    'x-content-type-options': 'nosniff',
  }
  if (matches(request.headers.get('if-none-match'), etag)) return new Response(null, { status: 304, headers })
  const fresh = [null, etag].includes(request.headers.get('if-range'))
  const range = parseRange(fresh ? request.headers.get('range') : null, stored.bytes)
  if (range.type === 'unsatisfiable') throw unsatisfiable(stored.bytes)
  const part = range.type === 'part' ? range : undefined
  const length = part ? part.end - part.start + 1 : stored.bytes
  const stream = exchange.head ? null : await deps.media.open(stored.mediaId, part)
  if (!exchange.head && !stream) throw unknownMedia()
  return new Response(stream, {
    status: part ? 206 : 200,
    headers: {
      ...headers,
      'content-type': stored.mime,
      'content-length': String(length),
      ...(part ? { 'content-range': `bytes ${part.start}-${part.end}/${stored.bytes}` } : {}),
    },
  })
}

/** What a reader that goes to the link itself may do with a file: look at it. */
const SANDBOX = "default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'; sandbox"

const EXTENSIONS: Readonly<Record<string, string>> = {
  'image/png': 'png',
  'image/jpeg': 'jpg',
  'image/webp': 'webp',
  'video/mp4': 'mp4',
  'video/webm': 'webm',
}

/** The media of the path, if the asker may read it. @throws ApiProblem 401, 403, 404 */
async function readable(deps: ApiDeps, exchange: Exchange): Promise<StoredMedia> {
  const { url, params, request } = exchange
  const id = params.mediaId ?? ''
  const link = { expires: url.searchParams.get('expires'), signature: url.searchParams.get('signature') }
  const byLink = deps.links.allows(id, link, deps.clock.now())
  if (!byLink && link.signature !== null && !request.headers.has('authorization'))
    throw unauthenticated('The link has expired or was changed. The run has fresh ones.')
  if (!byLink) exchange.principal = await authenticate(deps, exchange, 'runs:read')
  const stored = isUuid(id) ? await deps.media.find(id) : null
  if (stored === null || (!byLink && stored.apiKeyId !== exchange.principal?.apiKeyId)) throw unknownMedia()
  return stored
}

function unsatisfiable(bytes: number): ApiProblem {
  const detail = `The range is none of the ${bytes} bytes.`
  return new ApiProblem('invalid_request', detail, {
    status: 416,
    headers: { 'content-range': `bytes */${bytes}` },
    errors: [{ parameter: 'Range', code: 'range', detail, hint: 'Give bytes=first-last, or leave Range out.' }],
  })
}

function unknownMedia(): ApiProblem {
  return new ApiProblem('not_found', 'There is no such media.')
}

// ── Uploading ─────────────────────────────────────────────────────────────────────────────────────────────────────

const PICTURE_BYTES = LIMITS.pictureBytes
/** What a form adds to its file. */
const FORM_BYTES = 64 << 10
/** A form is read whole before it can be taken apart, so only a few may be under way, and none of them for ever. */
const MOST_FORMS = 4
const MOST_FORMS_OF_A_KEY = 2
/** The largest picture on half a megabit a second. */
const FORM_MS = 10 * 60_000

type Picture = { mime: string | null; length: number | null; stream: ReadableStream<Uint8Array> }

async function upload(
  deps: ApiDeps,
  exchange: Authorized,
  { quota, forms }: { quota: Quota; forms: Shares },
): Promise<Response> {
  // Bun re-arms its idle timer only after 160 KB: at its default a slow line would be cut in the middle.
  exchange.allowSilence(120)
  const { apiKeyId } = exchange.principal
  const { settle } = quota.reserve(apiKeyId, Math.min(PICTURE_BYTES, lengthOf(exchange.request) ?? PICTURE_BYTES))
  let stored = 0
  try {
    const isForm = mediaType(exchange.request) === 'multipart/form-data'
    const media = isForm ? await takeForm(deps, exchange, forms) : await takeBytes(deps, exchange)
    stored = media.bytes
    return json(201, media, { location: `/api/v1/media/${media.id}` })
  } finally {
    settle(stored)
  }
}

function lengthOf(request: Request): number | null {
  const length = request.headers.get('content-length') ?? ''
  return /^\d+$/.test(length) ? Number(length) : null
}

async function takeForm(deps: ApiDeps, exchange: Authorized, forms: Shares): Promise<MediaDto> {
  const { apiKeyId } = exchange.principal
  const place = forms.take(apiKeyId)
  if ('full' in place) throw busy(place.full)
  try {
    return await keep(deps, apiKeyId, await fromForm(deps, exchange))
  } finally {
    place.free()
  }
}

async function takeBytes(deps: ApiDeps, exchange: Authorized): Promise<MediaDto> {
  const { request, principal } = exchange
  const type = mediaType(request)
  if (!type.startsWith('image/') && type !== 'application/octet-stream') {
    const hint = 'Send the bytes with their image/… type, or a form (multipart/form-data) with the field `file`.'
    throw bodyProblem('unsupported_media_type', 'The content type is no picture.', { hint })
  }
  const cut: { by: unknown } = { by: null }
  const length = lengthOf(request)
  const stream = streamOf(capped(exchange, PICTURE_BYTES), cut)
  if (length !== null && length > PICTURE_BYTES) throw tooLarge()
  return keep(deps, principal.apiKeyId, { mime: type, length, stream }).catch(error => {
    throw cut.by ?? error
  })
}

async function keep(deps: ApiDeps, apiKeyId: string, picture: Picture): Promise<MediaDto> {
  const { media, clock, links, store } = deps
  const id = clock.id()
  const at = clock.now()
  const kept = await media.keep({ id, kind: 'image', ...picture })
  if (!kept.ok) throw refused(kept.error)
  await store.addMedia({ ...kept.output, runId: null, stepId: null, apiKeyId, createdAt: at })
  const { mime, bytes, sha256, width, height } = kept.output
  return {
    id,
    object: 'media',
    ref: `media:${id}`,
    mime,
    bytes,
    sha256,
    ...(width === undefined ? {} : { width }),
    ...(height === undefined ? {} : { height }),
    created_at: iso(at),
    url: links.media(id, at),
  }
}

/** The storage speaks of outputs, and blames a provider; here the file is the caller's. */
function refused(error: StepError): ApiProblem {
  const { code } = error
  if (code === 'storage_unavailable')
    return new ApiProblem(code, 'The picture was not stored; nothing was half made.', {
      headers: { 'retry-after': '5' },
    })
  return bodyProblem('unsupported_media', error.message.replace(/^The output/, 'The file'))
}

function busy(full: 'key' | 'server'): ApiProblem {
  const detail =
    full === 'key' ? `The key has ${MOST_FORMS_OF_A_KEY} forms under way.` : `${MOST_FORMS} forms are being read.`
  const hint = 'Try again, or send the bytes themselves with their image/… type.'
  return new ApiProblem('rate_limited', detail, { hint, headers: { 'retry-after': '1' } })
}

function tooLarge(): ApiProblem {
  return bodyProblem('payload_too_large', `A picture has at most ${PICTURE_BYTES} bytes.`, {
    hint: 'Send a smaller one.',
  })
}

/** The bytes of a form, if they come in time: who sends a byte a minute would keep its place for ever. */
async function formBytes({ clock }: ApiDeps, exchange: Exchange): Promise<Uint8Array> {
  const late = Promise.withResolvers<never>()
  let isLate = false
  const forget = clock.at(clock.now() + FORM_MS, () => {
    isLate = true
    late.reject(tooSlow())
  })
  const read = async (): Promise<Uint8Array> => {
    const chunks: Uint8Array[] = []
    for await (const chunk of capped(exchange, PICTURE_BYTES + FORM_BYTES)) {
      if (isLate) break
      chunks.push(chunk)
    }
    return Buffer.concat(chunks)
  }
  const bytes = read()
  bytes.catch(() => {}) // when it is late, nobody waits for it any more
  try {
    return await Promise.race([bytes, late.promise])
  } finally {
    forget()
  }
}

function tooSlow(): ApiProblem {
  const detail = `The form did not come within ${FORM_MS / 60_000} minutes.`
  return bodyProblem('invalid_request', detail, { hint: 'Send the bytes themselves with their image/… type.' })
}

async function fromForm(deps: ApiDeps, exchange: Exchange): Promise<Picture> {
  const bytes = await formBytes(deps, exchange)
  const form = await parseForm(bytes, exchange.request.headers.get('content-type') ?? '')
  const errors: RequestError[] = []
  for (const name of new Set(form.keys())) {
    if (name !== 'file') errors.push(formError(name, 'unknown_field', 'The form has one field: file.'))
  }
  const files = form.getAll('file')
  const [file] = files
  if (!(file instanceof Blob) || files.length !== 1) {
    errors.push(formError('file', 'required', 'The form needs exactly one file in the field file.'))
    throw new ApiProblem('invalid_request', 'The form is not right.', { errors })
  }
  if (errors.length > 0) throw new ApiProblem('invalid_request', 'The form is not right.', { errors })
  if (file.size > PICTURE_BYTES) throw tooLarge()
  return { mime: file.type || null, length: file.size, stream: file.stream() }
}

function formError(name: string, code: string, detail: string): RequestError {
  return { pointer: `/${name.slice(0, 80)}`, code, detail, hint: "curl -F 'file=@picture.png' sends it." }
}

async function parseForm(bytes: Uint8Array, type: string): ReturnType<Response['formData']> {
  try {
    return await new Response(bytes as Uint8Array<ArrayBuffer>, { headers: { 'content-type': type } }).formData()
  } catch {
    throw bodyProblem('invalid_request', 'The body is no multipart form.', {
      hint: "curl -F 'file=@picture.png' sends one.",
    })
  }
}

/** The stream of some chunks; what cuts it is noted, since whoever reads it only learns that it broke. */
function streamOf(chunks: AsyncGenerator<Uint8Array, void>, cut: { by: unknown }): ReadableStream<Uint8Array> {
  let open = true
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        const { done, value } = await chunks.next()
        // The reader may have gone while we waited for the caller's next bytes.
        if (!open) return
        if (done) controller.close()
        else controller.enqueue(value)
      } catch (error) {
        cut.by = error
        if (open) controller.error(error)
      }
    },
    cancel() {
      open = false
      chunks.return().catch(() => {}) // the caller went away first
    },
  })
}
