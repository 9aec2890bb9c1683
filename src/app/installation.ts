/** Whether a server has ever been started here: commands that look at an installation, or change it, make none. */
import { resolve } from 'node:path'
import type { Config } from '../config.ts'
import { isMade } from '../store/sqlite/database.ts'

/** @throws an error whose message is a sentence for the operator, such as DatabaseGone, where one was and is lost */
export function isInstalled({ dataDir }: Pick<Config, 'dataDir'>): boolean {
  return isMade(resolve(dataDir))
}
