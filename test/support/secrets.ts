/**
 * Provider keys that are recognised wherever they turn up, and the watch over what the applications of the tests say,
 * keep and send. leak-watch.ts asks after every test and after the whole suite what was found.
 *
 * 1. An application of the tests starts with no other provider keys than these (`onlyRecognisable`).
 * 2. A key is found as it is, as base64 in both alphabets at any alignment, and as hex; a piece of it is found as well,
 *    since it is made of marks.
 * 3. Data is searched when it is seen, not stored: the whole suite may pass through here.
 * 4. Who began and was not searched at its end is an error of the suite, too.
 */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'

/** Letters and digits only: no encoding of text changes it. */
const MARK = 'kEyLeAkEdX9q'

/** A key of its own for every caller; `of` says whose it is. */
export function providerKey(of: string): string {
  const chance = crypto.randomUUID().slice(0, 8)
  return `${MARK}-${of}-${MARK}-${chance}-${MARK}`
}

/** @throws Error when an environment holds a provider key that nobody would recognise. */
export function onlyRecognisable(env: Readonly<Record<string, string>>): void {
  const wrong = Object.entries(env).filter(([name, value]) => isKeyName(name) && value !== '' && !value.includes(MARK))
  if (wrong.length > 0) throw new Error(`make the value of ${wrong.map(([name]) => name)} with providerKey()`)
}

const isKeyName = (name: string): boolean => !/^(BABYCHAIN|AWS)_/.test(name) && /(KEY|TOKEN|SECRET)$/.test(name)

export interface Leak {
  where: string
  /** In which form. */
  as: string
}

const found: Leak[] = []

/** What was found since the last time. */
export function takeLeaks(): Leak[] {
  return found.splice(0)
}

const unsearched = new Set<object>()

/** Somebody who will search what it kept when it ends. */
export function begun(who: object): void {
  unsearched.add(who)
}

export function searched(who: object): void {
  unsearched.delete(who)
}

/** How many began and never were searched. */
export function countUnsearched(): number {
  return unsearched.size
}

/** Something that must hold no provider key, nor any of `others`. */
export function saw(where: string, data: string | Uint8Array, others: readonly string[] = []): void {
  found.push(...leaksIn(data, others).map(as => ({ where, as })))
}

/** Every file below a folder, whatever it is. A file that goes away meanwhile holds nothing. */
export function sawFolder(where: string, dir: string, others: readonly string[] = []): number {
  const files = readdirSync(dir, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
  for (const { parentPath, name } of files) saw(`${where} ${name}`, bytesIn(join(parentPath, name)), others)
  return files.length
}

/** An answer, as it is read: its head now, its body while the reader takes it. */
export function sawResponse(where: string, response: Response, others: readonly string[] = []): Response {
  saw(`${where}, its head`, JSON.stringify([...response.headers]), others)
  if (response.body === null) return response
  let rest = new Uint8Array()
  const watch = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, out) {
      const both = Buffer.concat([rest, chunk])
      saw(where, both, others)
      rest = both.subarray(Math.max(0, both.length - OVERLAP))
      out.enqueue(chunk)
    },
  })
  const { status, statusText, headers } = response
  return new Response(response.body.pipeThrough(watch), { status, statusText, headers })
}

/** A mark that is cut in two pieces lies within so many bytes. */
const OVERLAP = 64

/** The forms in which a provider key, or one of `others`, stands in some data. */
export function leaksIn(data: string | Uint8Array, others: readonly string[] = []): string[] {
  const bytes =
    typeof data === 'string' ? Buffer.from(data) : Buffer.from(data.buffer, data.byteOffset, data.byteLength)
  const forms = others.length === 0 ? MARKS : [...MARKS, ...others.flatMap(formsOf)]
  return forms.flatMap(({ form, as }) => (bytes.includes(form) ? [as] : []))
}

function formsOf(secret: string): { form: string; as: string }[] {
  const bytes = Buffer.from(secret)
  // At each alignment, the characters that depend on the secret alone.
  const base64 = [0, 1, 2].map(shift => {
    const text = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64')
    return text.slice(Math.ceil((shift * 8) / 6), Math.floor(((shift + bytes.length) * 8) / 6))
  })
  const url = base64.map(text => text.replaceAll('+', '-').replaceAll('/', '_'))
  const hex = bytes.toString('hex')
  return [
    { form: secret, as: 'as it is' },
    ...[...new Set([...base64, ...url])].map(form => ({ form, as: 'as base64' })),
    { form: hex, as: 'as hex' },
    { form: hex.toUpperCase(), as: 'as hex' },
  ]
}

const MARKS = formsOf(MARK)

function bytesIn(file: string): Uint8Array {
  try {
    return readFileSync(file)
  } catch {
    return new Uint8Array()
  }
}
