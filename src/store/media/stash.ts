/**
 * Raw bytes of provider answers, `stash/<token>/<n>`: on this disk wherever media go, until they are kept.
 *
 * 1. A number names a whole file. What a crash leaves half written has another name, and a number without bytes was only
 *    taken: so what is found under a token after a death is what was paid for.
 * 2. What they are shows when they are opened.
 */
import { mkdir, open, readdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { stepError } from '../../core/errors.ts'
import type { Media, Opened } from '../../core/ports.ts'
import { assertName, errorCode, exists, freshen, onDisk, syncFolder, writeDurably } from './disk.ts'
import { HEAD_BYTES, sniff } from './sniff.ts'

export function stashIn(dir: string): Pick<Media, 'stash' | 'stashOf' | 'openStash'> {
  return {
    stash: async (token, bytes) => {
      assertName(token)
      return onDisk('keep an answer', async () => {
        const folder = join(dir, token)
        if (await mkdir(folder, { recursive: true })) await syncFolder(dir)
        return `stash:${token}/${await writeNumbered(folder, bytes)}`
      })
    },
    stashOf: async token => {
      assertName(token)
      return onDisk('look for an answer', async () => {
        const folder = join(dir, token)
        const names = (await exists(folder)) ? await readdir(folder) : []
        const numbers = names.filter(name => /^\d+$/.test(name)).toSorted((a, b) => Number(a) - Number(b))
        const sizes = await Promise.all(numbers.map(async number => (await stat(join(folder, number))).size))
        return numbers.filter((_, i) => sizes[i] !== 0).map(number => `stash:${token}/${number}`)
      })
    },
    openStash: async url => {
      const match = /^stash:([\w-]+)\/(\d+)$/.exec(url)
      const path = match?.[1] && match[2] ? join(dir, match[1], match[2]) : null
      if (path === null || !(await exists(path))) return gone(url)
      await freshen(dirname(path))
      const file = Bun.file(path)
      const head = new Uint8Array(await file.slice(0, HEAD_BYTES).arrayBuffer())
      return { ok: true, stream: file.stream(), mime: sniff(head)?.mime ?? null, length: file.size }
    },
  }
}

/** Gives the number. What could not be written durably is not found later either: it is written again. */
async function writeNumbered(folder: string, bytes: Uint8Array): Promise<number> {
  const part = join(folder, `${crypto.randomUUID()}.part`)
  await writeDurably(part, bytes)
  const number = await takeNumber(folder)
  const path = join(folder, String(number))
  try {
    await rename(part, path)
    await syncFolder(folder)
    return number
  } catch (error) {
    for (const left of [part, path]) await rm(left, { force: true }).catch(() => {}) // for prune
    throw error
  }
}

/** A rename would write over what another call has written under the same number meanwhile. */
async function takeNumber(folder: string): Promise<number> {
  for (let number = 0; ; number += 1) {
    try {
      await (await open(join(folder, String(number)), 'wx')).close()
      return number
    } catch (error) {
      if (errorCode(error) !== 'EEXIST') throw error
    }
  }
}

function gone(url: string): Opened {
  const message = `The bytes of ${url.slice(0, 80)} are no longer here.`
  return { ok: false, expired: false, error: stepError('output_fetch_failed', message, { retryable: false }) }
}
