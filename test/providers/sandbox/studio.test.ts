import { afterEach, describe, expect, test } from 'bun:test'
import { InputPictureError } from '../../../src/providers/sandbox/canvas.ts'
import { film } from '../../../src/providers/sandbox/film.ts'
import { type PaintOrder, paint, transform } from '../../../src/providers/sandbox/paint.ts'
import { openStudio, type Studio, StudioError } from '../../../src/providers/sandbox/studio.ts'

const ORDER: PaintOrder = { prompt: 'a red fox', seed: 1, width: 96, height: 64, format: 'png' }
const FILM = { prompt: 'pan', seed: 1, width: 96, height: 64, seconds: 1, fps: 24 }

describe('the studio', () => {
  const open: Studio[] = []
  const studio = (idleMs?: number): Studio => {
    const own = openStudio(idleMs === undefined ? {} : { idleMs })
    open.push(own)
    return own
  }
  afterEach(() => {
    for (const own of open.splice(0)) own.close()
  })

  test('makes the same media as the functions that it runs elsewhere', async () => {
    const { bytes } = await paint(ORDER)
    const own = studio()
    expect(await own.paint(ORDER)).toEqual(await paint(ORDER))
    expect(await own.transform(ORDER, bytes)).toEqual(await transform(ORDER, bytes))
    expect(await own.film(FILM, bytes)).toEqual(await film(FILM, bytes))
    expect(await own.film(FILM, null)).toEqual(await film(FILM, null))
    expect(bytes.length).toBeGreaterThan(0)
  })

  test('serves orders one after the other, in the order in which they came', async () => {
    const own = studio()
    const done: string[] = []
    await Promise.all([
      own.film({ ...FILM, seconds: 3 }, null).then(() => done.push('film')),
      own.paint(ORDER).then(() => done.push('picture')),
      own.paint({ ...ORDER, width: 64 }).then(() => done.push('small picture')),
    ])
    expect(done).toEqual(['film', 'picture', 'small picture'])
  })

  test('leaves the main thread free while it films', async () => {
    const own = studio()
    await own.paint(ORDER)
    let turns = 0
    let busy = true
    const turn = (): void => {
      turns++
      if (busy) setImmediate(turn)
    }
    turn()
    await own.film({ ...FILM, width: 320, height: 240, seconds: 2 }, null)
    busy = false
    expect(turns).toBeGreaterThan(20)
  })

  test('hands errors back as what they were, and goes on', async () => {
    const own = studio()
    const refused = await own.transform(ORDER, new Uint8Array(9)).catch(caught => caught)
    expect(refused).toBeInstanceOf(InputPictureError)
    expect(refused).toMatchObject({ name: 'InputPictureError', code: 'undecodable' })
    expect(await own.paint({ ...ORDER, width: 1 }).catch(caught => caught)).toBeInstanceOf(RangeError)
    expect(await own.film({ ...FILM, fps: 0 }, null).catch(caught => caught)).toBeInstanceOf(RangeError)
    expect(await own.paint(ORDER)).toMatchObject({ mime: 'image/png' })
  })

  test('starts its worker again after a rest', async () => {
    const own = studio(0)
    const first = await own.paint(ORDER)
    // The rest is a timer of 0 ms that was set before this one.
    await new Promise(resolve => setTimeout(resolve, 0))
    expect(await own.paint(ORDER)).toEqual(first)
  })

  test('rejects what waits and what runs when it closes, and what comes later', async () => {
    const own = studio()
    const orders = [own.film(FILM, null), own.paint(ORDER)]
    own.close()
    for (const order of [...orders, own.paint(ORDER)]) {
      expect(await order.catch(caught => caught)).toBeInstanceOf(StudioError)
    }
    own.close()
  })

  test('refuses orders beyond the length of its queue', async () => {
    const own = studio()
    const orders = Array.from({ length: 502 }, () => own.paint(ORDER).catch((error: unknown) => error))
    const last = await orders[501]
    expect(last).toBeInstanceOf(StudioError)
    own.close()
    await Promise.all(orders)
  })
})
