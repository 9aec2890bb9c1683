/** The table of `babychain models`: its columns say what their names say, in the words of the API where it has them. */
import { expect, test } from 'bun:test'
import { modelTable, type RouteRow } from '../../src/app/model-table.ts'
import { readConfig } from '../../src/config.ts'

function tableOf(env: Record<string, string>): RouteRow[] {
  const read = readConfig(env)
  if (!read.ok) throw new Error(read.problems.join('\n'))
  return modelTable(read.config)
}
const at = (rows: RouteRow[], model: string, provider: string) =>
  rows.find(row => row.model === model && row.provider === provider)

test('a route is configured where its provider has a key; whether it can express a plain request is another question', () => {
  const rows = tableOf({ BFL_API_KEY: 'k' })
  expect(at(rows, 'bfl/flux-2-flex', 'bfl')).toMatchObject({ configured: true, expressible: true, usd: 0.05 })
  expect(at(rows, 'bfl/flux-2-flex', 'fal')).toMatchObject({ configured: 'set FAL_KEY', expressible: true })
  expect(at(rows, 'bfl/flux-pro-1.0-fill', 'fal')).toMatchObject({ expressible: 'fal needs a mask' })
  expect(rows.some(row => 'eligible' in row)).toBe(false)
})

test('in the sandbox every model goes there, for nothing', () => {
  const rows = tableOf({})
  expect(rows.every(row => row.provider === 'sandbox' && row.configured && row.expressible && row.usd === 0)).toBe(true)
})
