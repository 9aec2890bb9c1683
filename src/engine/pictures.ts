/** The input pictures of a step, in the form that its provider takes. */
import { type StepError, stepError } from '../core/errors.ts'
import type { Picture, Provider } from '../core/ports.ts'
import type { Run, Step } from '../core/run.ts'

export interface PictureDeps {
  /** Reads an input picture (`https:`, `data:`, `media:{id}`) for a provider that takes no link. */
  readPicture(
    ref: string,
    signal: AbortSignal,
  ): Promise<{ ok: true; picture: Picture } | { ok: false; error: StepError }>
  /** A signed link to a media that a provider can reach, or null without a public address. */
  publicLink(mediaId: string): string | null
}

/** Whom a picture must reach, and whether only in the request itself. */
interface Target {
  provider: Provider
  inline: boolean
}

/** The wired picture first, then the caller's. */
export async function picturesFor(
  deps: PictureDeps,
  run: Run,
  step: Step,
  target: Target,
  signal: AbortSignal,
): Promise<{ ok: true; refs: string[] } | { ok: false; error: StepError }> {
  const wired = step.dependsOn.flatMap(key => {
    const before = run.steps.find(other => other.key === key)
    const [first] = before?.status === 'succeeded' ? before.outputs : []
    return first ? [`media:${first.mediaId}`] : []
  })
  const refs: string[] = []
  for (const ref of [...wired, ...step.pictures]) {
    const made = await referenceFor(deps, ref, target, signal)
    if (!made.ok) return made
    refs.push(made.ref)
  }
  return { ok: true, refs }
}

/** A link where the provider takes links and can reach it, else its own upload, else a data URI within its limit. */
async function referenceFor(
  deps: PictureDeps,
  ref: string,
  { provider, inline }: Target,
  signal: AbortSignal,
): Promise<{ ok: true; ref: string } | { ok: false; error: StepError }> {
  if (provider.takes.url && !inline) {
    if (/^https?:/i.test(ref)) return { ok: true, ref }
    const link = ref.startsWith('media:') ? deps.publicLink(ref.slice('media:'.length)) : null
    if (link) return { ok: true, ref: link }
  }
  const read = await deps.readPicture(ref, signal)
  if (!read.ok) return read
  if (provider.upload && !inline) return provider.upload(read.picture, signal)
  const { bytes, mime } = read.picture
  if (bytes.length > provider.takes.dataUriBytes) {
    const detail = `the input picture has ${bytes.length} bytes; without BABYCHAIN_PUBLIC_URL ${provider.id} takes at most ${provider.takes.dataUriBytes}`
    return { ok: false, error: stepError('invalid_input', detail) }
  }
  return { ok: true, ref: `data:${mime};base64,${Buffer.from(bytes).toString('base64')}` }
}
