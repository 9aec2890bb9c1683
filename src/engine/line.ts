/**
 * A line in the order of its turns, not of joining: who comes back to it with an old turn is not put at the end. A heap, so
 * that joining and leaving it cost little, however long it is and whoever leaves.
 */
export class Line<T extends { no: number }> {
  readonly #heap: T[] = []
  readonly #places = new Map<T, number>()

  get size(): number {
    return this.#heap.length
  }

  get first(): T | undefined {
    return this.#heap[0]
  }

  add(each: T): void {
    this.#rise(each, this.#heap.length)
  }

  delete(each: T): void {
    const i = this.#places.get(each)
    if (i === undefined) return
    this.#places.delete(each)
    const last = this.#heap.pop() as T
    if (last !== each) this.#rise(last, this.#sink(last, i))
  }

  /** All of it in order; it must not change meanwhile. */
  *[Symbol.iterator](): Generator<T> {
    const next = new Line<T>()
    if (this.first) next.add(this.first)
    for (let each = next.first; each; each = next.first) {
      yield each
      next.delete(each)
      const i = this.#places.get(each) as number
      for (const child of this.#heap.slice(2 * i + 1, 2 * i + 3)) next.add(child)
    }
  }

  /** Puts it at `i`, or before those above that come after it. */
  #rise(each: T, i: number): void {
    const above = (i - 1) >> 1
    const parent = this.#heap[above]
    if (i === 0 || parent === undefined || parent.no <= each.no) {
      this.#put(each, i)
      return
    }
    this.#put(parent, i)
    this.#rise(each, above)
  }

  /** Lets those below `i` that come before it move up; gives what is left for it. */
  #sink(each: T, i: number): number {
    const [left, right] = this.#heap.slice(2 * i + 1, 2 * i + 3)
    const child = left && right && right.no < left.no ? right : left
    if (child === undefined || each.no <= child.no) return i
    const below = this.#places.get(child) as number
    this.#put(child, i)
    return this.#sink(each, below)
  }

  #put(each: T, i: number): void {
    this.#heap[i] = each
    this.#places.set(each, i)
  }
}
