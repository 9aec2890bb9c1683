/** What a simulated process is fitted with besides its parties: how a callback is composed, and one model for all providers. */
import type { NewDelivery } from '../../src/core/delivery.ts'
import type { Catalog, Model, Role } from '../../src/core/model.ts'
import type { Run } from '../../src/core/run.ts'
import { PRICE, type SimProvider } from './parties.ts'

export function composeWith(id: () => string): (run: Run, at: number) => NewDelivery | null {
  return (run, at) => {
    if (!run.callback) return null
    return {
      id: `msg_${id()}`,
      runId: run.id,
      apiKeyId: run.apiKeyId,
      type: `run.${run.status}`,
      url: run.callback.url,
      host: new URL(run.callback.url).host,
      body: new TextEncoder().encode(JSON.stringify({ id: run.id, status: run.status })),
      dueAt: at,
      createdAt: at,
    }
  }
}

/** One model, at all providers in the order of the plan. */
export function catalogOf(providers: readonly SimProvider[]): Catalog {
  const roles: Role[] = ['text_to_image', 'image_to_image', 'image_to_video']
  const model: Model = {
    id: 'sim/model',
    title: 'Simulated',
    gives: 'image',
    roles,
    schema: {},
    validate: () => [],
    pictureField: '/image',
    pictures: () => [],
    price: () => PRICE,
    expectedMs: 1_000,
    routes: providers.map(({ id }) => ({
      provider: id,
      providerModel: `${id}-model`,
      translate: (params, use) => ({
        ok: true,
        providerModel: `${id}-model`,
        body: { ...params, pictures: [...use.pictures] },
        adjustments: [],
      }),
    })),
  }
  return { all: () => [model], find: id => (id === model.id ? model : undefined) }
}
