/**
 * Reads what a caller sends, and trusts none of it.
 *
 * 1. A cap holds by Content-Length and while the bytes stream in, whatever the headers say. A whole body counts only if its
 *    key is good still: one that was held back until the key was revoked does nothing.
 * 2. A stop waits a little for what callers are sending, and then refuses it: they send it again.
 * 3. JSON is strict: UTF-8 without a byte order mark, one object, at most 32 levels, no key twice, no number that
 *    overflows; no `__proto__` or `constructor` key, no NUL and no half surrogate pair in any string.
 * 4. What cannot be stored byte for byte is refused, with a pointer to where it stands; nothing is repaired.
 */
import { escapePointer } from '../core/chain.ts'
import type { Json } from '../core/json.ts'
import { badKey, type Exchange } from './exchange.ts'
import { ApiProblem, bodyProblem, drainingProblem, type RequestError } from './problem.ts'

/** A request holds prompts and links; pictures are uploaded, not embedded by the dozen. */
const JSON_BYTES = 1 << 20
/** Parameters are flat; what is deeper than this is an attack on a recursive reader. */
const MOST_DEPTH = 32

/** Who sends a body. */
type Sender = Pick<Exchange, 'request' | 'closing' | 'isStillAllowed'>

/** The JSON value of a body of at most `cap` bytes. @throws ApiProblem 400, 401, 413, 415, 503 */
export async function readJson(sender: Sender, cap = JSON_BYTES): Promise<Json> {
  const { request } = sender
  const type = mediaType(request)
  if (type !== 'application/json') {
    const given = type === '' ? 'none' : type.slice(0, 80)
    throw bodyProblem('unsupported_media_type', `The content type must be application/json, not ${given}.`)
  }
  const charset = /charset\s*=\s*"?([^";\s]+)/i.exec(request.headers.get('content-type') ?? '')?.[1]
  if (charset !== undefined && !/^utf-?8$/i.test(charset)) {
    throw bodyProblem('unsupported_media_type', 'JSON is UTF-8; another charset is not taken.')
  }
  return parseJson(decode(await readBytes(sender, cap)))
}

/** The media type of a body, in lower case and without parameters. */
export function mediaType(request: Request): string {
  return (request.headers.get('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? ''
}

/** A body of at most `cap` bytes, uncompressed. @throws ApiProblem 401, 413, 415, 503 */
export async function readBytes(sender: Sender, cap: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  for await (const chunk of capped(sender, cap)) chunks.push(chunk)
  return chunks.length === 1 && chunks[0] ? chunks[0] : Buffer.concat(chunks)
}

/**
 * A body as a stream that throws `payload_too_large` at its first byte too many, and at its end where the key is good no more.
 * @throws ApiProblem 401, 413, 415, 503
 */
export async function* capped(
  { request, closing, isStillAllowed }: Sender,
  cap: number,
): AsyncGenerator<Uint8Array, void> {
  refuseEncoded(request)
  if (Number(request.headers.get('content-length') ?? 0) > cap) throw tooLarge(cap)
  if (!request.body) return
  const reader = request.body.getReader()
  // What waits for bytes then is told that there are none.
  const giveUp = (): void => void reader.cancel().catch(() => {})
  closing.addEventListener('abort', giveUp)
  let bytes = 0
  try {
    for (;;) {
      if (closing.aborted) throw drainingProblem()
      const { done, value } = await reader.read()
      if (done) break
      bytes += value.length
      if (bytes > cap) throw tooLarge(cap)
      yield value
    }
  } catch (error) {
    // Bun's own limit, which is the higher one, speaks only in words.
    if (error instanceof Error && /maxRequestBodySize/.test(error.message)) throw tooLarge(cap)
    throw error
  } finally {
    closing.removeEventListener('abort', giveUp)
    giveUp() // after the end this does nothing
  }
  if (closing.aborted) throw drainingProblem()
  if (!(await isStillAllowed())) throw badKey()
}

function refuseEncoded(request: Request): void {
  const encoding = request.headers.get('content-encoding')
  if (encoding !== null && encoding.trim().toLowerCase() !== 'identity') {
    throw bodyProblem('unsupported_media_type', 'A compressed body is not taken: send it without Content-Encoding.')
  }
}

function tooLarge(cap: number): ApiProblem {
  return bodyProblem('payload_too_large', `The body has more than ${cap} bytes.`)
}

function decode(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    throw bodyProblem('invalid_json', 'The body is not UTF-8.')
  }
}

/** Strict JSON. @throws ApiProblem 400 */
function parseJson(text: string): Json {
  if (text.trim() === '') throw bodyProblem('invalid_json', 'The body is empty.')
  if (text.startsWith('\uFEFF')) throw bodyProblem('invalid_json', 'The body begins with a byte order mark.')
  checkStructure(text)
  let value: Json
  try {
    value = JSON.parse(text) as Json
  } catch (error) {
    const reason = error instanceof Error ? error.message.replace(/^JSON Parse error: /, '').slice(0, 100) : ''
    throw bodyProblem('invalid_json', `The body is not valid JSON: ${reason}`)
  }
  const errors: RequestError[] = []
  checkContent(value, '', errors)
  if (errors.length > 0) throw new ApiProblem('invalid_request', 'The body holds what cannot be stored.', { errors })
  return value
}

interface Frame {
  /** Keys seen, or null in an array. */
  keys: Set<string> | null
  at: string | number
}

/** Finds what JSON.parse hides (a key given twice) or dies of (depth), in one pass without recursion. */
function checkStructure(text: string): void {
  const stack: Frame[] = []
  for (let i = 0; i < text.length; i++) {
    const top = stack.at(-1)
    switch (text.charCodeAt(i)) {
      case 0x7b: // {
      case 0x5b: // [
        if (stack.length === MOST_DEPTH) throw tooDeep(stack)
        stack.push(text[i] === '{' ? { keys: new Set(), at: '' } : { keys: null, at: 0 })
        break
      case 0x7d: // }
      case 0x5d: // ]
        stack.pop()
        break
      case 0x2c: // ,
        if (top && typeof top.at === 'number') top.at += 1
        break
      case 0x22: {
        const end = endOfString(text, i)
        if (top?.keys && isKey(text, end)) addKey(text.slice(i, end), top, stack)
        i = end - 1
      }
    }
  }
}

/** The index behind a string that begins at `start`; the end of the text when it never ends. */
function endOfString(text: string, start: number): number {
  for (let i = start + 1; ; ) {
    const quote = text.indexOf('"', i)
    if (quote < 0) return text.length
    let escapes = 0
    while (text[quote - 1 - escapes] === '\\') escapes += 1
    if (escapes % 2 === 0) return quote + 1
    i = quote + 1
  }
}

function isKey(text: string, end: number): boolean {
  let i = end
  while (text[i] === ' ' || text[i] === '\n' || text[i] === '\r' || text[i] === '\t') i += 1
  return text[i] === ':'
}

function addKey(quoted: string, top: Frame, stack: readonly Frame[]): void {
  let key: string
  try {
    key = JSON.parse(quoted) as string
  } catch {
    return // JSON.parse of the whole will say so
  }
  top.at = key
  if (top.keys?.has(key)) {
    const detail = `The key ${JSON.stringify(key.slice(0, 80))} is given twice.`
    const hint = 'Give every key once: which of two values is meant, nobody can know.'
    throw new ApiProblem('invalid_json', detail, {
      errors: [{ pointer: pointerOf(stack), code: 'twice', detail, hint }],
    })
  }
  top.keys?.add(key)
}

function tooDeep(stack: readonly Frame[]): ApiProblem {
  const detail = `The body is more than ${MOST_DEPTH} levels deep.`
  return new ApiProblem('invalid_json', detail, {
    errors: [{ pointer: pointerOf(stack), code: 'depth', detail, hint: 'Parameters are flat: at most a few levels.' }],
  })
}

function pointerOf(stack: readonly Frame[]): string {
  return stack.map(({ at }) => `/${escapePointer(String(at))}`).join('')
}

const FORBIDDEN = new Set(['__proto__', 'constructor', 'prototype'])
/** Enough to mend; the rest shows on the next try. */
const MOST_ERRORS = 20

/** Depth is bounded by `checkStructure`, so recursion is safe here. */
function checkContent(value: Json, pointer: string, errors: RequestError[]): void {
  if (errors.length >= MOST_ERRORS) return
  if (typeof value === 'string') {
    const wrong = textProblem(value)
    if (wrong) errors.push({ pointer, code: 'characters', ...wrong })
  } else if (typeof value === 'number' && !Number.isFinite(value)) {
    errors.push({ pointer, code: 'number', detail: 'The number is too large.', hint: 'Give a number below 1.8e308.' })
  } else if (Array.isArray(value)) {
    value.forEach((item, i) => {
      checkContent(item, `${pointer}/${i}`, errors)
    })
  } else if (typeof value === 'object' && value !== null) {
    for (const [key, item] of Object.entries(value)) {
      const inner = `${pointer}/${escapePointer(key)}`
      const wrong = textProblem(key)
      if (wrong) errors.push({ pointer, code: 'characters', ...wrong })
      else if (FORBIDDEN.has(key)) {
        const detail = `The key ${key} is not taken.`
        errors.push({ pointer: inner, code: 'unknown_field', detail, hint: 'Remove the field.' })
      } else checkContent(item, inner, errors)
    }
  }
}

function textProblem(text: string): { detail: string; hint: string } | null {
  if (text.includes('\0')) return { detail: 'The text holds a NUL character.', hint: 'Remove \\u0000.' }
  if (!text.isWellFormed()) return { detail: 'The text holds half a surrogate pair.', hint: 'Send valid Unicode text.' }
  return null
}
