/** What the Lab takes along when the model of a step is changed, and what it offers to choose from. */
import { describe, expect, test } from 'bun:test'
import type { ModelDto } from '../../src/http/dto/catalog.ts'
import { carryOver, type Shape } from '../../src/lab/carry.ts'
import { at, choicesOf, type Params, picturesAt, promptPath, type Schema } from '../../src/lab/schema.ts'
import { createCatalog } from '../../src/models/catalog.ts'

const catalog = createCatalog()
const PICTURE = 'media:01999999-0000-7000-8000-000000000001'
const OTHER = 'media:01999999-0000-7000-8000-000000000002'
const shape = (id: string): Shape => {
  const model = catalog.find(id)
  if (!model) throw new Error(`there is no ${id}`)
  return {
    params_schema: model.schema as ModelDto['params_schema'],
    picture_field: model.pictureField,
  }
}
const carried = (from: string, params: Params, to: string, wired = false) =>
  carryOver(shape(from), params, shape(to), { prompt: 'the standing one', wired })

describe('a change of the model', () => {
  test('keeps the prompt, the picture and every field that fits, whatever the makers call them', () => {
    const params = { prompt: 'A red boat', image: [PICTURE, OTHER], seed: 7, size: '2K', watermark: false }
    const flux = carried('bytedance/seedream-4.5', params, 'bfl/flux-2-pro')
    expect(flux).toMatchObject({ prompt: 'A red boat', input_image: PICTURE, seed: 7 })
    expect(flux.watermark).toBeUndefined()
    expect(carried('bfl/flux-2-pro', flux, 'bytedance/seedream-4').image).toBe(PICTURE)
    expect(carried('bytedance/seedream-4.5', params, 'openai/gpt-image-2').image).toEqual([PICTURE, OTHER])
    expect(at(carried('bfl/flux-2-pro', flux, 'luma/photon'), ['modify_image_ref', 'url'])).toBe(PICTURE)
    expect(at(carried('bfl/flux-2-pro', flux, 'runway/gen4_image'), ['referenceImages', 0, 'uri'])).toBe(PICTURE)
  })

  test('leaves out a value that the new model does not take', () => {
    const wide = { prompt: 'A red boat', width: 1000, height: 512, safety_tolerance: 'high' }
    expect(carried('bfl/flux-2-pro', wide, 'bfl/flux-2-flex')).toMatchObject({ width: 1024, height: 512 })
  })

  test('after a step that gives the picture, carries further pictures only to where some may follow', () => {
    const params = { prompt: 'A red boat', image: [OTHER] }
    expect(carried('bytedance/seedream-4.5', params, 'google/nano-banana', true).image).toEqual([OTHER])
    expect(carried('bytedance/seedream-4.5', params, 'bfl/flux-2-pro', true).input_image).toBeUndefined()
  })

  test('never leads from a good form to one that the new model refuses, for every two models of a role', () => {
    const refused: string[] = []
    for (const role of ['text_to_image', 'image_to_image', 'image_to_video'] as const) {
      for (const wired of role === 'text_to_image' ? [false] : [false, true]) {
        const able = catalog.all().filter(model => model.roles.includes(role))
        const picture = role !== 'text_to_image' && !wired
        for (const from of able) {
          const before = carryOver(picture ? SOURCE : null, { source: PICTURE }, shape(from.id), {
            prompt: 'Boat',
            wired,
          })
          for (const to of able) {
            const after = carried(from.id, before, to.id, wired)
            const problems = to.validate(after, { role, wired })
            for (const { pointer, detail } of problems) refused.push(`${from.id} → ${to.id}: ${pointer} ${detail}`)
            const path = promptPath(to.schema as Schema)
            if (path && promptPath(from.schema as Schema)) expect(at(after, path)).toBe('Boat')
          }
        }
      }
    }
    expect(refused).toEqual([])
  })
})

const SOURCE: Shape = {
  params_schema: { type: 'object', properties: { source: { type: 'string', format: 'picture' } } },
  picture_field: '/source',
}

test('whole numbers beside a word are chosen from a list; a wide range or a free text is not', () => {
  const duration = (shape('bfl/flux-3-video').params_schema as Schema).properties?.duration ?? {}
  expect(choicesOf(duration)).toEqual([...Array.from({ length: 16 }, (_, i) => 5 + i), 'auto'])
  expect(choicesOf({ type: 'integer', minimum: 0, maximum: 4000 })).toBeNull()
  expect(choicesOf({ anyOf: [{ type: 'string' }, { type: 'integer', minimum: 1, maximum: 2 }] })).toBeNull()
})

test('a field says how many pictures it takes', () => {
  const field = (id: string, key: string) => (shape(id).params_schema as Schema).properties?.[key] ?? {}
  expect(picturesAt(field('bfl/flux-2-pro', 'input_image'))).toBe(1)
  expect(picturesAt(field('bytedance/seedream-4.5', 'image'))).toBe(14)
  expect(picturesAt(field('bfl/flux-3-video', 'keyframes'))).toBe(10)
})
