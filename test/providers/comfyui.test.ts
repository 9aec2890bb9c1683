import { describe, expect, test } from 'bun:test'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JsonObject } from '../../src/core/json.ts'
import { COMFYUI_MODELS } from '../../src/models/comfyui.ts'
import { createComfyUi, promptIdOf } from '../../src/providers/comfyui.ts'
import { createWorkflows, fillWorkflow, type Loaded } from '../../src/providers/comfyui-workflow.ts'
import type { ProtocolOptions } from '../../src/providers/wire.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { openBench } from '../support/providers/bench.ts'
import { ComfyUiStandIn } from '../support/providers/comfyui.ts'
import type { StandInOptions } from '../support/providers/stand-in.ts'

const workflows = join(import.meta.dir, '../support/providers/workflows')
const order = {
  providerModel: 'paint',
  role: 'text_to_image' as const,
  body: { prompt: 'a red boat', width: 1_024, height: 768, seed: 7 },
}
const spec = {
  standIn: (options: StandInOptions) => new ComfyUiStandIn(options),
  provider: (options: ProtocolOptions) => createComfyUi({ ...options, workflows }),
  order,
}
const traits = {
  kind: 'job',
  failures: { error: 'provider_error', canceled: 'canceled', empty: 'output_invalid' },
  refusals: { rate_limited: null, overloaded: null, credit: null, key: null, model: null, input: null },
  cancel: { queued: 'confirmed', running: 'confirmed', ended: 'failed' },
  find: 'token',
  webhooks: 'none',
  links: true,
  upload: true,
  canVanish: true,
  callsPerPoll: 2,
} as const

protocolContract('comfyui', spec, traits)
protocolContract(
  'comfyui that chooses its own prompt ids',
  {
    ...spec,
    standIn: options => {
      const standIn = new ComfyUiStandIn(options)
      standIn.takesIds = false
      return standIn
    },
  },
  traits,
)

describe('comfyui', () => {
  test('the same attempt has the same prompt id, a UUID', () => {
    expect(promptIdOf('token-a')).toBe(promptIdOf('token-a'))
    expect(promptIdOf('token-a')).not.toBe(promptIdOf('token-b'))
    expect(promptIdOf('token-a')).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/)
  })

  test('fills numbers as numbers and text as text, and never reads what a caller wrote as a placeholder', () => {
    const graph: JsonObject = {
      '1': {
        class_type: 'X',
        inputs: {
          seed: '{{seed}}',
          steps: '{{steps|20}}',
          name: '{{name|plain text}}',
          text: 'a {{prompt}}, {{seed}}',
          link: ['4', 0],
        },
      },
    }
    const filled = fillWorkflow(graph, { seed: 7, prompt: '{{steps}} "quoted" \\ {{evil|1}}' })
    expect(filled).toEqual({
      ok: true,
      graph: {
        '1': {
          class_type: 'X',
          inputs: {
            seed: 7,
            steps: 20,
            name: 'plain text',
            text: 'a {{steps}} "quoted" \\ {{evil|1}}, 7',
            link: ['4', 0],
          },
        },
      },
    })
  })

  test('refuses what has no place and what is missing, by name', () => {
    const graph: JsonObject = { '1': { class_type: 'X', inputs: { text: '{{prompt}}', image: '{{image}}' } } }
    const filled = fillWorkflow(graph, { prompt: 'x', steps: 3, guidance: 2 })
    expect(filled).toEqual({
      ok: false,
      reason: 'the workflow needs image; the workflow has no {{steps}}, {{guidance}}',
    })
  })

  test('takes the file of the role first, then of the model, and no path out of the folder', async () => {
    const files = createWorkflows(workflows)
    const edit = await files.load('paint', 'image_to_image')
    expect(edit.ok && Object.keys(edit.graph)).toContain('1')
    expect((await files.load('paint', 'text_to_image')).ok).toBe(true)
    expect((await files.load('film', 'image_to_video')).ok).toBe(true)
    for (const name of ['nothing', '../workflows/paint', '..', 'a/b', ''])
      expect((await files.load(name, 'text_to_image')).ok).toBe(false)
    expect((await createWorkflows(join(workflows, 'paint.json')).load('anything', 'text_to_image')).ok).toBe(true)
  })

  test('says what is missing or wrong by the variable and the name, never by a path of this machine', () => {
    const dir = mkdtempSync(join(tmpdir(), 'babychain-flows-'))
    const load = (path: string) => createWorkflows(path).load('paint', 'text_to_image')
    const none: Loaded = {
      ok: false,
      reason: 'COMFYUI_WORKFLOWS has no paint.text_to_image.json and no paint.json',
      isThere: false,
    }
    for (const path of [dir, join(dir, 'nowhere')]) expect(load(path)).toEqual(none)
    expect(load(join(dir, 'one.json'))).toMatchObject({ reason: 'COMFYUI_WORKFLOWS names a file that is not there' })
    // As the menu saves it for itself.
    writeFileSync(join(dir, 'paint.json'), JSON.stringify({ nodes: [], links: [], version: 0.4 }))
    const wrong = "paint.json of COMFYUI_WORKFLOWS is no graph in ComfyUI's API format"
    expect(load(dir)).toEqual({ ok: false, reason: wrong, isThere: true })
    expect(load(join(dir, 'paint.json'))).toMatchObject({
      reason: expect.stringMatching(/^the file of COMFYUI_WORKFLOWS/),
    })
    rmSync(dir, { recursive: true })
  })

  test('the workflow of the documentation takes every call that it says it takes', async () => {
    const doc = await Bun.file(join(import.meta.dir, '../../docs/comfyui.md')).text()
    const graph = JSON.parse(/```json\n([^`]+)```/.exec(doc)?.[1] ?? '') as JsonObject
    const plain = fillWorkflow(graph, { seed: 7, prompt: 'a boat' })
    expect(plain).toMatchObject({
      graph: {
        '3': { inputs: { seed: 7, steps: 20, cfg: 4.5 } },
        '5': { inputs: { width: 1_024 } },
        '6': { inputs: { text: 'a boat, high detail' } },
        '7': { inputs: { text: '' } },
      },
    })
    const placed = [...doc.matchAll(/^\| (`\{\{.*?\}\}`.*?) \|/gm)].flatMap(row =>
      [...(row[1] ?? '').matchAll(/\w+/g)].map(name => name[0]),
    )
    // The parameters that `comfyui/image` and `comfyui/video` have, and one name a picture.
    const fields = COMFYUI_MODELS.flatMap(({ schema }) => Object.keys(schema.properties as JsonObject))
    expect(placed.toSorted()).toEqual([...new Set([...fields, 'image_2', 'image_3', 'image_4'])].toSorted())
  })

  test('an uploaded picture is what the workflow loads', async () => {
    const bench = await openBench(spec)
    const uploaded = await bench.provider.upload?.(
      { mime: 'image/png', bytes: new Uint8Array([1, 2, 3]) },
      bench.signal,
    )
    if (!uploaded?.ok) throw new Error('not uploaded')
    const job = bench.job({ role: 'image_to_image', body: { prompt: 'night', image: uploaded.ref } })
    expect((await bench.provider.start(job, bench.signal)).type).toBe('accepted')
    expect(bench.standIn.submits()[0]?.body).toMatchObject({ '1': { inputs: { image: uploaded.ref } } })
    const missing = bench.job({ role: 'image_to_image', body: { prompt: 'night', image: 'nowhere.png' } })
    expect(await bench.provider.start(missing, bench.signal)).toMatchObject({
      type: 'refused',
      error: { code: 'invalid_input', providerText: expect.stringContaining('Invalid image file') },
    })
    await bench.stop()
  })

  test('a seed is chosen where none is given, another one for each attempt', async () => {
    const bench = await openBench(spec)
    const body = { prompt: 'a red boat' }
    await bench.provider.start(bench.job({ body }), bench.signal)
    await bench.provider.start(bench.job({ body }), bench.signal)
    const seeds = bench.standIn.submits().map(job => (job.body['3'] as { inputs: { seed: number } }).inputs.seed)
    expect(seeds.every(Number.isInteger)).toBe(true)
    expect(new Set(seeds).size).toBe(2)
    await bench.stop()
  })

  test('a server that was restarted has lost the job, and nothing is called finished', async () => {
    const bench = await openBench(spec)
    const started = await bench.provider.start(bench.job(), bench.signal)
    if (started.type !== 'accepted') throw new Error(started.type)
    bench.standIn.restart()
    const check = async () => (await bench.provider.check(started.jobRef, bench.signal)).type
    expect([await check(), await check(), await check()]).toEqual(['unreachable', 'unreachable', 'unreachable'])
    bench.clock.advance(60_000)
    expect(await check()).toBe('failed')
    await bench.stop()
  })

  test('a cancel stops the one job and no other', async () => {
    const bench = await openBench(spec)
    const refs = []
    for (let i = 0; i < 2; i++) {
      const started = await bench.provider.start(bench.job(), bench.signal)
      if (started.type === 'accepted') refs.push(started.jobRef)
    }
    const [first = null, second = null] = refs
    bench.clock.advance(2_000)
    expect(await bench.provider.cancel(first, bench.signal)).toBe('confirmed')
    bench.clock.advance(10_000)
    expect((await bench.provider.check(first, bench.signal)).type).toBe('failed')
    expect((await bench.provider.check(second, bench.signal)).type).toBe('succeeded')
    await bench.stop()
  })

  test('says what to set when there is no server or no workflow', () => {
    const options = { http: {} as ProtocolOptions['http'], egress: {} as ProtocolOptions['egress'], now: () => 0 }
    expect(createComfyUi({ ...options, baseUrl: null, workflows }).missing).toContain('COMFYUI_URL')
    expect(createComfyUi({ ...options, baseUrl: 'http://127.0.0.1:1', workflows: null }).missing).toContain(
      'COMFYUI_WORKFLOWS',
    )
    expect(createComfyUi({ ...options, baseUrl: 'http://127.0.0.1:1', workflows }).missing).toBeNull()
  })
})
