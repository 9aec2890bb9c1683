import type { Way } from '../../src/engine/breakers.ts'

/** The way of a key's steps to a model, at whatever provider. */
export const to = (model: string, apiKeyId = 'key'): Omit<Way, 'provider'> => ({ model, apiKeyId })

/** The way of a key's steps to a model at a provider. */
export const way = (provider: string, model: string, apiKeyId = 'key'): Way => ({ provider, model, apiKeyId })
