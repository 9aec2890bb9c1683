/** The log goes where it can, and whoever writes a line learns nothing of what becomes of it. */
import { expect, test } from 'bun:test'
import { Output } from '../../src/app/output.ts'

type Done = (error: NodeJS.ErrnoException | null, written: number) => void

/** A standard output that does as it is told, with a clock that stands still unless somebody moves it. */
class Pipe {
  taken = ''
  readonly complaints: string[] = []
  readonly timers: { ms: number; call: () => void }[] = []
  now = 0
  /** What it answers to a write; by default it takes all. */
  answer: (bytes: Uint8Array, done: Done) => void = (bytes, done) => this.take(bytes, done)
  readonly output = new Output({
    write: (bytes, done) => this.answer(bytes, done),
    writeNow: bytes => {
      this.taken += Buffer.from(bytes).toString()
    },
    complain: text => this.complaints.push(text),
    now: () => this.now,
    after: (ms, call) => this.timers.push({ ms, call }),
  })

  take(bytes: Uint8Array, done: Done, count = bytes.length): void {
    this.taken += Buffer.from(bytes.subarray(0, count)).toString()
    queueMicrotask(() => done(null, count))
  }

  refuse = (code: string) => (_: Uint8Array, done: Done) =>
    queueMicrotask(() => done(Object.assign(new Error('no'), { code }), 0))
}

test('lines come out in their order, those of a moment in one write', async () => {
  const pipe = new Pipe()
  let writes = 0
  pipe.answer = (bytes, done) => {
    writes += 1
    pipe.take(bytes, done)
  }
  for (const line of ['a\n', 'b\n', 'c\n']) pipe.output.write(line)
  await pipe.output.settled()
  pipe.output.write('d\n')
  await pipe.output.settled()
  expect([pipe.taken, writes]).toEqual(['a\nb\nc\nd\n', 2])
})

test('what a full disk refuses is dropped and counted; standard error hears of it once a minute, and of the end', async () => {
  const pipe = new Pipe()
  pipe.answer = pipe.refuse('ENOSPC')
  const say = async (line: string) => {
    pipe.output.write(line)
    await pipe.output.settled()
  }
  for (const line of ['a\n', 'b\n', 'c\n']) await say(line)
  expect(pipe.complaints).toEqual([expect.stringContaining('(ENOSPC); 1 dropped so far')])
  pipe.now = 60_000
  await say('d\n')
  expect(pipe.complaints.slice(1)).toEqual([expect.stringContaining('4 dropped so far')])
  pipe.answer = (bytes, done) => pipe.take(bytes, done)
  await say('e\n')
  expect(pipe.taken).toBe('e\n')
  expect(pipe.complaints.slice(2)).toEqual(['the log is written again; 4 of its lines were dropped'])
})

test('a pipe that takes a part gets the rest, and one that is full is asked again', async () => {
  const pipe = new Pipe()
  const answers: Pipe['answer'][] = [
    (bytes, done) => pipe.take(bytes, done, 2),
    pipe.refuse('EAGAIN'),
    (bytes, done) => pipe.take(bytes, done),
  ]
  pipe.answer = (bytes, done) => answers.shift()?.(bytes, done)
  pipe.output.write('abcd\n')
  const settled = pipe.output.settled()
  while (pipe.timers.length < 2) await Promise.resolve()
  pipe.output.write('e\n')
  answers.push((bytes, done) => pipe.take(bytes, done))
  pipe.timers.at(-1)?.call()
  await settled
  expect([pipe.taken, pipe.complaints]).toEqual(['abcd\ne\n', []])
})

test('a line that was torn does not spoil the next', async () => {
  const pipe = new Pipe()
  const answers: Pipe['answer'][] = [(bytes, done) => pipe.take(bytes, done, 2), pipe.refuse('ENOSPC')]
  pipe.answer = (bytes, done) => (answers.shift() ?? pipe.take.bind(pipe))(bytes, done)
  pipe.output.write('abcd\n')
  await pipe.output.settled()
  pipe.output.write('e\n')
  await pipe.output.settled()
  expect(pipe.taken).toBe('ab\ne\n')
})

test('a reader that stands still costs bounded memory, and holds up neither the writer nor the end', async () => {
  const pipe = new Pipe()
  pipe.answer = () => {}
  const line = `${'x'.repeat(1_023)}\n`
  pipe.output.write('first\n')
  await Promise.resolve()
  for (let n = 0; n < 5_000; n += 1) pipe.output.write(line)
  expect(pipe.complaints).toEqual([expect.stringContaining('(nobody reads them); 1 dropped so far')])
  const settled = pipe.output.settled()
  pipe.now = 1_000
  pipe.timers.at(-1)?.call()
  await settled
  pipe.output.end()
  expect(pipe.taken).toBe('')
})

test('a process that ends at once still says its last words', () => {
  const pipe = new Pipe()
  pipe.output.write('last\n')
  pipe.output.end()
  expect(pipe.taken).toBe('last\n')
})
