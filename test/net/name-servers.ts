// A real name server over UDP on loopback, which answers, errs or says nothing, as the test wants it.

import dgram from 'node:dgram'
import { isIP } from 'node:net'
import ipaddr from 'ipaddr.js'

/** The addresses of a name (of both families; none is an answer too), or what is said in their place. */
export type Said = readonly string[] | 'no such name' | 'failure' | 'refused' | 'malformed' | 'unknown' | 'silence'

export type NameServer = {
  /** `address:port`. */
  readonly place: string
  /** What was asked, as `A name`, in the order of arrival. */
  readonly asked: readonly string[]
  /** As soon as so many questions have come. */
  readonly heard: (count: number) => Promise<void>
  readonly close: () => void
}

const CODES = { malformed: 1, failure: 2, 'no such name': 3, unknown: 4, refused: 5 } as const
const TYPES: Readonly<Record<number, string>> = { 1: 'A', 2: 'NS', 28: 'AAAA' }

/** `says` is asked for each question, for the root (`''`) too. */
export async function startNameServer(says: (name: string, type: string) => Said, port = 0): Promise<NameServer> {
  const socket = dgram.createSocket('udp4')
  const asked: string[] = []
  let waiting: { count: number; resolve: () => void }[] = []
  socket.on('message', (question, from) => {
    const { name, type, end } = read(question)
    asked.push(`${TYPES[type] ?? type} ${name}`)
    for (const { count, resolve } of waiting) if (asked.length >= count) resolve()
    waiting = waiting.filter(({ count }) => asked.length < count)
    const said = says(name, TYPES[type] ?? '')
    if (said !== 'silence') socket.send(reply(question.subarray(0, end), type, said), from.port, from.address)
  })
  await new Promise<void>(resolve => socket.bind(port, '127.0.0.1', resolve))
  return {
    place: `127.0.0.1:${socket.address().port}`,
    asked,
    heard: count => new Promise(resolve => (asked.length >= count ? resolve() : void waiting.push({ count, resolve }))),
    close: () => socket.close(),
  }
}

function read(question: Buffer): { name: string; type: number; end: number } {
  const labels: string[] = []
  let at = 12
  for (let length = question[at] ?? 0; length > 0; length = question[at] ?? 0) {
    labels.push(question.toString('latin1', at + 1, at + 1 + length))
    at += length + 1
  }
  return { name: labels.join('.').toLowerCase(), type: question.readUInt16BE(at + 1), end: at + 5 }
}

/** RFC 1035, section 4.1: the question again, then the records of its type, which name it by a pointer. */
function reply(question: Buffer, type: number, said: Exclude<Said, 'silence'>): Buffer {
  const family = type === 1 ? 4 : type === 28 ? 6 : 0
  const found = typeof said === 'string' ? [] : said.filter(address => isIP(address) === family)
  const records = found.map(address => {
    const bytes = ipaddr.parse(address).toByteArray()
    return Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 0, 0, bytes.length, ...bytes])
  })
  const answer = Buffer.concat([question, ...records])
  answer.writeUInt16BE(0x8180 + (typeof said === 'string' ? CODES[said] : 0), 2)
  answer.writeUInt16BE(records.length, 6)
  answer.fill(0, 8, 12)
  return answer
}
