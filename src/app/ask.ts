/**
 * Calls from a command of ours to a server of ours, on this machine. `fetch` would ask a proxy that the environment names
 * (HTTP_PROXY) to make them, and hand it the key; nothing here knows of one.
 */
import { request } from 'node:http'
import { Readable } from 'node:stream'

export interface Question {
  method?: string
  headers?: Readonly<Record<string, string>>
  body?: string
  signal?: AbortSignal
}

/** Asks; the answer's body comes as it is sent. Follows no redirect. Rejects when nobody answers. */
export function ask(url: string, { method = 'GET', headers = {}, body, signal }: Question = {}): Promise<Response> {
  return new Promise((resolve, reject) => {
    const call = request(url, { method, headers, ...(signal ? { signal } : {}) }, answer => {
      const { statusCode = 502 } = answer
      const headers = Object.entries(answer.headersDistinct).flatMap(([name, values = []]) =>
        values.map((value): [string, string] => [name, value]),
      )
      const isBare = [204, 205, 304].includes(statusCode)
      if (isBare) answer.resume()
      const stream = isBare ? null : (Readable.toWeb(answer) as ReadableStream<Uint8Array>)
      resolve(new Response(stream, { status: statusCode, headers }))
    })
    call.on('error', reject)
    call.end(body)
  })
}
