// Whether this machine has a way to an address at all, asked when a connection was refused.
//
// Bun says ECONNREFUSED of a network that cannot be reached, as of a receiver that refuses. The first is an outage of ours,
// which must not count against the receiver.

import dgram from 'node:dgram'
import { EgressError } from './failure.ts'

type Target = { readonly address: string; readonly family: number }

/**
 * The exchange, but a refusal without a way to any target is `egress_down`. As with an error that names the network, only if
 * an IPv4 address was among them: a host that has IPv6 alone cannot be reached from a machine without it.
 */
export async function unlessCutOff<T>(exchange: Promise<T>, targets: readonly Target[]): Promise<T> {
  try {
    return await exchange
  } catch (error) {
    if (!(error instanceof EgressError) || error.errorClass !== 'connect_refused') throw error
    if (!targets.some(({ family }) => family === 4)) throw error
    const ways = await Promise.all(targets.map(hasRoute))
    throw ways.includes(true) ? error : new EgressError('egress_down', `no route: ${error.detail}`)
  }
}

// Connecting a UDP socket sends nothing: the kernel only looks for a route. The port means nothing.
function hasRoute({ address, family }: Target): Promise<boolean> {
  return new Promise(resolve => {
    const socket = dgram.createSocket(family === 6 ? 'udp6' : 'udp4')
    socket.on('error', () => resolve(false))
    // A failure is this callback's argument, which the types of node leave out, and not an event.
    socket.connect(9, address, (error?: unknown) => {
      resolve(error === undefined || error === null)
      socket.close()
    })
  })
}
