/**
 * Room in memory for the input pictures of submits, whatever the callers send.
 *
 * 1. Room is taken before a byte is held, and given back when its submit has ended. What is known to come is taken at once,
 *    for all pictures of a step; what comes from a link is taken as it arrives.
 * 2. The key that holds least is served first, and of one key who came first: a large step is not overtaken for ever by
 *    small ones, and a key that fills the room waits for itself. Who needs no room waits for nobody.
 * 3. Nobody asks for more than there is, and everybody says before the most that it will take. Nothing is given that could
 *    leave all of them waiting for one another (the banker's algorithm): so someone always goes on, and a read has a limit.
 * 4. Pictures behind links have a room of their own, in which a host that dribbles holds what it has sent and a little more.
 */

/** Room that was taken. */
export interface Place {
  /** True once there is room for so many bytes, within the most that was said; false when `quit` is aborted before. */
  grow(bytes: number, quit: AbortSignal): Promise<boolean>
  /** Takes no more from now on, and gives back all but so many bytes, which were never filled. */
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
/** What a link takes at first and at a time: some seventy links are read side by side, and a large one asks sixty times. */
const STEP_BYTES = 512 << 10
/**
 * Bytes of large pictures that are let go before memory is collected: left to itself, the collector let dozens of such submits
 * pass. It stops everything for some milliseconds, so pictures of usual size are left to the collector.
 */
const LITTER_BYTES = 32 << 20
const LARGE_BYTES = 4 << 20

/** `bytes`: the most that it takes. `known`: what it takes for sure. `linked`: some of the pictures are behind links. */
export interface Need {
  key: string
  bytes: number
  known: number
  linked: boolean
}

export class PictureRoom {
  readonly #stored = new Room(bytes => this.#drop(bytes))
  readonly #linked = new Room(bytes => this.#drop(bytes))
  readonly #collect: () => void
  #litter = 0

  /** `collect` gives memory back that nobody holds any more. */
  constructor(collect: () => void) {
    this.#collect = collect
  }

  /** Room that is there now and that nobody waits for; else null. */
  enterNow(need: Need): Place | null {
    return this.#of(need).enterNow(need)
  }

  /** Waits for room. Null when `quit` is aborted before, or nothing may begin any more. */
  enter(need: Need, quit: AbortSignal): Promise<Place | null> {
    return this.#of(need).enter(need, quit)
  }

  /** Lets nobody in any more. Who is in gets what it was promised. */
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
    setImmediate(this.#collect)
  }
}

/** What one submit holds, and the most that it may. */
interface Share {
  key: string
  held: number
  most: number
}

/** A wish to hold so many bytes. */
interface Waiting {
  share: Share
  bytes: number
  give(isGiven: boolean): void
}

class Room {
  readonly #drop: (bytes: number) => void
  #free = ROOM_BYTES
  #shares = new Set<Share>()
  #line: Waiting[] = []
  #isShut = false

  constructor(drop: (bytes: number) => void) {
    this.#drop = drop
  }

  enterNow(need: Need): Place | null {
    const share = shareOf(need)
    const bytes = firstOf(need)
    if (bytes === 0) return this.#place(share)
    if (this.#isShut || this.#line.length > 0 || !this.#isSafe(share, bytes)) return null
    this.#give(share, bytes)
    return this.#place(share)
  }

  async enter(need: Need, quit: AbortSignal): Promise<Place | null> {
    const share = shareOf(need)
    const bytes = firstOf(need)
    if (bytes === 0) return this.#place(share)
    if (need.bytes > ROOM_BYTES) throw new Error(`no room for ${need.bytes} bytes, ever`)
    if (this.#isShut) return null
    return (await this.#wait(share, bytes, quit)) ? this.#place(share) : null
  }

  shut(): void {
    this.#isShut = true
    const [inside, outside] = [true, false].map(isIn =>
      this.#line.filter(({ share }) => this.#shares.has(share) === isIn),
    )
    this.#line = inside ?? []
    for (const { give } of outside ?? []) give(false)
  }

  #wait(share: Share, bytes: number, quit: AbortSignal): Promise<boolean> {
    if (quit.aborted) return Promise.resolve(false)
    const { promise, resolve } = Promise.withResolvers<boolean>()
    const waiting: Waiting = { share, bytes, give: resolve }
    const leave = (): void => {
      this.#line = this.#line.filter(each => each !== waiting)
      resolve(false)
      this.#serve()
    }
    this.#line.push(waiting)
    quit.addEventListener('abort', leave, { once: true })
    this.#serve()
    return promise.finally(() => quit.removeEventListener('abort', leave))
  }

  #serve(): void {
    for (let next = this.#next(); next; next = this.#next()) {
      const { share, bytes, give } = next
      this.#line = this.#line.filter(each => each !== next)
      this.#give(share, bytes)
      give(true)
    }
  }

  /** Who is served next. Nobody gets in past one that is passed over; who is in may, for only that frees room. */
  #next(): Waiting | null {
    if (this.#line.length === 0) return null
    const held = new Map<string, number>()
    for (const share of this.#shares) held.set(share.key, (held.get(share.key) ?? 0) + share.held)
    const heldBy = ({ share }: Waiting): number => held.get(share.key) ?? 0
    const isOutside = ({ share }: Waiting): number => (this.#shares.has(share) ? 0 : 1)
    let isPassedOver = false
    for (const each of this.#line.toSorted((a, b) => heldBy(a) - heldBy(b) || isOutside(a) - isOutside(b))) {
      if (isPassedOver && isOutside(each)) continue
      if (this.#isSafe(each.share, each.bytes)) return each
      isPassedOver = true
    }
    return null
  }

  /** Whether all can still take their most, one after the other, if this share holds so many bytes. */
  #isSafe(share: Share, bytes: number): boolean {
    let free = this.#free - (bytes - share.held)
    const all = [...this.#shares].filter(each => each !== share).concat({ ...share, held: bytes })
    const missing = ({ most, held }: Share): number => most - held
    for (const each of all.sort((a, b) => missing(a) - missing(b))) {
      if (missing(each) > free) return false
      free += each.held
    }
    return true
  }

  #give(share: Share, bytes: number): void {
    this.#shares.add(share)
    this.#free -= bytes - share.held
    share.held = bytes
  }

  #place(share: Share): Place {
    const keep = (left: number): void => {
      share.most = Math.min(share.most, left)
      if (left < share.held) this.#give(share, left)
      this.#serve()
    }
    return {
      grow: (bytes, quit) => {
        if (bytes <= share.held) return Promise.resolve(true)
        if (bytes > share.most) return Promise.resolve(false)
        return this.#wait(share, Math.min(share.most, Math.max(bytes, share.held + STEP_BYTES)), quit)
      },
      keep,
      drop: this.#drop,
      leave: () => {
        this.#drop(share.held)
        keep(0)
        this.#shares.delete(share)
      },
    }
  }
}

function shareOf({ key, bytes }: Need): Share {
  return { key, held: 0, most: bytes }
}

/** What is taken at once. */
function firstOf({ bytes, known }: Need): number {
  return Math.min(bytes, known < bytes ? known + STEP_BYTES : bytes)
}
