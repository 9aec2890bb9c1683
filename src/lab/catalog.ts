/** Chains and models as this server has them; the schema of a model comes when it is first chosen. */
import { signal } from '@preact/signals'
import { useEffect } from 'preact/hooks'
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
  const [chainList] = await Promise.all([api<{ data: ChainDto[] }>('GET', '/api/v1/chains'), loadModels()])
  chains.value = chainList.data
}

async function loadModels(): Promise<void> {
  const { data } = await api<ModelListDto>('GET', '/api/v1/models')
  const isNews = data.some(model => JSON.stringify(model) !== JSON.stringify(models.value.get(model.id)))
  if (isNews) models.value = new Map(data.map(model => [model.id, model]))
}

const FRESH_MS = 10_000

/** Keeps up what is said of the ways to each model, for as long as a page shows it: breakers open, and close again. */
export function useFreshModels(): void {
  useEffect(() => {
    const look = () => {
      if (!document.hidden && models.value.size > 0) void loadModels().catch(() => {}) // what stands here stays
    }
    look()
    const timer = setInterval(look, FRESH_MS)
    return () => clearInterval(timer)
  }, [])
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

/** Why a model cannot run here, in the words of its first route that has a key; null when it can, or could in a while. */
export function blockedBy({ routes }: ModelRow): string | null {
  if (routes.some(route => route.eligible || route.breaker_open)) return null
  const nearest = routes.find(route => route.configured) ?? routes[0]
  return nearest?.reason ?? 'no provider is configured for it'
}

/** Why a run of it would wait; null when it would not. */
export function pausedBy({ routes }: ModelRow): string | null {
  if (routes.some(route => route.eligible)) return null
  const paused = routes.filter(route => route.breaker_open).map(route => route.provider)
  return paused.length === 0 ? null : `left alone for a while after failures: ${paused.join(', ')}. A run waits for it.`
}
