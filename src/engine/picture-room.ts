/**
 * Room in memory for the input pictures of submits, whatever the callers send.
 *
 * 1. Room is taken before a byte is read, for all pictures of a step at once, and given back when its submit has ended.
 * 2. First come, first served: a large step is not overtaken for ever by small ones. Who needs no room waits for nobody.
 * 3. Nobody asks for more than there is, and nobody who has room asks for more: so the first in line gets its room when
 *    those before it end, and a submit has a time limit.
 * 4. Pictures behind links have a room of their own: a host that dribbles holds up links, not what lies in our storage.
 */

/** Room that was taken. */
export interface Place {
  /** Gives back all but so many bytes, which were never filled. */
  keep(bytes: number): void
  /** So many bytes were read, and are needed no longer in this form. */
  drop(bytes: number): void
  /** Gives everything back. */
  leave(): void
}

/**
 * Bytes of pictures in each of the two rooms. A byte costs some bytes of memory on its way: read, in base64, in the body, in the
 * copy that is sent. Both rooms full are well below the gigabyte of a small machine.
 */
const ROOM_BYTES = 64 << 20
/**
 * Bytes of large pictures that are let go before memory is collected: left to itself, the collector let dozens of such submits
 * pass. It stops everything for some milliseconds, so pictures of usual size are left to the collector.
 */
const LITTER_BYTES = 32 << 20
const LARGE_BYTES = 4 << 20

interface Waiting {
  bytes: number
  give(place: Place | null): void
}

/** `linked`: some of the pictures are behind links. */
interface Need {
  bytes: number
  linked: boolean
}

export class PictureRoom {
  readonly #stored = new Room(bytes => this.#drop(bytes))
  readonly #linked = new Room(bytes => this.#drop(bytes))
  #litter = 0

  /** Room that is there now and that nobody waits for; else null. */
  enterNow(need: Need): Place | null {
    return this.#of(need).enterNow(need.bytes)
  }

  /** Waits for room. Null when `quit` is aborted before, or nothing may begin any more. */
  enter(need: Need, quit: AbortSignal): Promise<Place | null> {
    return this.#of(need).enter(need.bytes, quit)
  }

  /** Lets nobody in any more. */
  shut(): void {
    this.#stored.shut()
    this.#linked.shut()
  }

  #of({ linked }: Need): Room {
    return linked ? this.#linked : this.#stored
  }

  #drop(bytes: number): void {
    if (bytes < LARGE_BYTES) return
    this.#litter += bytes
    if (this.#litter < LITTER_BYTES) return
    this.#litter = 0
    // When whoever let them go has returned, and nothing holds them any more.
    setImmediate(() => Bun.gc(true))
  }
}

class Room {
  readonly #drop: (bytes: number) => void
  #free = ROOM_BYTES
  #line: Waiting[] = []
  #isShut = false

  constructor(drop: (bytes: number) => void) {
    this.#drop = drop
  }

  enterNow(bytes: number): Place | null {
    if (bytes === 0) return this.#place(0)
    return this.#isShut || this.#line.length > 0 || bytes > this.#free ? null : this.#place(bytes)
  }

  async enter(bytes: number, quit: AbortSignal): Promise<Place | null> {
    if (bytes === 0) return this.#place(0)
    if (bytes > ROOM_BYTES) throw new Error(`no room for ${bytes} bytes, ever`)
    if (this.#isShut || quit.aborted) return null
    const { promise, resolve } = Promise.withResolvers<Place | null>()
    const waiting: Waiting = { bytes, give: resolve }
    const leave = (): void => {
      this.#line = this.#line.filter(each => each !== waiting)
      resolve(null)
      this.#serve()
    }
    this.#line.push(waiting)
    quit.addEventListener('abort', leave, { once: true })
    this.#serve()
    return promise.finally(() => quit.removeEventListener('abort', leave))
  }

  shut(): void {
    this.#isShut = true
    for (const { give } of this.#line.splice(0)) give(null)
  }

  #serve(): void {
    for (let first = this.#line[0]; first && first.bytes <= this.#free; first = this.#line[0]) {
      this.#line.shift()
      first.give(this.#place(first.bytes))
    }
  }

  #place(bytes: number): Place {
    let held = bytes
    this.#free -= held
    const keep = (left: number): void => {
      if (left >= held) return
      this.#free += held - left
      held = left
      this.#serve()
    }
    return {
      keep,
      drop: this.#drop,
      leave: () => {
        this.#drop(held)
        keep(0)
      },
    }
  }
}
