/** What is read of a body: the forms of a header that all mean JSON, and texts that trip a reader. */
import { expect, test } from 'bun:test'
import { readJson } from '../../src/http/body.ts'
import { ApiProblem } from '../../src/http/problem.ts'
import { HttpWorld } from '../support/http-world.ts'

const sent = (body: string, headers: Record<string, string> = {}) => {
  const request = new Request('http://babychain.test/', {
    method: 'POST',
    body,
    headers: { 'content-type': 'application/json', ...headers },
  })
  return readJson({ request, closing: new AbortController().signal, isStillAllowed: async () => true })
}
const refusal = async (body: string): Promise<ApiProblem> => {
  const problem = await sent(body).catch(error => error)
  expect(problem).toBeInstanceOf(ApiProblem)
  return problem
}

test('a body is JSON however its type is written, with the charset that JSON has, and encoded as itself', async () => {
  for (const type of ['application/json; charset=utf-8', 'Application/JSON;charset="UTF8"', 'application/json ; a=b'])
    expect([type, await sent('{"a":1}', { 'content-type': type })]).toEqual([type, { a: 1 }])
  for (const encoding of ['identity', ' Identity '])
    expect(await sent('{"a":1}', { 'content-encoding': encoding })).toEqual({ a: 1 })
})

test('a key is given twice whatever blanks stand behind it', async () => {
  for (const blank of [' ', '\t', '\r', '\n', ' \t\r\n'])
    expect((await refusal(`{"a"${blank}:1,"a"${blank}:2}`)).more.errors).toMatchObject([
      { pointer: '/a', code: 'twice' },
    ])
})

test('a key that reaches into what every object has is not taken, wherever it stands', async () => {
  for (const key of ['__proto__', 'constructor', 'prototype'])
    expect((await refusal(`{"a":[{"${key}":1}]}`)).more.errors).toMatchObject([{ pointer: `/a/0/${key}` }])
})

test('a key that is no text is refused as what it is: not JSON', async () => {
  for (const body of ['{"\\q":1}', '{"\\u12":1}', '{"a\nb":1}']) expect((await refusal(body)).code).toBe('invalid_json')
})

test('a request without any body is told so, and not that something broke', async () => {
  const world = await HttpWorld.open()
  const refused = await world.ask('POST', '/api/v1/chains/chain1/runs', {
    headers: { 'content-type': 'application/json' },
  })
  expect(refused.status).toBe(400)
  expect(await refused.json()).toMatchObject({ code: 'invalid_json', detail: 'The body is empty.' })
  await world.close()
})

test('of many texts that cannot be stored the first twenty are told', async () => {
  const { more } = await refusal(JSON.stringify(Array.from({ length: 300 }, () => '\0')))
  expect([more.errors?.length, more.errors?.at(-1)?.pointer]).toEqual([20, '/19'])
})
