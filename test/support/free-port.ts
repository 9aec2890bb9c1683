/** A port that was free a moment ago. */
export function freePort(hostname = '127.0.0.1'): number {
  const socket = Bun.listen({ hostname, port: 0, socket: { data() {} } })
  socket.stop(true)
  return socket.port
}
