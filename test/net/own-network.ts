// Run by own-network.test.ts in a network of its own, with a hosts file and a resolv.conf of its own: what becomes of
// requests when there is no network, and when it comes while the server runs. Prints what it saw.

import { writeFileSync } from 'node:fs'
import { networkInterfaces } from 'node:os'
import { parseAllow } from '../../src/net/egress/allow.ts'
import { createEgress } from '../../src/net/egress.ts'
import { startNameServer } from './name-servers.ts'

export type Seen = {
  readonly cutOff: Readonly<Record<string, string>>
  readonly connected: Readonly<Record<string, string>>
  /** What ended while silent names hung, in this order, and then the silent names. */
  readonly order: readonly string[]
}

// It writes the files of the system, which are its own only there.
if (Object.keys(networkInterfaces()).some(name => name !== 'lo')) throw new Error('not in a network of its own')

const receiver = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: () => new Response('ok') })
const { port } = receiver
const gone = Bun.serve({ hostname: '127.0.0.1', port: 0, fetch: () => new Response('ok') })
const closed = gone.port
await gone.stop(true)
const parsed = parseAllow(
  `localhost:${port} localhost:${closed} vault.test:${port} late.test:${port} late:${port} box.local:${port} 10.0.0.5:${port}`,
)
if (!parsed.ok) throw new Error(parsed.problem)
const egress = createEgress({ allow: parsed.entries })

async function post(url: string): Promise<string> {
  const result = await egress.post(url, { headers: {}, body: new Uint8Array(1) })
  return result.type === 'answered' ? String(result.status) : result.errorClass
}

// TEST-NET-1: an address that leads nowhere, and to which this network has no way.
writeFileSync('/etc/resolv.conf', 'nameserver 192.0.2.53\n')
writeFileSync('/etc/hosts', '127.0.0.1 localhost\n127.0.0.1 vault.test\n')
const cutOff = {
  'a public name': await post('https://hooks.example.com/'),
  'an address outside': await post(`http://10.0.0.5:${port}/`),
  'a name of the hosts file': await post(`http://vault.test:${port}/`),
  'this machine': await post(`http://localhost:${port}/`),
  'a closed port of this machine': await post(`http://localhost:${closed}/`),
}

const names = await startNameServer(name => {
  if (name.startsWith('silent')) return 'silence'
  return ['late.test', 'late.corp.test', 'box.local'].includes(name) ? ['127.0.0.1'] : 'no such name'
}, 53)
writeFileSync('/etc/resolv.conf', 'nameserver 127.0.0.1\nsearch corp.test\n')
const connected = {
  'a name': await post(`http://late.test:${port}/`),
  'a short name': await post(`http://late:${port}/`),
  'a name that the operator gave under .local': await post(`http://box.local:${port}/`),
  'no such name': await post('https://hooks.example.com/'),
}

const order: string[] = []
const before = names.asked.length
const hanging = Array.from({ length: 20 }, async (_, i) => {
  order.push(await post(`https://silent-${i}.example.com/`))
})
await names.heard(before + 1)
await Promise.all([
  Bun.file('/etc/hosts')
    .text()
    .then(() => order.push('file')),
  post(`http://late.test:${port}/`).then(status => order.push(status)),
])
order.push('next')
await Promise.all(hanging)

const seen: Seen = { cutOff, connected, order }
console.log(JSON.stringify(seen))
process.exit()
