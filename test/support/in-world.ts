import { expect } from 'bun:test'
import { World, type WorldOptions } from './world.ts'

/** A world that is started, played in and closed, in which nothing of ours may break. */
export async function inWorld(options: WorldOptions, play: (world: World) => Promise<void>): Promise<void> {
  const world = new World(options)
  try {
    await world.start()
    await play(world)
    expect(world.faults).toEqual([])
  } finally {
    await world.close()
  }
}
