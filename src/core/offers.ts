/**
 * What a route offers a step: whether it could be sent there, and what a call costs.
 *
 * 1. Pure, and judged here only: the engine routes by it, the API refuses, lists and estimates by it, `main.ts models` prints it.
 * 2. It asks what lasts: keys, parameters, prices. Capacity, breakers and budgets pass, and are asked elsewhere.
 */
import type { PlannedStep } from './chain.ts'
import type { Model, Route, Translation } from './model.ts'
import type { Provider } from './ports.ts'

/** What one call costs by the price list, in US dollars; null where nobody knows. */
export function priceAt(route: Route, model: Model, { params, role }: Pick<PlannedStep, 'params' | 'role'>) {
  return route.price ? route.price(params, role) : model.price(params, role)
}

/** Why a provider takes nothing here; null when it has what it needs. */
export function lackOf(provider: Pick<Provider, 'missing'> | undefined, where = 'in this mode'): string | null {
  return provider ? provider.missing : `not available ${where}`
}

/** Picture references in both forms that a provider may take, to try a translation with before there is a picture. */
export const SAMPLE = { url: 'https://media.example/picture.png', data: 'data:image/png;base64,iVBORw0KGgo=' }

/** Translates a step for a route as if its pictures were there, to learn whether and how the route can express it. */
function tryRoute(route: Route, step: PlannedStep, sample: string): Translation {
  const count = step.pictures.length + step.dependsOn.length
  return route.translate(step.params, { role: step.role, pictures: new Array<string>(count).fill(sample) })
}

/** How a picture may come to a provider: as a link, or in the request itself. */
type PictureForm = keyof typeof SAMPLE

/** The step as the route would send it, in the first of the forms of pictures that it can express. */
export function express(
  route: Route,
  step: PlannedStep,
  forms: readonly [PictureForm, ...PictureForm[]] = ['url', 'data'],
): Translation {
  const [first, ...others] = forms
  const made = tryRoute(route, step, SAMPLE[first])
  for (const form of made.ok ? [] : others) {
    const other = tryRoute(route, step, SAMPLE[form])
    if (other.ok) return other
  }
  return made
}

/** Why a step cannot be sent to a provider, now or with patience; null when it can. */
export function obstacleOf(
  provider: Pick<Provider, 'missing'> | undefined,
  route: Route,
  step: PlannedStep,
): string | null {
  const lack = lackOf(provider)
  if (lack !== null) return lack
  const made = express(route, step)
  return made.ok ? null : made.reason
}
