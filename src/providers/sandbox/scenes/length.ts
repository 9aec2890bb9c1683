/** Lengths of vectors. Math.hypot guards against overflow, which would cost a painter most of the time. */

export function length(x: number, y: number): number {
  return Math.sqrt(x * x + y * y)
}

export function length3(x: number, y: number, z: number): number {
  return Math.sqrt(x * x + y * y + z * z)
}
