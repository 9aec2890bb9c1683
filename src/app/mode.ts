/** What becomes of the open runs of the other mode: a start that only lost its keys must not end those that are to be paid. */
import type { Logger } from 'pino'
import type { Config } from '../config.ts'
import type { Mode } from '../core/run.ts'

/** No provider key is set any more, and runs wait for one. */
class KeysMissing extends Error {
  override name = 'KeysMissing'
}

/** @throws KeysMissing when the mode is `sandbox` for want of a key alone, while runs of mode `byok` are open */
export function lookAtMode(
  { mode, isModeNamed }: Pick<Config, 'mode' | 'isModeNamed'>,
  openRunsOf: (mode: Mode) => number,
  log: Pick<Logger, 'warn'>,
): void {
  const other: Mode = mode === 'sandbox' ? 'byok' : 'sandbox'
  const runs = openRunsOf(other)
  if (runs === 0) return
  if (other === 'byok' && !isModeNamed) throw new KeysMissing(sentence(runs))
  log.warn({ runs, mode }, `open runs of mode ${other} cannot go on here: their steps end with no_route`)
}

function sentence(runs: number): string {
  return (
    `${runs} ${runs === 1 ? 'run' : 'runs'} of mode byok ${runs === 1 ? 'is' : 'are'} under way, but no provider key is set, so that the mode ` +
    'would be sandbox. Set the keys again, such as BFL_API_KEY. Or set BABYCHAIN_MODE=sandbox to let these runs end: no further step of ' +
    'them is paid, and the finished ones are kept for a resume with the keys.'
  )
}
