/** What Gemini and Veo share: their route, and pictures as bytes, since neither reads a link. */
import type { Draft } from '../draft.ts'
import type { RouteSpec } from '../model.ts'

export const google = (providerModel: string, write: RouteSpec['write']): RouteSpec => ({
  provider: 'google',
  providerModel,
  write,
})

/** The type and the base64 bytes of a data URI; a link makes the route refuse. */
export function inline(draft: Draft, ref: string): { mimeType: string; data: string } | null {
  const found = /^data:([^;,]+);base64,(.*)$/s.exec(ref)
  if (found?.[1] === undefined || found[2] === undefined) {
    draft.refuse('google reads pictures as data URIs only')
    return null
  }
  return { mimeType: found[1], data: found[2] }
}
