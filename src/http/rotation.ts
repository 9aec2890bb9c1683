/** Reads how long the one before stays good after a rotation: of keys and of webhook secrets alike. */
import { readJson } from './body.ts'
import { type RotationDto, rotation } from './dto/keys.ts'
import { refusal } from './problem.ts'
import { checker } from './shape.ts'

const check = checker(rotation.schema)
const DEFAULT_S = 86_400

/** Milliseconds. A body is not needed. @throws ApiProblem 400 */
export async function overlapOf(request: Request): Promise<number> {
  if (request.body === null || request.headers.get('content-length') === '0') return DEFAULT_S * 1_000
  const body = await readJson(request)
  const errors = check(body)
  if (errors.length > 0) throw refusal(errors)
  return ((body as RotationDto).overlap_seconds ?? DEFAULT_S) * 1_000
}
