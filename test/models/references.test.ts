/**
 * Pictures that a caller adds where a step before gives the first one: that one comes first, then the caller's in their
 * order, within what the model reads. Held for every model of the catalogue whose pictures stand in a list.
 */
import { describe, expect, test } from 'bun:test'
import { findChain, type Plan, plan } from '../../src/core/chain.ts'
import type { Json, JsonObject } from '../../src/core/json.ts'
import type { Model, Role } from '../../src/core/model.ts'
import { createCatalog } from '../../src/models/catalog.ts'
import { picturesAs, smallest } from '../support/params.ts'

const catalog = createCatalog()

/** A list of a model that goes on where a step before has begun. */
interface Listed {
  model: Model
  role: Role
  field: string
  most: number
  item(url: string): Json
}

/** Lists in which every picture says what it is for; those are held by tests of their own. */
const TYPED = ['content', 'media', 'promptImage']

const listed = catalog.all().flatMap((model): Listed[] =>
  Object.entries(model.schema.properties as Record<string, JsonObject>).flatMap(([field, schema]): Listed[] => {
    const list = [schema, ...((schema.anyOf ?? []) as JsonObject[])].find(each => each.type === 'array')
    const items = list?.items as JsonObject | undefined
    const inner = items?.properties as Record<string, JsonObject> | undefined
    const item = (url: string): Json => (inner ? { uri: url } : url)
    const isPicture = items?.format === 'picture' || inner?.uri?.format === 'picture'
    if (!isPicture || TYPED.includes(field)) return []
    const role = model.gives === 'video' ? 'image_to_video' : 'image_to_image'
    return [{ model, role, field, most: Number(list?.maxItems), item }]
  }),
)

const urls = (count: number): string[] => Array.from({ length: count }, (_, i) => `https://cdn.example.org/${i}.png`)

function paramsOf({ model, field, item }: Listed, count: number): JsonObject {
  const base = smallest(model.schema, false) as JsonObject
  const words = Object.keys(model.schema.properties as JsonObject).filter(name => /^prompt(Text)?$/.test(name))
  const fixed: JsonObject = field === 'keyframes' ? { duration: 5 } : {}
  return {
    ...base,
    ...Object.fromEntries(words.map(name => [name, 'a red boat'])),
    ...fixed,
    [field]: urls(count).map(item),
  }
}

/** The plan of chain303 with this model in its place. */
function planned({ model, role }: Pick<Listed, 'model' | 'role'>, params: JsonObject): Plan {
  const chain = findChain('chain303')
  if (!chain) throw new Error('no chain303')
  const input: Record<string, Json> = {
    chain_models: {
      text_to_image_model: 'bfl/flux-2-flex',
      image_to_image_model: 'bfl/flux-2-flex',
      image_to_video_model: 'kling/3-pro',
      [`${role}_model`]: model.id,
    },
    text_to_image_params: { prompt: 'x' },
    image_to_image_params: { prompt: 'x' },
    image_to_video_params: { prompt: 'x' },
    [`${role}_params`]: params,
  }
  return plan(chain, input, catalog)
}

const told = (made: Plan): string[] => (made.ok ? [] : made.problems.map(({ code, pointer }) => `${code} ${pointer}`))

test('about thirty models take a list', () => {
  expect(listed.length).toBeGreaterThan(28)
})

describe.each(listed.map(each => [each.model.id, each] as const))('%s on a step whose picture is wired', (_, one) => {
  const { model, role, field, most } = one

  test(`takes ${most - 1} more in ${field}, in their order`, () => {
    const made = planned(one, paramsOf(one, most - 1))
    if (!made.ok) throw new Error(JSON.stringify(made.problems))
    expect(made.steps.find(step => step.role === role)?.pictures).toEqual(urls(most - 1))
  })

  test('refuses one more than that before anything is spent', () => {
    expect(told(planned(one, paramsOf(one, most)))).toEqual([`length /input/${role}_params/${field}`])
  })

  test('sends the wired one first at every host that takes so many', () => {
    const extra = Math.min(2, most - 1)
    const params = paramsOf(one, extra)
    let hosts = 0
    for (const route of model.routes) {
      const bytes = route.provider === 'google' || route.provider === 'openai'
      const pictures = picturesAs(bytes ? 'data' : 'url', extra + 1)
      const sent = route.translate(params, { role, pictures })
      if (!sent.ok) {
        // Hosts that read fewer pictures than the maker say so.
        expect(sent.reason).toMatch(/reads|takes no further pictures|needs an aspectRatio/)
        continue
      }
      hosts += 1
      const held = leaves(sent.body)
      const places = pictures.map(ref => held.findIndex(leaf => leaf.endsWith(ref.replace(/^data:[^,]*,/, ''))))
      expect(places).toEqual(places.toSorted((a, b) => a - b))
      expect(Math.min(...places)).toBeGreaterThanOrEqual(0)
    }
    expect(hosts).toBeGreaterThan(0)
  })

  test('reads the same list as all of its pictures where no step gives one', () => {
    const given = model.pictures(paramsOf(one, most))
    // References of a film are beside its first frame, wherever that comes from.
    const isFilm = field === 'referenceImages' && model.gives === 'video'
    expect(given.map(({ slot }) => slot)).toEqual([isFilm ? 'other' : 'first', ...new Array(most - 1).fill('other')])
    expect(model.pictures(paramsOf(one, most), true).every(({ slot }) => slot === 'other')).toBe(true)
  })
})

/** Everything that a body holds, in its order. */
function leaves(value: Json): string[] {
  if (Array.isArray(value)) return value.flatMap(leaves)
  if (typeof value === 'object' && value !== null) return Object.values(value).flatMap(leaves)
  return [String(value)]
}

describe('a single picture', () => {
  test('in the place of the wired one is refused, with the way to give a further one where there is one', () => {
    const hintFor = (id: string, params: JsonObject): string | undefined => {
      const model = catalog.find(id)
      if (!model) throw new Error(id)
      const made = planned({ model, role: 'image_to_image' }, { prompt: 'x', ...params })
      expect(told(made)).toEqual([`picture_is_wired /input/image_to_image_params/${Object.keys(params)[0]}`])
      return made.ok ? undefined : made.problems[0]?.hint
    }
    const [url] = urls(1)
    expect(hintFor('bytedance/seedream-4.5', { image: url ?? '' })).toBe(
      'Remove the field, or give it in a list, as a further one.',
    )
    expect(hintFor('bfl/flux-2-flex', { input_image: url ?? '' })).toBe('Remove the field.')
  })

  test('beside it, in a field of its own, goes to that field', () => {
    const route = catalog.find('bfl/flux-2-flex')?.routes[0]
    const params = { prompt: 'x', input_image_3: 'https://cdn.example.org/0.png' }
    const sent = route?.translate(params, { role: 'image_to_image', pictures: ['https://w/w.png', 'https://w/0.png'] })
    expect(sent).toMatchObject({ body: { input_image: 'https://w/w.png', input_image_3: 'https://w/0.png' } })
  })
})

describe('rules that count pictures count the wired one', () => {
  const problems = (id: string, params: JsonObject, wired = true): string[] => {
    const model = catalog.find(id)
    const role = model?.gives === 'video' ? 'image_to_video' : 'image_to_image'
    if (!model) throw new Error(id)
    return model.validate(params, { role, wired }).map(({ code, pointer }) => `${code} ${pointer}`)
  }

  test('Seedream makes 15 with what it reads', () => {
    const params = (inputs: number): JsonObject => ({
      prompt: 'x',
      image: urls(inputs),
      sequential_image_generation: 'auto',
      sequential_image_generation_options: { max_images: 10 },
    })
    const pointer = 'conflict /sequential_image_generation_options/max_images'
    expect(problems('bytedance/seedream-4.5', params(5), false)).toEqual([])
    expect(problems('bytedance/seedream-4.5', params(4))).toEqual([])
    expect(problems('bytedance/seedream-4.5', params(5))).toEqual([pointer])
  })

  test('FLUX 3 needs a duration from the third keyframe on', () => {
    const params = (frames: number): JsonObject => ({ prompt: 'x', keyframes: urls(frames) })
    expect(problems('bfl/flux-3-video', params(2), false)).toEqual([])
    expect(problems('bfl/flux-3-video', params(1))).toEqual([])
    expect(problems('bfl/flux-3-video', params(2))).toEqual(['required /duration'])
  })

  test('Wan 3 reads nine of media in all', () => {
    const media = (count: number): JsonObject => ({
      prompt: 'x',
      media: urls(count).map(url => ({ type: 'reference_image', url })),
    })
    expect(problems('wan/3.0', media(8))).toEqual([])
    expect(problems('wan/3.0', media(9))).toEqual(['length /media'])
  })

  test('Seedance 2 and H3 read nine reference pictures in all', () => {
    const content = (count: number): JsonObject => ({
      content: [
        { type: 'text', text: 'x' },
        ...urls(count).map(url => ({ type: 'image_url', image_url: { url }, role: 'reference_image' })),
      ],
    })
    for (const id of ['bytedance/seedance-2.0', 'minimax/h3']) {
      expect(problems(id, content(8))).toEqual([])
      expect(problems(id, content(9))).toEqual(['length /content'])
    }
  })
})

test("Runway's tags stay with the pictures that they were given to", () => {
  const route = catalog.find('runway/gen4_image')?.routes[0]
  const params: JsonObject = {
    promptText: '@hero on the boat',
    referenceImages: [{ uri: 'https://cdn.example.org/0.png', tag: 'hero' }, { uri: 'https://cdn.example.org/1.png' }],
  }
  const given = ['https://w/0.png', 'https://w/1.png']
  const tagged: Json[] = [{ uri: 'https://w/0.png', tag: 'hero' }, { uri: 'https://w/1.png' }]
  const sent = (pictures: string[]): Json | undefined => {
    const made = route?.translate(params, { role: 'image_to_image', pictures })
    return made?.ok ? made.body.referenceImages : undefined
  }
  expect(sent(given)).toEqual(tagged)
  expect(sent(['https://w/w.png', ...given])).toEqual([{ uri: 'https://w/w.png' }, ...tagged])
})
