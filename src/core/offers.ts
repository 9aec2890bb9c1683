/**
 * What a route offers a step: whether it could be sent there, and what a call costs.
 *
 * 1. Pure, and judged here only: the engine routes by it, the API refuses, lists and estimates by it, `main.ts models` prints it.
 * 2. It asks what lasts: keys, parameters, sizes, prices. Capacity, breakers and budgets pass, and are asked elsewhere.
 * 3. A picture of a step before is judged by its size once it is there, until then by those that its routes would make: it is
 *    refused where none of them fits. Where nobody knows one of them, it is taken.
 *    One of the caller is judged in the same way.
 */
import type { PlannedStep } from './chain.ts'
import type { Known, Model, PictureLimits, Quote, Route, Shape, Translation } from './model.ts'
import type { Provider } from './ports.ts'
import type { Cost, Output, Step } from './run.ts'

type Priced = Pick<PlannedStep, 'params' | 'role' | 'dependsOn' | 'pictureShapes'>

/** What one call costs. No route: at the maker's prices. */
export function quoteAt(route: Route | null, model: Model, step: Priced, incoming: readonly Incoming[]): Quote {
  return (route?.price ?? model.price)(step.params, step.role, knownOf(step, incoming))
}

/** The same in US dollars: the most that it may be, as how much is made, or what size a picture has, may show only then. */
export function priceAt(...call: Parameters<typeof quoteAt>): number | null {
  return usdOf(quoteAt(...call))
}

export function usdOf(quote: Quote): number | null {
  return typeof quote === 'object' ? (quote?.atMost ?? null) : quote
}

/** How sure a quote is, in the words of a cost that nobody has metered yet. */
export function basisOf(quote: Quote): Exclude<Cost['basis'], 'metered'> {
  if (quote === null) return 'unknown'
  return typeof quote === 'object' ? 'upper_bound' : 'listed'
}

function knownOf({ dependsOn, pictureShapes }: Priced, incoming: readonly Incoming[]): Known {
  return {
    incoming: dependsOn.map(key => incoming.find(({ from }) => from === key)?.shapes ?? []),
    given: pictureShapes,
  }
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

/** A picture that a step gets, where its size is known. */
export interface Incoming {
  /** The key of the step that gives it, or the caller. */
  from: string
  /** The sizes that it may have, at least one: its own, or what each route would make that may be taken. */
  shapes: readonly Shape[]
}

/** The picture of a step before as the catalogue lists prices with it, where there is no run: one of a megapixel. */
export const PLAIN: Incoming = { from: 'before', shapes: [{ width: 1_024, height: 1_024 }] }

/** What is known of the pictures that a step gets from those before it. `routesOf`: who may make one that is not there yet. */
export function incomingOf(
  { dependsOn }: Pick<PlannedStep, 'dependsOn'>,
  steps: readonly (PlannedStep | Step)[],
  routesOf: (step: PlannedStep) => readonly Route[],
): Incoming[] {
  return dependsOn.flatMap(from => {
    const before = steps.find(({ key }) => key === from)
    const shapes = before ? shapesOf(before, routesOf) : []
    const known = shapes.filter(shape => shape !== null)
    return known.length > 0 && known.length === shapes.length ? [{ from, shapes: known }] : []
  })
}

function shapesOf(step: PlannedStep | Step, routesOf: (step: PlannedStep) => readonly Route[]): (Shape | null)[] {
  if (!('outputs' in step)) return routesOf(step).map(route => route.shape?.(step.params, step.role) ?? null)
  return [...shapesOfPicture(step.outputs[0] ?? {})]
}

/** The shape of a picture that is there: none where nobody could tell its size. */
export function shapesOfPicture({ width = 0, height = 0 }: Pick<Output, 'width' | 'height'>): readonly Shape[] {
  return width > 0 && height > 0 ? [{ width, height }] : []
}

function fits({ side, ratio }: PictureLimits, shape: Shape): boolean {
  const isIn = (value: number, [least, most]: readonly [number, number]): boolean => value >= least && value <= most
  const sides = 'ratio' in shape ? [] : [shape.width, shape.height]
  const shown = 'ratio' in shape ? shape.ratio : shape.width / shape.height
  return !(side && sides.some(one => !isIn(one, side))) && !(ratio && !isIn(shown, ratio))
}

/** The pictures that the caller gives, where their size is known. */
function givenTo({ pictureShapes }: PlannedStep): Incoming[] {
  return pictureShapes.filter(shapes => shapes.length > 0).map(shapes => ({ from: 'the caller', shapes }))
}

/** Why a provider with such limits refuses a picture; null when it takes it, or may. */
function unfitOf(limits: PictureLimits, { from, shapes }: Incoming): string | null {
  if (shapes.some(shape => fits(limits, shape))) return null
  const { side, ratio } = limits
  const words = [
    ...(side ? [`sides of ${side[0]} to ${side[1]} pixels`] : []),
    ...(ratio ? [`a ratio of ${ratio[0]} to ${ratio[1]}`] : []),
  ]
  const given = shapes.map(shape =>
    'ratio' in shape ? `a ratio of ${Number(shape.ratio.toFixed(3))}` : `${shape.width}x${shape.height}`,
  )
  return `takes pictures with ${words.join(' and ')}, but ${from} gives ${[...new Set(given)].join(' or ')}`
}

/** How a picture may come to a provider: as a link, or in the request itself. */
type PictureForm = keyof typeof SAMPLE

/** The step as the route would send it, in the first of the forms of pictures that it can express. */
export function express(
  route: Route,
  step: PlannedStep,
  incoming: readonly Incoming[],
  forms: readonly [PictureForm, ...PictureForm[]] = ['url', 'data'],
): Translation {
  for (const picture of [...incoming, ...givenTo(step)]) {
    const reason = unfitOf(route.pictureLimits ?? {}, picture)
    if (reason !== null) return { ok: false, reason }
  }
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
  incoming: readonly Incoming[],
): string | null {
  const lack = lackOf(provider)
  if (lack !== null) return lack
  const made = express(route, step, incoming)
  return made.ok ? null : made.reason
}
