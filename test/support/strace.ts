/**
 * A disk that fails, dawdles, or takes the process with it, for a server that runs: `strace` attaches to the process,
 * changes what the kernel answers, and lets go again. Nothing in the server knows of it.
 *
 * 1. A fault is in force when `attach` resolves, and out of force when `detach` resolves.
 * 2. Faults hit only the files that are named, and count their calls from the moment of attaching.
 * 3. SIGKILL comes in place of the call: what the n-th call would have done was not done.
 */
import { readFileSync } from 'node:fs'

export interface Fault {
  /** Files whose calls are meant; by default all calls. */
  paths?: readonly string[]
  /** As strace names them: `fsync`, `pwrite64`, `connect`. */
  calls: readonly string[]
  /** `signal=KILL`, `error=EIO`, `delay_enter=100000` (µs); null only watches. */
  inject: string | null
  /** The calls that are hit, as strace counts them: `3`, `3+`, `1+2`. By default all. */
  when?: string
  /** Where strace writes the calls that it saw. */
  log?: string
}

const TAKES_MS = 10_000

/** Why faults cannot be injected here, in a sentence; null when they can. */
export function whyNoStrace(): string | null {
  return Bun.which('strace') === null ? 'strace is not installed (apt-get install strace)' : null
}

export class Strace {
  readonly #child: Bun.Subprocess<'ignore', 'ignore', 'pipe'>
  readonly #log: string | null

  private constructor(child: Bun.Subprocess<'ignore', 'ignore', 'pipe'>, log: string | null) {
    this.#child = child
    this.#log = log
  }

  /** Throws with a sentence when strace is not there or may not look at other processes. */
  static async attach(pid: number, { paths = [], calls, inject, when, log }: Fault): Promise<Strace> {
    const missing = whyNoStrace()
    if (missing) throw new Error(missing)
    const injected = inject === null ? [] : ['-e', `inject=${calls.join(',')}:${inject}${when ? `:when=${when}` : ''}`]
    const only = paths.flatMap(path => ['-P', path])
    const traced = ['-e', `trace=${calls.join(',')}`, ...injected, '-o', log ?? '/dev/null']
    const child = Bun.spawn(['strace', '-f', ...only, ...traced, '-p', String(pid)], {
      stdin: 'ignore',
      stdout: 'ignore',
      stderr: 'pipe',
    })
    await attached(child)
    return new Strace(child, log ?? null)
  }

  /** Lets go; the process runs on as if nothing had been. Gives the calls that were seen, if they were to be kept. */
  async detach(): Promise<string[]> {
    this.#child.kill('SIGTERM')
    await this.#child.exited
    return this.#log === null ? [] : readFileSync(this.#log, 'utf8').split('\n').filter(Boolean)
  }
}

/** Waits for strace's own word that it holds the process, and reads on so that it can always speak. */
async function attached(child: Bun.Subprocess<'ignore', 'ignore', 'pipe'>): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>()
  const late = setTimeout(() => child.kill('SIGKILL'), TAKES_MS)
  const listen = async (): Promise<void> => {
    let said = ''
    for await (const chunk of child.stderr.pipeThrough(new TextDecoderStream())) {
      said += chunk
      if (/ attached( |\n)/.test(said)) resolve()
    }
    const help = 'ptrace must be allowed: a container needs --cap-add=SYS_PTRACE, its host kernel.yama.ptrace_scope=0'
    reject(new Error(`strace did not attach to the process${/not permitted/.test(said) ? ` (${help})` : ''}: ${said}`))
  }
  listen().catch(reject)
  return promise.finally(() => clearTimeout(late))
}
