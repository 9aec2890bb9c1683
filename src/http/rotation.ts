/** How long the one before stays good after a rotation, and what another rotation meets until then: of keys and of webhook secrets. */
import { readJson } from './body.ts'
import type { Overlapping } from './deps.ts'
import { type RotationDto, rotation } from './dto/keys.ts'
import { iso } from './dto/time.ts'
import type { Authorized } from './exchange.ts'
import { ApiProblem, refusal } from './problem.ts'
import { checker } from './shape.ts'

const check = checker(rotation.schema)
const DEFAULT_S = 86_400

/** Milliseconds. A body is not needed. @throws ApiProblem 400, 401 */
export async function overlapOf(exchange: Authorized): Promise<number> {
  const { request } = exchange
  if (request.body === null || request.headers.get('content-length') === '0') return DEFAULT_S * 1_000
  const body = await readJson(exchange)
  const errors = check(body)
  if (errors.length > 0) throw refusal(errors)
  return ((body as RotationDto).overlap_seconds ?? DEFAULT_S) * 1_000
}

/** What a rotation made. @throws ApiProblem 409 while the one before is good, as after an answer that was lost and a retry */
export function rotated<T extends object>(made: T | Overlapping): T {
  if (!('overlapsUntil' in made)) return made
  const until = iso(made.overlapsUntil)
  throw new ApiProblem('conflict', `There was a rotation already, and what was before it is good until ${until}.`, {
    hint: 'Rotate again after that. Or, if nobody has the newest one, now with {"overlap_seconds": 0}: then only what that answer shows is good, at once.',
  })
}
