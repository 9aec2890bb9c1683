/** What a provider has against a submit, without a server: for the translations of the catalogue. */
import type { Json, JsonObject } from '../../../src/core/json.ts'
import type { Role } from '../../../src/core/model.ts'
import { submitAsk as dashScopeAsk } from '../../../src/providers/dashscope.ts'
import { bflProblem } from './bfl.ts'
import { arkImageProblem, arkTaskProblem } from './byteplus.ts'
import { dashScopeProblem } from './dashscope.ts'
import { falProblem } from './fal-fields.ts'
import type { Wrong } from './fields.ts'
import { googleProblem } from './google.ts'
import { openAiProblem } from './openai.ts'
import { replicateProblem } from './replicate-fields.ts'
import { runwayProblem } from './runway.ts'

/** Null when the provider takes the body that a translation gives; else where and why not. */
export function problemOf(
  provider: string,
  order: { providerModel: string; role: Role; body: JsonObject },
): Wrong | 'unknown' | null {
  const { providerModel, role, body } = order
  const film = role === 'image_to_video'
  const named = { model: providerModel, ...body }
  switch (provider) {
    case 'bfl':
      return bflProblem(providerModel, body)
    case 'byteplus':
      return film ? arkTaskProblem(named) : arkImageProblem(named)
    case 'fal':
      return falProblem(providerModel, body)
    case 'replicate':
      return replicateProblem(providerModel, body)
    case 'openai': {
      const { images, mask, ...fields } = named as Record<string, Json>
      return openAiProblem(fields, images !== undefined || mask !== undefined)
    }
    case 'google':
      return googleProblem(providerModel, film ? 'predictLongRunning' : 'generateContent', body)
    case 'runway':
      return runwayProblem(film ? 'image_to_video' : 'text_to_image', named)
    case 'dashscope':
      return dashScopeProblem(dashScopeAsk('http://x/', order).url.replace(/^.*aigc\//, ''), named)
    case 'comfyui':
      return comfyUiProblem(body)
    default:
      return 'unknown'
  }
}

/** A workflow's placeholders take numbers, texts and switches; a list or an object has no place in one. */
function comfyUiProblem(body: JsonObject): Wrong | null {
  const odd = Object.entries(body).find(([, value]) => typeof value === 'object')
  return odd === undefined ? null : { path: [odd[0]], why: 'must be a number, a text or a switch' }
}
