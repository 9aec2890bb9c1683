/** The public shapes of what can be run and of what is uploaded: chains, models, estimates, media, health. See dto.ts. */
import { type Static, Type } from 'typebox'
import { readinessCheck, requestError } from '../dto.ts'
import { anything, define, nullable, text, time, uuid, word } from './schema.ts'

const role = word(['text_to_image', 'image_to_image', 'image_to_video'], 'What a model does in a step.')

export const chain = define(
  'Chain',
  Type.Object({
    slug: Type.String(),
    object: word(['chain'], 'Always chain.'),
    aliases: Type.Array(Type.String()),
    version: Type.String(),
    title: Type.String(),
    steps: Type.Array(
      Type.Object({
        step_index: Type.Integer(),
        step_key: Type.String(),
        step_kind: word(['image', 'video'], 'What the step gives.'),
        role,
        depends_on: Type.Array(Type.String()),
        model_field: text('Its key in input.chain_models.'),
        params_field: text('Its key in input.'),
        models: Type.Array(Type.String(), { description: 'Ids of the models that can do it.' }),
      }),
    ),
  }),
)

export const chainList = define(
  'ChainList',
  Type.Object({ object: word(['list'], 'Always list.'), data: Type.Array(chain.ref) }),
)

export const route = define(
  'Route',
  Type.Object({
    provider: Type.String(),
    provider_model: text("The model's name at that provider."),
    configured: Type.Boolean({ description: 'Whether this installation has what the provider needs.' }),
    eligible: Type.Boolean({ description: 'Whether a step could go there now.' }),
    reason: nullable(text('Why it is not eligible.')),
    breaker_open: Type.Boolean({
      description: 'Whether it is left alone for a while after failures, and nothing else is in the way: a step waits.',
    }),
    price: Type.Array(
      Type.Object({
        role,
        usd: nullable(
          Type.Number({
            description: 'One call with the default parameters, and a picture of 1024 × 1024 where it begins with one.',
          }),
        ),
      }),
    ),
  }),
)

const modelFields = {
  id: text('maker/name', { examples: ['bfl/flux-2-flex'] }),
  object: word(['model'], 'Always model.'),
  title: Type.String(),
  gives: word(['image', 'video'], 'What it makes.'),
  roles: Type.Array(role),
  available: Type.Boolean({ description: 'Whether any route is eligible.' }),
  expected_ms: Type.Integer({ description: 'How long a call usually takes.' }),
  picture_field: text('Where the first input picture stands in its parameters, as a JSON Pointer.'),
  routes: Type.Array(route.ref, { description: 'In order of preference.' }),
}

export const model = define(
  'Model',
  Type.Object({ ...modelFields, params_schema: anything('JSON Schema (2020-12) of its parameters.') }),
)

export const modelList = define(
  'ModelList',
  Type.Object({
    object: word(['list'], 'Always list.'),
    data: Type.Array(Type.Object(modelFields)),
  }),
)

export const estimate = define(
  'Estimate',
  Type.Object({
    object: word(['estimate'], 'Always estimate.'),
    valid: Type.Boolean({ description: 'Whether the same body would be accepted as a run.' }),
    errors: Type.Array(requestError.ref, { description: 'Every mistake at once.' }),
    steps: Type.Array(
      Type.Object({
        step_key: Type.String(),
        model_identifier: Type.String(),
        provider: nullable(text('Where it would go now.')),
        price_usd: nullable(
          Type.Number({ description: 'One successful call by the price list: the most that it may cost.' }),
        ),
        basis: word(
          ['listed', 'upper_bound', 'unknown'],
          'Of the price. listed: from the price list. upper_bound: it may be less. unknown: nobody knows.',
        ),
        expected_ms: Type.Integer(),
      }),
    ),
    total_usd: nullable(
      Type.Number({
        description: 'Null when a price is unknown; the most that it may be, where one is an upper_bound.',
      }),
    ),
    expected_ms: Type.Integer(),
  }),
)

export const media = define(
  'Media',
  Type.Object({
    id: uuid('Of the media.'),
    object: word(['media'], 'Always media.'),
    ref: text('What a picture field takes.', { examples: ['media:0192f0c1-c2d3-7a54-b7d3-a1b2c3d4e5f6'] }),
    mime: Type.String(),
    bytes: Type.Integer(),
    sha256: Type.String(),
    width: Type.Optional(Type.Integer()),
    height: Type.Optional(Type.Integer()),
    created_at: time('When it was uploaded.'),
    url: text('Works without a key for at least 7 days.', { format: 'uri' }),
  }),
)

export const health = define(
  'Health',
  Type.Object({
    status: word(['ok'], 'Always ok.'),
    version: Type.String(),
    mode: word(['sandbox', 'byok'], 'Who makes the pictures.'),
  }),
)

export const readiness = define(
  'Readiness',
  Type.Object({
    status: word(['ready'], 'Always ready.'),
    checks: Type.Array(readinessCheck),
  }),
)

export const received = define('Received', Type.Object({ received: Type.Boolean() }))

export type ChainDto = Static<typeof chain.schema>
export type RouteDto = Static<typeof route.schema>
export type ModelDto = Static<typeof model.schema>
export type ModelListDto = Static<typeof modelList.schema>
export type EstimateDto = Static<typeof estimate.schema>
export type MediaDto = Static<typeof media.schema>
export type HealthDto = Static<typeof health.schema>
export type ReadinessDto = Static<typeof readiness.schema>
