/** The table of `babychain models`: its columns say what their names say, in the words of the API where it has them. */
import { afterAll, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { modelTable, type RouteRow } from '../../src/app/model-table.ts'
import { routesFor } from '../../src/app/providers.ts'
import { readConfig } from '../../src/config.ts'
import { createCatalog } from '../../src/models/catalog.ts'

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

const flows = mkdtempSync(join(tmpdir(), 'babychain-flows-'))
afterAll(() => rmSync(flows, { recursive: true }))
const graph = (inputs: Record<string, string>) => JSON.stringify({ 1: { class_type: 'SaveImage', inputs } })

test('a workflow is judged with its route: one that is not there, and one without a place for what is sent', () => {
  const env = { COMFYUI_URL: 'http://127.0.0.1:8188' }
  const table = (workflows?: string) =>
    tableOf(workflows === undefined ? env : { ...env, COMFYUI_WORKFLOWS: workflows })
  expect(at(table(), 'comfyui/image', 'comfyui')).toMatchObject({ configured: 'set COMFYUI_WORKFLOWS' })
  for (const path of [flows, join(flows, 'nowhere')])
    expect(at(table(path), 'comfyui/image', 'comfyui')).toMatchObject({
      expressible: 'COMFYUI_WORKFLOWS has no image.text_to_image.json and no image.json',
    })
  writeFileSync(join(flows, 'image.json'), graph({ text: '{{prompt}}', size: '{{width|64}}' }))
  writeFileSync(join(flows, 'video.json'), graph({ text: '{{prompt}}', length: '{{seconds}}' }))
  const rows = table(flows)
  expect(at(rows, 'comfyui/image', 'comfyui')).toMatchObject({ configured: true, expressible: true })
  expect(at(rows, 'comfyui/video', 'comfyui')).toMatchObject({
    expressible: 'the workflow needs seconds; the workflow has no {{image}}',
  })
  expect(at(rows, 'qwen/qwen-image', 'comfyui')).toMatchObject({
    expressible: expect.stringContaining('qwen-image.json'),
  })
  // Other routes of the same models are none of its business.
  expect(at(rows, 'qwen/qwen-image', 'fal')).toMatchObject({ expressible: true })
  // Read anew: what is mended counts at once.
  writeFileSync(join(flows, 'video.json'), graph({ text: '{{prompt}}', length: '{{seconds|5}}', image: '{{image}}' }))
  expect(at(table(flows), 'comfyui/video', 'comfyui')).toMatchObject({ expressible: true })
})

test('a route is missing its workflow only where no role has one', () => {
  const dir = mkdtempSync(join(flows, 'roles-'))
  writeFileSync(join(dir, 'image.image_to_image.json'), graph({ text: '{{prompt}}', image: '{{image}}' }))
  const read = readConfig({ COMFYUI_URL: 'http://127.0.0.1:8188', COMFYUI_WORKFLOWS: dir })
  if (!read.ok) throw new Error(read.problems.join('\n'))
  const missing = (id: string) => {
    const model = createCatalog().find(id)
    if (!model) throw new Error(id)
    return routesFor(read.config)(model).map(route => route.missing?.() ?? null)
  }
  expect(missing('comfyui/image')).toEqual([null])
  expect(missing('comfyui/video')).toEqual([expect.stringContaining('no video.json')])
  expect(missing('bfl/flux-2-flex').every(lack => lack === null)).toBe(true)
})
