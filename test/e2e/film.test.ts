/**
 * Films in the hands of strangers: ffprobe reads them, ffmpeg decodes them, Chromium plays them. Each test runs where its tool is
 * found, and must run (so fails without it) in CI.
 */
import { afterAll, beforeAll, describe, expect, test } from 'bun:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, resolve } from 'node:path'
import { type Browser, chromium } from 'playwright-core'
import { decodeCover, toScreen } from '../../src/providers/sandbox/canvas.ts'
import { type FilmOrder, film } from '../../src/providers/sandbox/film.ts'
import { paint } from '../../src/providers/sandbox/paint.ts'
import { BitWriter } from '../../src/providers/sandbox/video/bits.ts'
import { keyPicture, parametersOf } from '../../src/providers/sandbox/video/h264.ts'
import { type Plane, type Planes, planesOf, writeIntraPicture } from '../../src/providers/sandbox/video/intra.ts'
import { mp4File } from '../../src/providers/sandbox/video/mp4.ts'

const FFPROBE = Bun.which('ffprobe')
const FFMPEG = Bun.which('ffmpeg')
const BROWSER = Bun.which('chromium') ?? Bun.which('chromium-browser') ?? Bun.which('google-chrome')
const testWith = (tool: string | null): typeof test => (tool || process.env.CI ? test : test.skip) as typeof test

/** A busy machine is slow, and that is no fault of the film. */
const PATIENCE_MS = 60_000

const ORDER: FilmOrder = { prompt: 'Slow orbit', seed: 593, width: 1024, height: 1024, seconds: 3, fps: 24 }
const PICTURE = { prompt: 'A wireless headphone, teal and violet studio lighting', seed: 593 }

let folder = ''
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'film-'))
})
afterAll(() => rm(folder, { recursive: true, force: true }))

async function filmed(order: FilmOrder): Promise<Uint8Array> {
  const input = await paint({ ...PICTURE, width: 512, height: 512, format: 'jpeg' })
  return (await film(order, input.bytes)).bytes
}

function run(tool: string | null, ...args: readonly string[]): { out: Uint8Array; complaints: string } {
  const { stdout, stderr, exitCode } = Bun.spawnSync([tool ?? 'missing', ...args])
  expect(exitCode).toBe(0)
  return { out: stdout, complaints: stderr.toString() }
}

describe('ffmpeg', () => {
  for (const [width, height, seconds] of [
    [1024, 1024, 3],
    [1920, 1088, 2],
    [1470, 630, 2.5],
    [560, 752, 5],
  ] as const) {
    testWith(FFPROBE)(
      `decodes every frame of ${seconds} s of ${width} x ${height}`,
      async () => {
        const path = join(folder, `${width}.mp4`)
        await Bun.write(path, await filmed({ ...ORDER, width, height, seconds }))
        const show = 'stream=codec_name,width,height,nb_read_frames,duration,r_frame_rate,pix_fmt:format=duration'
        const { out, complaints } = run(
          FFPROBE,
          '-v',
          'warning',
          '-count_frames',
          '-show_entries',
          show,
          '-of',
          'json',
          path,
        )
        const { streams, format } = JSON.parse(new TextDecoder().decode(out))
        expect(complaints).toBe('')
        expect(streams).toHaveLength(1)
        expect(streams[0]).toMatchObject({
          codec_name: 'h264',
          width,
          height,
          pix_fmt: 'yuv420p',
          r_frame_rate: '24/1',
        })
        expect(streams[0].nb_read_frames).toBe(String(seconds * 24))
        expect(Number(streams[0].duration)).toBeCloseTo(seconds, 5)
        expect(Math.abs(Number(format.duration) - seconds)).toBeLessThan(1 / 24)
      },
      PATIENCE_MS,
    )
  }

  testWith(FFMPEG)(
    'sees to the bit what the encoder saw, at every quantiser',
    async () => {
      const format = { width: 96, height: 80, fps: 24 }
      const path = join(folder, 'exact.mp4')
      for (const picture of [card(noise()), card((x, y) => 128 + 60 * Math.sin(x / 9) + 50 * Math.cos(y / 5))]) {
        const quantisers = Array.from({ length: 44 }, (_, i) => i + 8)
        const samples = quantisers.map((qp, i) => ({ unit: keyPicture(picture, i, qp), key: true }))
        await Bun.write(path, mp4File({ ...format, parameters: parametersOf(format), samples }))
        const decode = ['-v', 'warning', '-skip_loop_filter', 'all', '-i', path, '-f', 'rawvideo', '-']
        const { out, complaints } = run(FFMPEG, ...decode)
        expect(complaints).toBe('')
        const seen = quantisers.flatMap(qp => {
          const { y, cb, cr } = writeIntraPicture(new BitWriter(), picture, qp)
          return [y.samples, cb.samples, cr.samples]
        })
        expect(Buffer.compare(out, Buffer.concat(seen))).toBe(0)
      }
    },
    PATIENCE_MS,
  )

  function card(value: (x: number, y: number) => number): Planes {
    const planes = planesOf(96, 80)
    for (const plane of [planes.y, planes.cb, planes.cr]) fill(plane, value)
    return planes
  }
  function fill({ width, samples }: Plane, value: (x: number, y: number) => number): void {
    for (let i = 0; i < samples.length; i++) samples[i] = value(i % width, Math.floor(i / width))
  }
  function noise(): () => number {
    let state = 1
    return () => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0
      return state >>> 24
    }
  }

  testWith(FFMPEG)(
    'sees the picture first, and then a smooth move into it',
    async () => {
      const path = join(folder, 'smooth.mp4')
      const size = { width: 512, height: 512 }
      await Bun.write(path, await filmed({ ...ORDER, ...size }))
      const { out } = run(FFMPEG, '-v', 'error', '-i', path, '-f', 'rawvideo', '-pix_fmt', 'gray', '-')
      const frame = (n: number): Uint8Array => out.subarray(n * 512 * 512, (n + 1) * 512 * 512)
      const steps = Array.from({ length: 71 }, (_, n) => difference(frame(n), frame(n + 1)))
      expect(Math.min(...steps)).toBeGreaterThan(0.05)
      expect(Math.max(...steps)).toBeLessThan(3)
      // A key picture (12, 24, …) fits on to the drift before it: its step is no jump.
      for (const key of [12, 24, 36, 48, 60]) expect(steps[key - 1]!).toBeLessThan(2 * steps[key - 2]! + 0.5)
      expect(difference(frame(0), frame(71))).toBeGreaterThan(3 * Math.max(...steps))
    },
    PATIENCE_MS,
  )
})

function difference(a: Uint8Array, b: Uint8Array): number {
  return a.reduce((sum, value, i) => sum + Math.abs(value - b[i]!), 0) / a.length
}

describe('a compiled binary', () => {
  test(
    'paints and films in an empty folder',
    async () => {
      const source = resolve(import.meta.dir, '../../src/providers/sandbox')
      const program = join(folder, 'program.ts')
      const binary = join(folder, 'program')
      const empty = await mkdtemp(join(folder, 'empty-'))
      await Bun.write(
        program,
        `import { openStudio } from ${JSON.stringify(join(source, 'studio.ts'))}
         const film = await openStudio().film({ prompt: 'a fox', seed: 1, width: 96, height: 64, seconds: 1, fps: 24 }, null)
         console.log(JSON.stringify({ size: film.bytes.length, frames: film.frames }))`,
      )
      const flags = ['--compile', '--minify', '--bytecode', '--format=esm']
      run(process.execPath, 'build', ...flags, program, join(source, 'studio.worker.ts'), '--outfile', binary)
      const { stdout, exitCode } = Bun.spawnSync([binary], { cwd: empty })
      expect(exitCode).toBe(0)
      const { bytes } = await film({ prompt: 'a fox', seed: 1, width: 96, height: 64, seconds: 1, fps: 24 }, null)
      expect(JSON.parse(stdout.toString())).toEqual({ size: bytes.length, frames: 24 })
    },
    PATIENCE_MS,
  )
})

describe('Chromium', () => {
  let browser: Browser | undefined
  afterAll(async () => {
    await browser?.close()
  })

  testWith(BROWSER)(
    'plays the film, in its colors, and seeks in it',
    async () => {
      const bytes = await filmed(ORDER)
      const input = await paint({ ...PICTURE, width: 512, height: 512, format: 'jpeg' })
      const page = '<!doctype html><video muted playsinline></video>'
      using server = Bun.serve({
        port: 0,
        hostname: '127.0.0.1',
        routes: {
          '/': () => new Response(page, { headers: { 'content-type': 'text/html' } }),
          '/film.mp4': () => new Response(new Uint8Array(bytes), { headers: { 'content-type': 'video/mp4' } }),
        },
      })
      browser = await chromium.launch({
        executablePath: BROWSER ?? 'missing',
        args: [
          '--headless',
          '--no-sandbox',
          '--disable-gpu',
          '--disable-background-networking',
          '--disable-dev-shm-usage',
        ],
      })
      const tab = await browser.newPage()
      await tab.goto(server.url.href)
      const loaded = await tab.evaluate(LOAD)
      expect(loaded).toEqual({ error: null, readyState: 4, width: 1024, height: 1024, duration: 3 })
      const played = (await tab.evaluate(PLAY)) as { time: number; frames: number }
      expect(played.time).toBeGreaterThan(0.5)
      expect(played.frames).toBeGreaterThan(5)
      const late = await tab.evaluate(lookAt(2.5))
      const first = (await tab.evaluate(lookAt(0))) as { time: number; spots: number[] }
      expect(late).toMatchObject({ time: 2.5, error: null })
      expect(first).toMatchObject({ time: 0, error: null })
      expect(late).not.toMatchObject({ spots: first.spots })
      const { light } = await decodeCover(input.bytes, { width: 1024, height: 1024 })
      const off = first.spots.map((byte, i) => {
        const spot = Math.floor(i / 3)
        const [x, y] = [64 + 128 * (spot % 8), 64 + 128 * Math.floor(spot / 8)]
        return Math.abs(byte - toScreen(light[(y * 1024 + x) * 3 + (i % 3)]!))
      })
      expect(off.reduce((sum, value) => sum + value, 0) / off.length).toBeLessThan(3)
    },
    PATIENCE_MS,
  )
})

/** What runs in the page, as text: the project has no types of the DOM outside the Lab. */
const LOAD = `(async () => {
  const video = document.querySelector('video')
  const blob = await (await fetch('/film.mp4')).blob()
  await new Promise(resolve => {
    video.oncanplaythrough = video.onerror = resolve
    video.src = URL.createObjectURL(blob)
  })
  const { readyState, videoWidth: width, videoHeight: height, duration, error } = video
  return { error: error && error.message, readyState, width, height, duration }
})()`
const PLAY = `(async () => {
  const video = document.querySelector('video')
  await video.play()
  await new Promise((resolve, reject) => {
    video.onerror = () => reject(new Error(video.error.message))
    video.ontimeupdate = () => video.currentTime > 0.5 && resolve()
  })
  video.pause()
  return { time: video.currentTime, frames: video.getVideoPlaybackQuality().totalVideoFrames }
})()`
const lookAt = (seconds: number): string => `(async () => {
  const video = document.querySelector('video')
  await new Promise(resolve => {
    video.onseeked = video.onerror = resolve
    video.currentTime = ${seconds}
  })
  const canvas = document.createElement('canvas')
  canvas.width = canvas.height = 1024
  const context = canvas.getContext('2d')
  context.drawImage(video, 0, 0)
  const spots = []
  for (let y = 64; y < 1024; y += 128) {
    for (let x = 64; x < 1024; x += 128) spots.push(...context.getImageData(x, y, 1, 1).data.slice(0, 3))
  }
  return { time: video.currentTime, error: video.error && video.error.message, spots }
})()`
