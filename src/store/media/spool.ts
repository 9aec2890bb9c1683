/**
 * The first half of a keep: a stranger's stream becomes a local file, or a few bytes in memory, counted, hashed and checked.
 *
 * 1. The bytes decide what a file is; what the sender says of it is for messages only.
 * 2. A web page is refused at its first bytes, an oversized file at its first byte too many.
 * 3. An error is `retryable` when another download may bring the output.
 * 4. Blame is told apart: reading the stream is the network's, what the bytes are is the provider's, the disk is ours.
 */
import { type FileHandle, open } from 'node:fs/promises'
import { stepError } from '../../core/errors.ts'
import type { StepKind } from '../../core/model.ts'
import type { KeepOrder, Kept } from '../../core/ports.ts'
import type { Output } from '../../core/run.ts'
import { onDisk, writeAll } from './disk.ts'
import { describe, type Format, HEAD_BYTES, inspect, NOUNS, sniff } from './sniff.ts'

/** Largest files in bytes, by kind; largest picture in pixels. */
export interface Caps extends Record<StepKind, number> {
  pixels: number
}

/** What a file is found to be. */
export type Facts = Omit<Output, 'mediaId' | 'location'> & { ext: string }

/** `bytes`: the whole of a small file, of which nothing lies at the path; null for a larger one, which does. */
export type Spooled = { ok: true; file: Facts; bytes: Uint8Array | null } | Extract<Kept, { ok: false }>

/** Most pictures in a web format are smaller; a detour of such a file over the disk costs more than its copy. */
const SMALL_BYTES = 256 * 1024

/**
 * Streams into memory, or into a new file at `path` when it gets larger, and checks it. The file is the caller's to remove,
 * whatever the outcome.
 * @throws StorageUnavailable when the disk does not take it
 */
export function spool(order: Order, path: string, caps: Caps): Promise<Spooled> {
  return drafted(order, new Draft(path), caps)
}

/** Checks a file that lies at `path` as if it came now. @throws StorageUnavailable when the disk does not give it */
export async function measured(path: string, kind: StepKind, caps: Caps): Promise<Spooled> {
  const draft = new Draft(path)
  await draft.take()
  return drafted({ kind, stream: Bun.file(path).stream(), mime: null, length: null }, draft, caps)
}

async function drafted(order: Order, draft: Draft, caps: Caps): Promise<Spooled> {
  try {
    const received = await receive(order, draft, caps[order.kind])
    return received.ok ? await check(order, received, draft, caps.pixels) : received
  } finally {
    await draft.close()
  }
}

class Draft {
  readonly #path: string
  #held: Uint8Array[] = []
  #bytes = 0
  #file: FileHandle | null = null
  #isThere = false

  constructor(path: string) {
    this.#path = path
  }

  /** What is at the path is the file, and what is added is known. */
  async take(): Promise<void> {
    this.#file = await onDisk('read a file', () => open(this.#path, 'r'))
    this.#isThere = true
  }

  async add(chunk: Uint8Array): Promise<void> {
    if (this.#isThere) return
    this.#bytes += chunk.length
    this.#held.push(chunk)
    if (this.#bytes <= SMALL_BYTES) return
    this.#file ??= await onDisk('write a file', () => open(this.#path, 'wx+'))
    const file = this.#file
    for (const held of this.#held.splice(0)) await onDisk('write a file', () => writeAll(file, held))
  }

  /** All of it while it is small, else null. */
  whole(): Uint8Array | null {
    if (this.#file !== null) return null
    if (this.#held.length !== 1) this.#held = [Buffer.concat(this.#held)]
    return this.#held[0] ?? null
  }

  async read(from: number, length: number): Promise<Uint8Array> {
    const file = this.#file
    if (file === null) return this.whole()?.subarray(from, from + length) ?? new Uint8Array()
    return onDisk('read a file', async () => {
      const buffer = new Uint8Array(length)
      const { bytesRead } = await file.read(buffer, 0, length, from)
      return buffer.subarray(0, bytesRead)
    })
  }

  async close(): Promise<void> {
    await this.#file?.close()
  }
}

type Order = Pick<KeepOrder, 'kind' | 'stream' | 'mime' | 'length'>

type Received = { ok: true; bytes: number; sha256: string; format: Format } | Extract<Kept, { ok: false }>

async function receive({ kind, stream, length }: Order, draft: Draft, cap: number): Promise<Received> {
  const reader: Reader = stream.getReader()
  const hash = new Bun.CryptoHasher('sha256')
  let head = new Uint8Array()
  let bytes = 0
  try {
    if (length !== null && length > cap) return tooLarge(kind, cap)
    for (;;) {
      const next = await read(reader)
      if (!next.ok) return brokenOff(bytes, length)
      const { chunk } = next
      if (chunk === null && length !== null && bytes !== length) return brokenOff(bytes, length)
      if (chunk === null && bytes === 0) return spoiled(`The output is empty, not ${NOUNS[kind]}.`)
      if (chunk && head.length < HEAD_BYTES) {
        head = Buffer.concat([head, chunk.subarray(0, HEAD_BYTES - head.length)])
      }
      const format = chunk === null || head.length === HEAD_BYTES ? sniff(head) : undefined
      if (format === null || (format && format.kind !== kind)) return wrongKind(kind, head)
      if (chunk === null) return { ok: true, bytes, sha256: hash.digest('hex'), format: format as Format }
      bytes += chunk.length
      if (bytes > cap) return tooLarge(kind, cap)
      if (length !== null && bytes > length)
        return fetchFailed(`The output has more than the ${length} bytes announced.`)
      hash.update(chunk)
      await draft.add(chunk)
    }
  } finally {
    // After the end this does nothing; before it, the sender is told that nobody reads on.
    reader.cancel().catch(() => {})
  }
}

/** What a reader needs to have here; the types of Bun and of the web differ in the rest. */
interface Reader {
  read(): Promise<{ done: boolean; value?: Uint8Array }>
  cancel(): Promise<void>
}

async function read(reader: Reader): Promise<{ ok: true; chunk: Uint8Array | null } | { ok: false }> {
  try {
    const { done, value } = await reader.read()
    return { ok: true, chunk: done ? null : (value ?? new Uint8Array()) }
  } catch {
    return { ok: false } // the sender's link broke: its reason is the opener's to log
  }
}

async function check(
  order: Order,
  received: Extract<Received, { ok: true }>,
  draft: Draft,
  pixels: number,
): Promise<Spooled> {
  const { bytes, sha256, format } = received
  const { complete, flaw, ...facts } = await inspect(format, bytes, (from, length) => draft.read(from, length))
  if (flaw) return spoiled(`The output is broken: ${flaw}.`)
  // All that was announced came: then it is the file that is short, or what its host has of it so far.
  if (!complete) return order.length === null ? brokenOff(bytes, null) : spoiled('The output ends before its own end.')
  if ((facts.width ?? 1) * (facts.height ?? 1) > pixels) {
    return invalid(
      `The output has ${facts.width} × ${facts.height} pixels; at most ${pixels / 1e6} megapixels are taken.`,
    )
  }
  return { ok: true, file: { mime: format.mime, ext: format.ext, bytes, sha256, ...facts }, bytes: draft.whole() }
}

function invalid(message: string): Extract<Kept, { ok: false }> {
  return { ok: false, error: stepError('output_invalid', message) }
}

/** What came in place of the output; the next download may bring it. */
function spoiled(message: string): Extract<Kept, { ok: false }> {
  return { ok: false, error: stepError('output_invalid', message, { retryable: true }) }
}

/** A picture is a picture each time; a web page or nothing at all is the host's word of a moment. */
function wrongKind(kind: StepKind, head: Uint8Array): Extract<Kept, { ok: false }> {
  const refused = sniff(head) === null ? spoiled : invalid
  return refused(`The output is ${describe(head)}, not ${NOUNS[kind]}.`)
}

function tooLarge(kind: StepKind, cap: number): Extract<Kept, { ok: false }> {
  return invalid(
    `The output is larger than ${Math.floor(cap / 2 ** 20)} MiB, the most that is taken for ${kind} steps.`,
  )
}

function brokenOff(bytes: number, length: number | null): Extract<Kept, { ok: false }> {
  const of = length === null ? '' : ` of ${length}`
  return fetchFailed(`The output broke off after ${bytes}${of} bytes.`)
}

function fetchFailed(message: string): Extract<Kept, { ok: false }> {
  return { ok: false, error: stepError('output_fetch_failed', message) }
}
