/** What the Lab puts into the form of a model that somebody has just chosen is a request that the server accepts. */
import { afterAll, beforeAll, expect, test } from 'bun:test'
import type { ChainDto, EstimateDto, ModelDto } from '../../src/http/dto/catalog.ts'
import { at, firstParams, promptPath, type Schema } from '../../src/lab/schema.ts'
import { ServerProcess } from '../support/server.ts'

const server = new ServerProcess()
beforeAll(async () => {
  await server.start()
})
afterAll(() => server.close())

const PROMPT = 'A red paper boat on a teal pond'

test('the first form of every model, in every step that it can take, needs nothing but a picture where none comes before', async () => {
  const { data: chains } = await server.json<{ data: ChainDto[] }>('/api/v1/chains')
  const refused: string[] = []
  let tried = 0
  for (const chain of chains) {
    for (const step of chain.steps) {
      for (const id of step.models) {
        const model = await server.json<ModelDto>(`/api/v1/models/${id}`)
        const schema = model.params_schema as Schema
        const params = firstParams(schema, PROMPT)
        const path = promptPath(schema)
        if (path) expect([id, at(params, path)]).toEqual([id, PROMPT])
        const input = { chain_models: { [step.model_field]: id }, [step.params_field]: params }
        const answer = await server.post(`/api/v1/chains/${chain.slug}/estimate`, { input })
        const { errors } = (await answer.json()) as EstimateDto
        const own = errors.filter(({ pointer = '' }) => pointer.startsWith(`/input/${step.params_field}`))
        const needsPicture = step.role === 'image_to_image' && step.depends_on.length === 0
        const picture = model.picture_field.split('/')[1]
        const unexpected = own.filter(({ pointer = '' }) => !(needsPicture && pointer.split('/')[3] === picture))
        for (const error of unexpected)
          refused.push(`${chain.slug} ${step.step_key} ${id}: ${error.pointer} ${error.detail}`)
        tried += 1
      }
    }
  }
  expect(refused).toEqual([])
  expect(tried).toBeGreaterThan(100)
}, 60_000)
