/** The end of a server that listens: what is being answered is waited for, what callers have not sent only for a moment. */

/** How often it looks whether the last answer is out. */
const LOOK_MS = 50

/**
 * Takes nothing new, and waits for what is being answered, a download too. Connections on which nobody has asked anything, or only
 * half of it, are waited for as long as callers get; Bun itself would wait until they time out.
 * Who gives up earlier stops the server by force, which ends this, too.
 */
export async function allAnswered(
  server: ReturnType<typeof Bun.serve>,
  closing: AbortController,
  callersMs: number,
): Promise<void> {
  const lastCall = async (): Promise<void> => {
    await Bun.sleep(callersMs)
    closing.abort(new Error('stopping'))
    while (server.pendingRequests > 0) await Bun.sleep(LOOK_MS)
  }
  await Promise.race([server.stop(), lastCall()])
}
