import { describe, expect, test } from 'bun:test'
import type { ErrorCode } from '../../src/core/errors.ts'
import type { Json } from '../../src/core/json.ts'
import {
  codeByName,
  createDashScope,
  dashScopeDialect,
  readCheck,
  readPictures,
  submitAsk,
} from '../../src/providers/dashscope.ts'
import type { Answer } from '../../src/providers/protocol.ts'
import { protocolContract } from '../contract/protocol.contract.ts'
import { DashScopeStandIn } from '../support/providers/dashscope.ts'
import type { StandInOptions } from '../support/providers/stand-in.ts'

const film = {
  providerModel: 'wan2.6-i2v',
  role: 'image_to_video' as const,
  body: {
    input: { img_url: 'https://cdn.example.org/boat.png', prompt: 'the boat drifts' },
    parameters: { resolution: '720P', duration: 5, prompt_extend: true, watermark: false },
  },
}
const picture = {
  providerModel: 'qwen-image',
  role: 'text_to_image' as const,
  body: {
    input: { messages: [{ role: 'user', content: [{ text: 'a red boat' }] as Json[] }] as Json[] },
    parameters: { size: '1328*1328', watermark: false },
  },
}
const task = {
  providerModel: 'wan2.2-t2i-flash',
  role: 'text_to_image' as const,
  body: { input: { prompt: 'a red boat' }, parameters: { size: '1024*1024', n: 1 } },
}
const spec = { standIn: (options: StandInOptions) => new DashScopeStandIn(options), provider: createDashScope }
const jobs = {
  kind: 'job',
  failures: {
    input: 'content_rejected',
    output: 'content_rejected',
    error: 'provider_error',
    canceled: 'canceled',
    empty: 'output_invalid',
  },
  cancel: { queued: 'unbegun', running: 'failed', ended: 'failed' },
  find: 'none',
  strange: (id: string) => ({ output: { task_id: id, task_status: 'DREAMING' } }),
  webhooks: 'none',
  links: true,
  upload: false,
  canVanish: true,
} as const

protocolContract('dashscope films', { ...spec, order: film }, jobs)
protocolContract('dashscope picture tasks', { ...spec, order: task }, jobs)
protocolContract(
  'dashscope pictures by messages',
  { ...spec, order: picture },
  {
    kind: 'sync',
    failures: {
      input: 'content_rejected',
      output: 'content_rejected',
      error: 'provider_error',
      empty: 'provider_error',
    },
    ran: ['empty'],
    cancel: { queued: 'unsupported', running: 'unsupported', ended: 'unsupported' },
    find: 'none',
    webhooks: 'none',
    links: false,
    upload: false,
    canVanish: false,
  },
)

const answer = (json: Json): Answer => ({ status: 200, headers: {}, json, at: 0 })

describe('dashscope', () => {
  test('the service follows the input and the role; only tasks ask for async', () => {
    const ask = (order: Parameters<typeof submitAsk>[1]) => {
      const { url, headers } = submitAsk('https://dashscope-intl.aliyuncs.com/api/v1', order)
      return [
        url.slice('https://dashscope-intl.aliyuncs.com/api/v1/services/aigc/'.length),
        headers?.['x-dashscope-async'],
      ]
    }
    expect(ask(film)).toEqual(['video-generation/video-synthesis', 'enable'])
    expect(ask(picture)).toEqual(['multimodal-generation/generation', undefined])
    expect(ask(task)).toEqual(['text2image/image-synthesis', 'enable'])
    expect(ask({ ...task, role: 'image_to_image' })).toEqual(['image2image/image-synthesis', 'enable'])
    const keyFrames = { ...film, body: { input: { first_frame_url: 'https://x.example/a.png' } } }
    expect(ask(keyFrames)).toEqual(['image2video/video-synthesis', 'enable'])
  })

  test('keeps the good pictures of a task of which one failed, and tells why when all did', () => {
    const read = (results: Json[]) =>
      readCheck(dashScopeDialect('k'), answer({ output: { task_status: 'SUCCEEDED', results } }), 10_000)
    const refused = { code: 'DataInspectionFailed', message: 'm' }
    expect(read([{ url: 'https://x.example/a.png' }, refused])).toMatchObject({ type: 'succeeded', media: [{}] })
    expect(read([refused])).toMatchObject({ type: 'failed', error: { code: 'content_rejected' } })
  })

  test('asks their storage by https where it gives an http link', () => {
    const output = {
      task_status: 'SUCCEEDED',
      video_url: 'http://dashscope-result-sgp.oss-ap-southeast-1.aliyuncs.com/x.mp4?Expires=1',
    }
    expect(readCheck(dashScopeDialect('k'), answer({ output }), 10_000)).toMatchObject({
      media: [{ url: 'https://dashscope-result-sgp.oss-ap-southeast-1.aliyuncs.com/x.mp4?Expires=1' }],
    })
  })

  test('also where the picture is in the answer to its submit', () => {
    const read = (image: string) =>
      readPictures(dashScopeDialect('k'), answer({ output: { choices: [{ message: { content: [{ image }] } }] } }))
    expect(read('http://dashscope-result-sgp.oss-ap-southeast-1.aliyuncs.com/x.png?Expires=1')).toEqual({
      type: 'pictures',
      pictures: [{ url: 'https://dashscope-result-sgp.oss-ap-southeast-1.aliyuncs.com/x.png?Expires=1' }],
    })
    expect(read('http://elsewhere.example/x.png')).toMatchObject({
      pictures: [{ url: 'http://elsewhere.example/x.png' }],
    })
  })

  test('a call that ran and gave no picture is a job that failed, tried once more; free where it says so', () => {
    const read = (json: Json, jobsBefore = 0) => readPictures(dashScopeDialect('k'), answer(json), jobsBefore)
    const said = (message: Json): Json => ({ output: { choices: [{ finish_reason: 'stop', message }] } })
    const message = 'dashscope answered without a picture'
    const words: [Json, string][] = [
      [said({ content: [{ text: 'I cannot draw this.' }] }), 'stop: I cannot draw this.'],
      [said({ content: [] }), 'stop'],
      [said({ content: [{ image: null }] }), 'stop'],
      [{ output: { choices: [] } }, 'no choice'],
    ]
    for (const [json, providerText] of words) {
      expect(read(json)).toEqual({
        type: 'ended',
        error: expect.objectContaining({ code: 'provider_error', message, providerText }),
      })
      expect(read(json, 1)).toMatchObject({ type: 'ended', error: { code: 'output_invalid', message } })
    }
    // A picture that is there is kept, whatever stands beside it.
    const [good, odd] = [{ message: { content: [{ image: 'https://x.example/a.png' }] } }, { finish_reason: 'stop' }]
    expect(read({ output: { choices: [odd, good] } }).type).toBe('pictures')
    const counted = (count: Json) => read({ output: { choices: [] }, usage: { image_count: count } })
    expect(counted(0)).toMatchObject({ type: 'ended', costUsd: 0 })
    for (const count of [null, '0']) {
      expect(counted(count)).toMatchObject({ type: 'ended' })
      expect(counted(count)).not.toHaveProperty('costUsd')
    }
  })

  test('an answer that is not theirs, or may hold a picture that cannot be read, stays unknown', () => {
    const content = [{ image: 'javascript:alert(1)' }]
    for (const json of [
      {},
      { output: {} },
      { output: { choices: {} } },
      { output: { choices: ['x'] } },
      { output: { choices: [{ finish_reason: 'stop' }] } },
      { output: { choices: [{ message: { content } }] } },
      { output: { choices: [{ message: { content: [{ image_url: 'https://x.example/a.png' }] } }] } },
      { output: { choices: [{ message: { content: [{ text: { image: 'https://x.example/a.png' } }] } }] } },
      { output: { choices: [{ message: { content: ['https://x.example/a.png'] } }] } },
      { output: { choices: [{ message: { content: { image: 'https://x.example/a.png' } } }] } },
      // One that was made, and is billed, is somewhere: another would be bought beside it.
      { output: { choices: [{ message: { content: [{ text: 'Here it is.' }] } }] }, usage: { image_count: 1 } },
    ] as Json[])
      expect([json, readPictures(dashScopeDialect('k'), answer(json)).type]).toEqual([json, 'unknown'])
  })

  test('tells every documented code', () => {
    const table: [string, ErrorCode][] = [
      ['InvalidApiKey', 'provider_unauthorized'],
      ['AccessDenied', 'provider_unauthorized'],
      ['AccessDenied.Unpurchased', 'model_not_enabled'],
      ['Arrearage', 'insufficient_credit'],
      ['ModelNotFound', 'model_not_enabled'],
      ['InvalidParameter', 'invalid_input'],
      ['InvalidParameter.DataInspection', 'invalid_input'],
      ['InvalidURL', 'input_fetch_failed'],
      ['DataInspectionFailed', 'content_rejected'],
      ['DataInspectionFailed.green', 'content_rejected'],
      ['Throttling', 'provider_rate_limited'],
      ['Throttling.RateQuota', 'provider_rate_limited'],
      ['Throttling.AllocationQuota', 'provider_rate_limited'],
      ['LimitRequests', 'provider_rate_limited'],
      ['InternalError.Timeout', 'provider_error'],
    ]
    for (const [name, code] of table) expect([name, codeByName(name)]).toEqual([name, code])
  })
})
