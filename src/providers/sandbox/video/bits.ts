/**
 * A bit string under construction, and its packing into an H.264 NAL unit.
 *
 * 1. Bits are written most significant first.
 * 2. `ue` and `se` are the Exp-Golomb codes of ITU-T H.264, section 9.1.
 */
export class BitWriter {
  private bytes: Uint8Array
  private length = 0
  private pending = 0
  private count = 0

  constructor(capacity = 1024) {
    this.bytes = new Uint8Array(capacity)
  }

  /** The lowest `width` bits of `value`; at most 24 at once. */
  bits(value: number, width: number): void {
    this.pending = (this.pending << width) | value
    this.count += width
    while (this.count >= 8) {
      this.count -= 8
      if (this.length === this.bytes.length) this.grow()
      this.bytes[this.length++] = this.pending >>> this.count
    }
    this.pending &= (1 << this.count) - 1
  }

  flag(value: boolean): void {
    this.bits(value ? 1 : 0, 1)
  }

  /** A number from 0 up; small numbers are short. */
  ue(value: number): void {
    const width = 32 - Math.clz32(value + 1)
    if (width > 1) this.bits(0, width - 1)
    this.bits(value + 1, width)
  }

  /** A number of either sign; those near 0 are short. */
  se(value: number): void {
    this.ue(value > 0 ? 2 * value - 1 : -2 * value)
  }

  /** Ends the string with a 1 and fills the last byte with zeros. */
  end(): Uint8Array {
    this.bits(1, 1)
    if (this.count > 0) this.bits(0, 8 - this.count)
    return this.bytes.subarray(0, this.length)
  }

  private grow(): void {
    const more = new Uint8Array(this.bytes.length * 2)
    more.set(this.bytes)
    this.bytes = more
  }
}

/** Puts the header byte before a payload, and a 3 after every two zeros that a small byte follows: no start code may appear inside. */
export function nalUnit(header: number, payload: Uint8Array): Uint8Array {
  const unit = new Uint8Array(1 + payload.length + Math.ceil(payload.length / 2))
  unit[0] = header
  let length = 1
  let zeros = 0
  for (const byte of payload) {
    if (zeros === 2 && byte <= 3) {
      unit[length++] = 3
      zeros = 0
    }
    unit[length++] = byte
    zeros = byte === 0 ? zeros + 1 : 0
  }
  return unit.slice(0, length)
}
