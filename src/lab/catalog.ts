/** Chains and models as this server has them; the schema of a model comes when it is first chosen. */
import { signal } from '@preact/signals'
import type { ChainDto, ModelDto, ModelListDto } from '../http/dto/catalog.ts'
import { api } from './api.ts'

export type ModelRow = ModelListDto['data'][number]

export const chains = signal<readonly ChainDto[]>([])
export const models = signal<ReadonlyMap<string, ModelRow>>(new Map())
/** With their schemas. */
export const details = signal<ReadonlyMap<string, ModelDto>>(new Map())

const asked = new Map<string, Promise<ModelDto>>()
let loading: Promise<void> | undefined

/** Asks once, however many wait for it; again after a failure. @throws ApiFailure */
export function loadCatalog(): Promise<void> {
  loading ??= load().catch(error => {
    loading = undefined
    throw error
  })
  return loading
}

async function load(): Promise<void> {
  const [chainList, modelList] = await Promise.all([
    api<{ data: ChainDto[] }>('GET', '/api/v1/chains'),
    api<ModelListDto>('GET', '/api/v1/models'),
  ])
  chains.value = chainList.data
  models.value = new Map(modelList.data.map(model => [model.id, model]))
}

export function detailOf(id: string): Promise<ModelDto> {
  const known = asked.get(id)
  if (known !== undefined) return known
  const [maker = '', name = ''] = id.split('/')
  const path = `/api/v1/models/${encodeURIComponent(maker)}/${encodeURIComponent(name)}`
  const promise = api<ModelDto>('GET', path).then(model => {
    details.value = new Map(details.value).set(id, model)
    return model
  })
  asked.set(id, promise)
  promise.catch(() => asked.delete(id))
  return promise
}

/** Why a model cannot run here, in the words of its first route; null when it can. */
export function blockedBy(model: ModelRow): string | null {
  if (model.available) return null
  return model.routes[0]?.reason ?? 'no provider is configured for it'
}
