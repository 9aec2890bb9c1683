/** Counts the transactions of databases that are opened after it: COMMITs that succeeded. */
import { Database } from 'bun:sqlite'

export interface CommitCounter {
  count: number
  restore(): void
}

export function countCommits(): CommitCounter {
  const { prepare } = Database.prototype
  const counter: CommitCounter = {
    count: 0,
    restore() {
      Database.prototype.prepare = prepare
    },
  }
  Database.prototype.prepare = function (this: Database, ...args: Parameters<typeof prepare>) {
    const statement = prepare.apply(this, args)
    if (args[0] !== 'COMMIT') return statement
    const { run } = statement
    statement.run = (...values) => {
      const changes = run.apply(statement, values)
      counter.count += 1
      return changes
    }
    return statement
  } as typeof prepare
  return counter
}
