/** Where the server of this machine listens, for the commands that ask it. */
import type { Config } from '../config.ts'

/** Its origin; what listens on every address is asked on loopback. */
export function serverOf({ host, port }: Pick<Config, 'host' | 'port'>): string {
  const name = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host
  return `http://${name.includes(':') ? `[${name}]` : name}:${port}`
}
