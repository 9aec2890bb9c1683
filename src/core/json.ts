/** What JSON can hold. */
export type Json = null | boolean | number | string | Json[] | JsonObject
export interface JsonObject {
  [key: string]: Json
}

/** True for what JSON calls an object. */
export function isObject(value: Json | undefined): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

/** JSON with sorted keys (RFC 8785): equal for equal values. */
export function canonical(value: Json): string {
  if (Array.isArray(value)) return `[${value.map(canonical).join(',')}]`
  if (typeof value === 'object' && value !== null) {
    const parts = Object.keys(value)
      .sort()
      .map(key => `${JSON.stringify(key)}:${canonical(value[key] as Json)}`)
    return `{${parts.join(',')}}`
  }
  return JSON.stringify(value)
}
