/** The form of a refusal: what a client's own rules for retries read of it, and how much it tells. */
import { expect, test } from 'bun:test'
import { MOST_TOLD } from '../../src/core/chain.ts'
import { Draining, QueueFull, StorageUnavailable } from '../../src/core/ports.ts'
import { ApiProblem, asProblem, problemResponse, type RequestError, refusal } from '../../src/http/problem.ts'

test('it says in a header, too, whether to try again, and when where that is known', () => {
  for (const [problem, retry, after] of [
    [new ApiProblem('invalid_request', 'no'), 'false', null],
    [asProblem(new StorageUnavailable('full')), 'true', '2'],
    [asProblem(new Draining('bye')), 'true', '5'],
    [asProblem(new QueueFull('many')), 'true', '10'],
  ] as const) {
    const { headers } = problemResponse(problem ?? new ApiProblem('internal', ''), 'req_1', '/x')
    expect([headers.get('should-retry'), headers.get('retry-after')]).toEqual([retry, after])
    expect([headers.get('content-type'), headers.get('cache-control')]).toEqual([
      'application/problem+json',
      'no-store',
    ])
  }
  expect(asProblem(new Error('a bug'))).toBeNull()
})

test('it tells so many mistakes and no more, and says how many it leaves out', async () => {
  const errors = (count: number) =>
    Array.from({ length: count }, (_, i): RequestError => ({ pointer: `/${i}`, code: 'x', detail: 'no' }))
  const told = async (count: number) => {
    const said = (await problemResponse(refusal(errors(count)), 'req_1', '/x').json()) as Record<string, unknown>
    return [(said.errors as object[]).length, said.errors_omitted]
  }
  expect([await told(MOST_TOLD), await told(MOST_TOLD + 7)]).toEqual([
    [MOST_TOLD, undefined],
    [MOST_TOLD, 7],
  ])
})
